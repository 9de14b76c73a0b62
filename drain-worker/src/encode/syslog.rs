//! Syslog: RFC 5424, with octet counting (RFC 5425, section 4.3) or an LF after each message (RFC 6587,
//! section 3.4.2).
//!
//! - PRI: facility local0, the nearest to "not a daemon of this host"; where the severity is not known it is
//!   informational, and for standard error notice.
//! - HOSTNAME is the environment, APP-NAME the app or database, PROCID the session, MSGID the event.
//! - Structured data has the element `spillway@32473`, and `fields@32473` where a sender said something. Names of one's own need a private enterprise
//!   number (RFC 5424, section 7.2.2); 32473 is the one for documentation (RFC 5612), since the
//!   project has none.
//! - MSG is not preceded by a byte order mark, although section 6.4 asks for it before UTF-8: common
//!   receivers keep it as part of the text. The bytes are the line's own, valid UTF-8 or not.
//!
//! Invariant: whatever the names hold, the header and the structured data stay well-formed.

use std::io::Write as _;
use std::sync::Arc;

use destinations::{Framing, Severity, Tag, TokenPlace};
use model::Origin;

use super::time::TimeText;
use super::{Encode, number, said_fields, severity};
use crate::lines::{Channel, Line};

const LOCAL0: u8 = 16;

/// Writes lines as syslog messages.
pub(crate) struct SyslogEncoder {
    framing: Framing,
    /// From the end of the structured data's element to the text.
    token: Vec<u8>,
    time: TimeText,
    /// What stays the same from line to line, mostly.
    frame: Option<Frame>,
    /// Digits of the last message's length.
    digits: usize,
}

/// The parts of a message that depend on its origin, event and stream alone, in their order; between
/// them stand numbers and times.
#[derive(Debug)]
struct Frame {
    origin: Arc<Origin>,
    event: &'static str,
    channel: Option<Channel>,
    severity: Severity,
    /// PRI and VERSION.
    priority: Vec<u8>,
    /// From HOSTNAME to the name of the structured data's element.
    names: Vec<u8>,
    /// From the end of `time` to `stream`.
    fields: Vec<u8>,
}

impl SyslogEncoder {
    /// With a token, if there is one, in its place.
    pub(crate) fn new(framing: Framing, token: Option<(&str, TokenPlace)>) -> Self {
        let token = match token {
            None => "] ".to_owned(),
            Some((token, TokenPlace::Prefix)) => format!("] {token} "),
            Some((token, TokenPlace::StructuredData)) => format!("][{token}] "),
        };
        Self { framing, token: token.into(), time: TimeText::new(), frame: None, digits: 3 }
    }

    /// Writes the message without its framing.
    fn message(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        let channel = line.channel();
        let frame = match self.frame.take() {
            Some(frame) if frame.is_of(line, channel) => frame,
            _ => Frame::new(line, channel),
        };
        let frame = self.frame.insert(frame);
        // TIMESTAMP has at most microseconds (section 6); `time` has all.
        self.time.set(line.time());
        out.extend_from_slice(&frame.priority);
        out.extend_from_slice(self.time.micros());
        out.extend_from_slice(b"Z ");
        out.extend_from_slice(&frame.names);
        let tags = line.extras.tags;
        if tags.has(Tag::Id) {
            out.extend_from_slice(b" id=\"");
            line.write_id(out);
            out.push(b'"');
        }
        if tags.has(Tag::Time) {
            self.time.set(line.at);
            out.extend_from_slice(b" time=\"");
            out.extend_from_slice(self.time.whole());
            out.extend_from_slice(b"Z\"");
        }
        out.extend_from_slice(&frame.fields);
        if let Some(span) = line.span {
            if tags.has(Tag::Offset) {
                parameter_of(out, b" offset=\"", span.offset);
            }
            if tags.has(Tag::Length) {
                parameter_of(out, b" length=\"", span.length);
            }
        }
        if line.is_continued() {
            out.extend_from_slice(b" continued=\"true\"");
        }
        if line.extras.redacted {
            out.extend_from_slice(b" redacted=\"true\"");
        }
        if tags.has(Tag::Seq) {
            parameter_of(out, b" seq=\"", line.seq);
        }
        if let Some(sent_at) = line.extras.said.sent_at.filter(|_| tags.has(Tag::SentAt)) {
            self.time.set(sent_at);
            out.extend_from_slice(b" sent_at=\"");
            out.extend_from_slice(self.time.whole());
            out.extend_from_slice(b"Z\"");
        }
        let mut is_first = true;
        for (name, value) in said_fields(line) {
            if std::mem::take(&mut is_first) {
                out.extend_from_slice(b"][fields@32473");
            }
            parameter(out, &parameter_name(name), value);
        }
        out.extend_from_slice(&self.token);
        out.extend_from_slice(line.message);
    }
}

impl Encode for SyslogEncoder {
    fn encode(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        let begin = out.len();
        if self.framing == Framing::Lf {
            self.message(line, out);
            for byte in out.iter_mut().skip(begin).filter(|byte| **byte == b'\n') {
                *byte = b' ';
            }
            return out.push(b'\n');
        }
        // Room for the length, which mostly has as many digits as the last one.
        out.resize(begin + self.digits + 1, b' ');
        let message = out.len();
        self.message(line, out);

        let mut length = itoa::Buffer::new();
        let length = length.format(out.len() - message).as_bytes();
        if length.len() == self.digits {
            if let Some(room) = out.get_mut(begin..begin + length.len()) {
                room.copy_from_slice(length);
            }
        } else {
            self.digits = length.len();
            let counted = length.iter().copied().chain([b' ']);
            drop(out.splice(begin..message, counted));
        }
    }
}

impl Frame {
    fn new(line: &Line<'_>, channel: Option<Channel>) -> Self {
        let severity = severity(line);
        let mut names = header(line.origin);
        // Writing to a Vec cannot fail, here and below.
        drop(write!(names, "{} [spillway@32473", line.event));
        let (mut fields, tags) = (Vec::new(), line.extras.tags);
        for (name, value) in super::origin_fields(line.origin, tags) {
            parameter(&mut fields, name, &value);
        }
        for (name, value) in line.extras.fields {
            parameter(&mut fields, name, value);
        }
        if tags.has(Tag::Event) {
            drop(write!(fields, " event=\"{}\"", line.event));
        }
        if let Some(channel) = channel.filter(|_| tags.has(Tag::Stream)) {
            drop(write!(fields, " stream=\"{}\"", channel.as_str()));
        }
        Self {
            origin: line.origin.clone(),
            event: line.event,
            channel,
            severity,
            priority: format!("<{}>1 ", LOCAL0 * 8 + severity.number()).into_bytes(),
            names,
            fields,
        }
    }

    fn is_of(&self, line: &Line<'_>, channel: Option<Channel>) -> bool {
        self.channel == channel
            && self.event == line.event
            && self.severity == severity(line)
            && Arc::ptr_eq(&self.origin, line.origin)
    }
}

/// HOSTNAME, APP-NAME and PROCID, each with the space after it.
fn header(origin: &Origin) -> Vec<u8> {
    let app = origin.app.as_ref().map(|app| &app.handle);
    let name = app.or(origin.database.as_ref().map(|database| &database.handle));
    let session = origin.session.as_ref().map(|session| session.id.to_string());
    let mut out = Vec::new();
    for (text, limit) in [
        (Some(origin.environment.handle.as_str()), 255),
        (name.map(AsRef::as_ref), 48),
        (session.as_deref(), 128),
    ] {
        // Handles and ids are printable ASCII by their types.
        out.extend(text.unwrap_or("-").bytes().filter(u8::is_ascii_graphic).take(limit));
        out.push(b' ');
    }
    out
}

/// Appends a parameter that is a number; its name has all that stands before it.
fn parameter_of(out: &mut Vec<u8>, name: &[u8], value: u64) {
    out.extend_from_slice(name);
    number(out, value);
    out.push(b'"');
}

/// What a parameter may be called (RFC 5424, section 6.3.3).
fn parameter_name(name: &str) -> String {
    let may_be = |c: &char| c.is_ascii_graphic() && !matches!(c, '=' | ']' | '"');
    name.chars().map(|c| if may_be(&c) { c } else { '_' }).take(32).collect()
}

/// Appends a parameter of structured data, with a space before it.
fn parameter(out: &mut Vec<u8>, name: &str, value: &str) {
    drop(write!(out, " {name}=\""));
    for character in value.chars() {
        match character {
            // RFC 5424, section 6.3.3.
            '"' | '\\' | ']' => drop(write!(out, "\\{character}")),
            character if character.is_control() => out.push(b' '),
            character => drop(write!(out, "{character}")),
        }
    }
    out.push(b'"');
}
