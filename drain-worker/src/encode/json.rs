//! JSON: one object a line.
//!
//! Invariant: the object has no LF within, so a stream of them splits at LF.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use destinations::{BodyFormat, Keys, Tag, TagSet};
use model::{Origin, Source};
use serde::Serialize;
use serde_json::{Map, Value};

use super::time::TimeText;
use super::{Encode, level, number, said_fields, service, tags};
use crate::lines::Line;

/// Writes lines as JSON objects: with an LF after each, or for an array with a comma before each.
pub(crate) struct JsonEncoder {
    format: BodyFormat,
    keys: Keys,
    /// What stands in front of each line.
    before: String,
    time: TimeText,
    /// Of the last line, and mostly of the next one, too.
    origin: Option<OriginText>,
}

/// What all lines of an origin have in common.
struct OriginText {
    origin: Arc<Origin>,
    producer: String,
    fields: Vec<u8>,
}

impl OriginText {
    fn new(origin: &Arc<Origin>, wanted: TagSet) -> Self {
        let mut fields = Vec::new();
        for (name, value) in super::origin_fields(origin, wanted) {
            field(&mut fields, name, &value);
        }
        Self { origin: origin.clone(), producer: origin.producer.to_string(), fields }
    }
}

impl JsonEncoder {
    pub(crate) const fn new(format: BodyFormat, keys: Keys) -> Self {
        Self { format, keys, before: String::new(), time: TimeText::new(), origin: None }
    }

    /// With a token and a space in front of each line.
    pub(crate) fn after(self, token: &str) -> Self {
        Self { before: format!("{token} "), ..self }
    }
}

impl Encode for JsonEncoder {
    fn encode(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        if self.format == BodyFormat::JsonArray {
            out.push(b',');
        }
        out.extend_from_slice(self.before.as_bytes());
        match self.keys {
            Keys::Spillway => self.object(line, out),
            // Writing to a Vec cannot fail.
            Keys::Aptible => drop(serde_json::to_writer(&mut *out, &aptible(line))),
        }
        if self.format == BodyFormat::JsonLines {
            out.push(b'\n');
        }
    }
}

impl JsonEncoder {
    /// Appends the line's object under Spillway's keys, with nothing around it.
    pub(crate) fn object(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        let (begin, tags) = (out.len(), line.extras.tags);
        let origin = match self.origin.take() {
            Some(text) if Arc::ptr_eq(&text.origin, line.origin) => text,
            _ => OriginText::new(line.origin, tags),
        };
        let origin = self.origin.insert(origin);
        if tags.has(Tag::Id) {
            out.extend_from_slice(b",\"id\":\"");
            out.extend_from_slice(origin.producer.as_bytes());
            line.write_id_in_producer(out);
            out.push(b'"');
        }
        if tags.has(Tag::Time) {
            self.time.set(line.at);
            out.extend_from_slice(b",\"time\":\"");
            out.extend_from_slice(self.time.whole());
            out.extend_from_slice(b"Z\"");
        }
        out.extend_from_slice(&origin.fields);
        if tags.has(Tag::Event) {
            text_field(out, "event", line.event);
        }
        if let Some(channel) = line.channel().filter(|_| tags.has(Tag::Stream)) {
            text_field(out, "stream", channel.as_str());
        }
        if let Some(span) = line.span {
            if tags.has(Tag::Offset) {
                out.extend_from_slice(b",\"offset\":");
                number(out, span.offset);
            }
            if tags.has(Tag::Length) {
                out.extend_from_slice(b",\"length\":");
                number(out, span.length);
            }
        }
        if line.is_continued() {
            field(out, "continued", &true);
        }
        if line.extras.redacted {
            field(out, "redacted", &true);
        }
        if tags.has(Tag::Seq) {
            out.extend_from_slice(b",\"seq\":");
            number(out, line.seq);
        }
        if let Some(sent_at) = line.extras.said.sent_at.filter(|_| tags.has(Tag::SentAt)) {
            self.time.set(sent_at);
            out.extend_from_slice(b",\"sent_at\":\"");
            out.extend_from_slice(self.time.whole());
            out.extend_from_slice(b"Z\"");
        }
        if line.extras.severity.is_some() {
            text_field(out, "severity", level(line));
        }
        if let Ok(text) = std::str::from_utf8(line.message) {
            text_field(out, "message", text);
        } else {
            field(out, "message", &String::from_utf8_lossy(line.message));
            field(out, "message_base64", &STANDARD.encode(line.message));
        }
        if let Some(json) = line.extras.json {
            field(out, "json", json);
        }
        let said: Map<String, Value> =
            said_fields(line).map(|(name, value)| (name.to_owned(), value.into())).collect();
        if !said.is_empty() {
            field(out, "fields", &said);
        }
        for (name, value) in line.extras.fields {
            field(out, name, value);
        }
        // In the place of the first comma.
        if let Some(first) = out.get_mut(begin) {
            *first = b'{';
        }
        out.push(b'}');
    }
}

fn field(out: &mut Vec<u8>, name: &str, value: &(impl Serialize + ?Sized)) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    // Writing to a Vec cannot fail.
    drop(serde_json::to_writer(out, value));
}

/// The same for text, faster where nothing is to be escaped (RFC 8259, section 7).
fn text_field(out: &mut Vec<u8>, name: &str, text: &str) {
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    // Looks at all of them, for that is many at a time.
    if !text.bytes().fold(true, |all, byte| all & is_plain(byte)) {
        return field(out, name, text);
    }
    for part in [",\"", name, "\":\"", text, "\""] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// The object with the names of Aptible's HTTPS drains, where every value is text
/// (aptible.com/docs, "HTTPS Log Drains"; "SSH Sessions" for `operation_...`); Spillway's other fields
/// stand beside them.
fn aptible(line: &Line<'_>) -> Map<String, Value> {
    let mut object: Map<String, Value> =
        tags(line).into_iter().map(|(name, value)| (name.into_owned(), value.into())).collect();
    let mut set = |name: &str, value: &str| object.insert(name.to_owned(), value.into());
    let mut time = TimeText::new();
    time.set(line.time());
    let time = format!("{}Z", String::from_utf8_lossy(time.nanos()));
    set("@timestamp", &time);
    set("time", &time);
    set("@version", "1");
    set("type", "json");
    set("log", &String::from_utf8_lossy(line.message));
    let producer = line.origin.producer.to_string();
    // No file is read.
    set("host", &producer);
    set("container", &producer);
    set("layer", if line.origin.source == Source::Database { "database" } else { "app" });
    set("service", service(line.origin));
    if let Some(session) = &line.origin.session {
        set("operation_id", &session.id.to_string());
        if line.extras.tags.has(Tag::UserEmail) {
            set("operation_user_email", &session.user_email);
        }
        if line.extras.tags.has(Tag::UserName) {
            set("operation_user_name", &session.user_name);
        }
    }
    if let Some(json) = line.extras.json {
        object.insert("json".to_owned(), json.clone().into());
    }
    object
}
