//! Lines that programs log as JSON (pure).
//!
//! Members are read as they came, one object at a time: nothing is built of what is nested, and a number of any
//! length stays what it is.

use bytes::Bytes;
use model::{LogLine, Severity};
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::gathered::Gathered;
use super::lines::Lines;
use super::times;
use crate::lanes::LINE_LIMIT;

// The last is what Docker sends to Splunk.
const MESSAGE: [&str; 5] = ["message", "msg", "log", "text", "line"];
const SEVERITY: [&str; 3] = ["severity", "level", "lvl"];
const TIME: [&str; 4] = ["time", "timestamp", "@timestamp", "date"];

/// An object's members in their order, each value as it came.
#[derive(Debug, Default)]
pub(super) struct Members<'a>(pub(super) Vec<(String, &'a RawValue)>);

/// A value is not a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoLine {
    /// It is nothing at all.
    #[error("it is not JSON: {0}")]
    NotJson(String),
    /// It is something else.
    #[error("it is neither an object nor a string")]
    OtherKind,
    /// It is too long.
    #[error("it is longer than {LINE_LIMIT} bytes")]
    TooLong,
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl<'a> Members<'a> {
    /// The value of a member that is there and not null.
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        let found = self.0.iter().find(|(of, value)| of == name && value.get() != "null");
        found.map(|(_, value)| *value)
    }

    /// Takes the first of these members that is there, not null and can be read so.
    fn take<T>(&mut self, names: &[&str], read: impl Fn(&'a RawValue) -> Option<T>) -> Option<T> {
        names.iter().find_map(|name| {
            let at = self.0.iter().position(|(of, value)| of == name && value.get() != "null")?;
            let found = read(self.0.get(at)?.1)?;
            self.0.remove(at);
            Some(found)
        })
    }
}

/// The text of a scalar, or else the JSON of what it is.
pub(super) fn text_of(value: &RawValue) -> String {
    let json = value.get();
    if json.starts_with('"') {
        // It is a string, so it can be read as one; if it has half of a surrogate pair, as it came.
        return serde_json::from_str(json).unwrap_or_else(|_| json.to_owned());
    }
    json.to_owned()
}

/// A line out of an object or a string.
pub(super) fn line(value: &RawValue) -> Result<LogLine, NoLine> {
    let json = value.get();
    if json.len() > LINE_LIMIT {
        return Err(NoLine::TooLong);
    }
    let not_json = |error: serde_json::Error| NoLine::NotJson(error.to_string());
    match json.as_bytes().first() {
        Some(b'"') => {
            let text: String = serde_json::from_str(json).map_err(not_json)?;
            Ok(LogLine::plain(without_end(text)))
        }
        Some(b'{') => Ok(object(json, serde_json::from_str(json).map_err(not_json)?)),
        _ => Err(NoLine::OtherKind),
    }
}

fn object(json: &str, mut members: Members<'_>) -> LogLine {
    let severity = members.take(&SEVERITY, |value| {
        let is_scalar = !value.get().starts_with(['{', '[']);
        let value: Option<Value> = is_scalar.then(|| serde_json::from_str(value.get()).ok())?;
        Severity::of_json(&value?)
    });
    let at = members.take(&TIME, |value| times::parse(&text_of(value)));
    let message = members.take(&MESSAGE, |value| Some(without_end(text_of(value))));
    let is_whole = message.is_none();
    let mut gathered = Gathered::new(message.unwrap_or_else(|| json.to_owned()));
    gathered.severity(severity);
    gathered.at(at);
    for (name, value) in members.0 {
        let text = text_of(value);
        // The latter is Docker's name of it.
        if matches!(name.as_str(), "stream" | "source") && gathered.stream(&text) {
            continue;
        }
        // All of them are in the text where that is the whole object.
        if !is_whole && value.get() != "null" {
            gathered.field(&name, &text);
        }
    }
    gathered.finish()
}

/// Without the line's end that Docker and others leave in it.
fn without_end(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

/// Reads a line of JSON lines.
pub(super) fn read_line(json: &[u8]) -> Result<LogLine, NoLine> {
    let value = serde_json::from_slice::<&RawValue>(json);
    line(value.map_err(|error| NoLine::NotJson(error.to_string()))?)
}

/// Reads JSON lines: one value a line. Empty lines are none.
pub(super) fn read_lines(body: &[u8], lines: &mut Lines) {
    for (number, json) in (1..).zip(body.split(|&byte| byte == b'\n')) {
        if lines.is_full() {
            return;
        }
        if json.trim_ascii().is_empty() {
            continue;
        }
        match read_line(json) {
            Ok(line) => lines.push(line),
            Err(reason) => lines.refuse(number, &reason),
        }
    }
}

/// Calls a function with each element of an array, and its number from 1; an error if it is not one array.
pub(super) fn each_element<'a>(
    json: &'a [u8],
    each: &mut dyn FnMut(usize, &'a RawValue),
) -> Result<(), serde_json::Error> {
    struct Elements<'f, 'a>(&'f mut dyn FnMut(usize, &'a RawValue));
    impl<'a> DeserializeSeed<'a> for Elements<'_, 'a> {
        type Value = ();

        fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
            deserializer.deserialize_seq(self)
        }
    }
    impl<'a> Visitor<'a> for Elements<'_, 'a> {
        type Value = ();

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'a>>(self, mut elements: A) -> Result<(), A::Error> {
            let mut number = 0;
            while let Some(element) = elements.next_element()? {
                number += 1;
                (self.0)(number, element);
            }
            Ok(())
        }
    }
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    Elements(each).deserialize(&mut deserializer)?;
    deserializer.end()
}

/// Reads an array of objects and strings, one object, or JSON lines; an error if it is none of them.
pub(super) fn read_any(body: &Bytes, lines: &mut Lines) -> Result<(), serde_json::Error> {
    let trimmed = body.trim_ascii();
    if trimmed.starts_with(b"[") {
        return each_element(trimmed, &mut |number, value| {
            if lines.is_full() {
                return;
            }
            match line(value) {
                Ok(line) => lines.push(line),
                Err(reason) => lines.refuse(number, &reason),
            }
        });
    }
    // One that is written over several lines.
    if let Ok(value) = serde_json::from_slice::<&RawValue>(trimmed) {
        match line(value) {
            Ok(line) => lines.push(line),
            Err(reason) => lines.refuse(1, &reason),
        }
    } else {
        read_lines(body, lines);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
