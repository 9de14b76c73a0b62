//! Syslog: RFC 5424 with octet counting (RFC 5425, section 4.3).
//!
//! - PRI: facility local0, the nearest to "not a daemon of this host"; severity informational, and
//!   for standard error notice: programs write progress and prompts there, so it is no warning.
//! - HOSTNAME is the environment, APP-NAME the app or database, PROCID the session, MSGID the event.
//! - Structured data has one element, `spillway@32473`. Names of one's own need a private enterprise
//!   number (RFC 5424, section 7.2.2); 32473 is the one for documentation (RFC 5612), since the
//!   project has none.
//! - MSG is not preceded by a byte order mark, although section 6.4 asks for it before UTF-8: common
//!   receivers keep it as part of the text. The bytes are the line's own, valid UTF-8 or not.
//!
//! Invariant: whatever the names hold, the header and the structured data stay well-formed.

use std::io::Write as _;
use std::sync::Arc;

use model::Origin;

use super::Encode;
use crate::lines::Line;

const LOCAL0: u8 = 16;
const NOTICE: u8 = 5;
const INFORMATIONAL: u8 = 6;

/// Writes lines as syslog messages.
#[derive(Debug, Default)]
pub(crate) struct SyslogEncoder {
    /// What the last line's origin gives to the header and to the structured data.
    origin: Option<(Arc<Origin>, Vec<u8>, Vec<u8>)>,
    message: Vec<u8>,
}

impl Encode for SyslogEncoder {
    fn encode(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        let Self { origin, message } = self;
        let origin = origin.take().filter(|(origin, ..)| origin == line.origin);
        let (origin, names, fields) = origin
            .unwrap_or_else(|| (line.origin.clone(), header(line.origin), fields(line.origin)));
        message.clear();
        let stderr = line.span.is_some_and(|span| span.channel == crate::lines::Channel::Stderr);
        let severity = if stderr { NOTICE } else { INFORMATIONAL };
        // Writing to a Vec cannot fail, here and below. TIMESTAMP has at most microseconds
        // (section 6); `time` has all.
        let time = line.at.date_time();
        drop(write!(
            message,
            "<{}>1 {:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z ",
            LOCAL0 * 8 + severity,
            time.year(),
            u8::from(time.month()),
            time.day(),
            time.hour(),
            time.minute(),
            time.second(),
            time.microsecond(),
        ));
        message.extend_from_slice(&names);
        drop(write!(message, "{} [spillway@32473 id=\"", line.event));
        line.write_id(message);
        drop(write!(message, "\" time=\"{}\"", line.at));
        message.extend_from_slice(&fields);
        drop(write!(message, " event=\"{}\"", line.event));
        if let Some(span) = line.span {
            drop(write!(
                message,
                " stream=\"{}\" offset=\"{}\" length=\"{}\"",
                span.channel.as_str(),
                span.offset,
                span.length
            ));
            if span.continued {
                message.extend_from_slice(b" continued=\"true\"");
            }
        }
        drop(write!(message, " seq=\"{}\"] ", line.seq));
        message.extend_from_slice(line.message);
        drop(write!(out, "{} ", message.len()));
        out.extend_from_slice(message);
        self.origin = Some((origin, names, fields));
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

fn fields(origin: &Origin) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in super::origin_fields(origin) {
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
    out
}
