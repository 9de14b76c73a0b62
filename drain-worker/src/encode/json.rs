//! JSON: one object a line.
//!
//! Invariant: the object has no LF within, so a stream of them splits at LF.

use std::io::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::Origin;
use serde::Serialize;

use super::time::TimeText;
use super::{Encode, number};
use crate::lines::Line;

/// How objects are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JsonFormat {
    /// An LF after each (`application/x-ndjson`).
    JsonLines,
    /// A comma before each; [`JsonFormat::body`] makes the array.
    JsonArray,
}

impl JsonFormat {
    /// The request's body from encoded lines.
    pub(crate) fn body(self, lines: &[u8]) -> Vec<u8> {
        match self {
            Self::JsonLines => lines.to_vec(),
            Self::JsonArray => {
                [b"[", lines.strip_prefix(b",").unwrap_or(lines), b"]".as_slice()].concat()
            }
        }
    }

    /// The object of one encoded line.
    pub(crate) fn object(self, line: &[u8]) -> &[u8] {
        match self {
            Self::JsonLines => line.strip_suffix(b"\n").unwrap_or(line),
            Self::JsonArray => line.strip_prefix(b",").unwrap_or(line),
        }
    }

    /// The body's media type.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::JsonLines => "application/x-ndjson",
            Self::JsonArray => "application/json",
        }
    }
}

/// Writes lines as JSON objects.
#[derive(Debug)]
pub(crate) struct JsonEncoder {
    format: JsonFormat,
    time: TimeText,
    /// The fields of the last line's origin, which is mostly the next line's, too.
    origin: Option<(Arc<Origin>, Vec<u8>)>,
}

impl JsonEncoder {
    pub(crate) const fn new(format: JsonFormat) -> Self {
        Self { format, time: TimeText::new(), origin: None }
    }
}

impl Encode for JsonEncoder {
    fn encode(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        if self.format == JsonFormat::JsonArray {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"id\":\"");
        line.write_id(out);
        self.time.set(line.at);
        out.extend_from_slice(b"\",\"time\":\"");
        out.extend_from_slice(self.time.whole());
        out.extend_from_slice(b"Z\"");
        match &self.origin {
            Some((origin, fields)) if Arc::ptr_eq(origin, line.origin) => {
                out.extend_from_slice(fields);
            }
            _ => {
                let fields = origin_fields(line.origin);
                out.extend_from_slice(&fields);
                self.origin = Some((line.origin.clone(), fields));
            }
        }
        field(out, "event", line.event);
        if let Some(span) = line.span {
            field(out, "stream", span.channel.as_str());
            out.extend_from_slice(b",\"offset\":");
            number(out, span.offset);
            out.extend_from_slice(b",\"length\":");
            number(out, span.length);
            if span.continued {
                field(out, "continued", &true);
            }
        }
        out.extend_from_slice(b",\"seq\":");
        number(out, line.seq);
        let text = String::from_utf8_lossy(line.message);
        field(out, "message", &text);
        if text.as_bytes() != line.message {
            field(out, "message_base64", &STANDARD.encode(line.message));
        }
        out.push(b'}');
        if self.format == JsonFormat::JsonLines {
            out.push(b'\n');
        }
    }
}

fn origin_fields(origin: &Origin) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in super::origin_fields(origin) {
        field(&mut out, name, &value);
    }
    out
}

fn field(out: &mut Vec<u8>, name: &str, value: &(impl Serialize + ?Sized)) {
    // Writing to a Vec cannot fail.
    drop(write!(out, ",\"{name}\":"));
    drop(serde_json::to_writer(out, value));
}
