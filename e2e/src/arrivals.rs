//! What an endpoint has received of sessions, whichever format it came in.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// One delivered line.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Its fields, by the names that all formats share.
    pub fields: BTreeMap<String, String>,
    /// What it says; what is not UTF-8 is replaced.
    pub message: String,
    /// As it was sent.
    pub raw: String,
}

impl Arrival {
    /// Reads a message of RFC 5424, sections 6.3 and 6.4: the message is all that follows the
    /// structured data and a space, blanks at its end included.
    #[must_use]
    pub fn from_syslog(raw: &str) -> Self {
        let (header, rest) = raw.split_once('[').unwrap_or((raw, ""));
        let mut fields = BTreeMap::new();
        let mut rest = rest.split_once(' ').map_or("", |(_element, parameters)| parameters);
        while let Some((name, value)) = rest.split_once("=\"") {
            let Some((value, after)) = until_quote(value) else { break };
            fields.insert(name.to_owned(), value);
            rest = after.strip_prefix(' ').unwrap_or(after);
            if let Some(message) = after.strip_prefix("] ") {
                return Self { fields, message: message.to_owned(), raw: raw.to_owned() };
            }
        }
        Self { fields, message: header.to_owned(), raw: raw.to_owned() }
    }

    /// Reads a JSON object.
    pub fn from_json(value: &Value) -> Result<Self> {
        let object = value.as_object().context("the line is no JSON object")?;
        let mut fields: BTreeMap<_, _> = object
            .iter()
            .map(|(name, value)| {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                (name.clone(), text)
            })
            .collect();
        let message = fields.remove("message").unwrap_or_default();
        Ok(Self { fields, message, raw: value.to_string() })
    }

    /// A field; empty if it is not there.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// Whether it is a piece of what a session showed.
    #[must_use]
    pub fn is_output(&self) -> bool {
        self.field("event") == "output"
    }

    fn number(&self, name: &str) -> u64 {
        self.field(name).parse().unwrap_or(0)
    }
}

/// Each line once, in the order of each session: delivery is at least once, and what came twice
/// has one id.
#[must_use]
pub fn in_order(mut arrivals: Vec<Arrival>) -> Vec<Arrival> {
    let mut seen = HashSet::new();
    arrivals.retain(|arrival| seen.insert(arrival.field("id").to_owned()));
    arrivals.sort_by_key(|arrival| {
        let session = arrival.field("session_id").to_owned();
        (session, arrival.number("seq"), arrival.number("offset"))
    });
    arrivals
}

/// Checks that the pieces of one stream of one session follow each other without a gap from the
/// first byte on; gives the number of bytes and what they say, one line a piece.
pub fn without_a_gap(
    arrivals: &[Arrival],
    session: &str,
    stream: &str,
) -> Result<(u64, Vec<String>)> {
    let mut next = 0;
    let mut lines = Vec::new();
    for arrival in in_order(arrivals.to_vec()) {
        if arrival.field("session_id") == session && arrival.field("stream") == stream {
            let offset = arrival.number("offset");
            ensure!(offset == next, "after byte {next} of {stream} comes byte {offset}");
            next += arrival.number("length");
            lines.push(arrival.message);
        }
    }
    Ok((next, lines))
}

/// A parameter's value, unescaped, and what follows its closing quote.
fn until_quote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.chars();
    loop {
        match characters.next()? {
            '"' => return Some((value, characters.as_str())),
            '\\' => value.push(characters.next()?),
            plain => value.push(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syslog_message_keeps_its_blanks_and_brackets() {
        let raw = r#"<134>1 2026-01-02T03:04:05Z production web - output [spillway@32473 id="1" user_name="A \"B\" \]] C"] / # [x] "#;
        let arrival = Arrival::from_syslog(raw);
        assert_eq!(arrival.field("id"), "1");
        assert_eq!(arrival.field("user_name"), "A \"B\" ]] C");
        assert_eq!(arrival.message, "/ # [x] ");
    }
}
