//! Heroku's framing of syslog messages, as its HTTPS drains send them
//! (heroku/logplex, `doc/README.http_drains.md`).
//!
//! Each message is preceded by its length in bytes, which counts the LF at its end. It has RFC 5424's
//! header, with the literal `host` as HOSTNAME, and no structured data: the line's id and who is in a
//! session stand in front of the text, as `id=... user_email=... user_name="..."`, and whether it goes on.

use std::io::Write as _;

use destinations::{Tag, TagSet};
use model::Origin;

use super::time::TimeText;
use super::{Encode, service, severity};
use crate::lines::Line;

const LOCAL0: u8 = 16;

/// Writes lines as Logplex does.
#[derive(Debug)]
pub(crate) struct LogplexEncoder {
    time: TimeText,
}

impl LogplexEncoder {
    pub(crate) const fn new() -> Self {
        Self { time: TimeText::new() }
    }
}

impl Encode for LogplexEncoder {
    fn encode(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        self.time.set(line.time());
        let mut message = Vec::with_capacity(line.message.len() + 200);
        // Writing to a Vec cannot fail.
        drop(write!(message, "<{}>1 ", LOCAL0 * 8 + severity(line).number()));
        message.extend_from_slice(self.time.micros());
        let session = line.origin.session.as_ref().map(|session| session.id.to_string());
        let process = session.as_deref().unwrap_or(line.origin.source.as_str());
        drop(write!(message, "Z host {} {process} {} ", service(line.origin), line.event));
        if line.extras.tags.has(Tag::Id) {
            message.extend_from_slice(b"id=");
            line.write_id(&mut message);
            message.push(b' ');
        }
        write_user(&mut message, line.origin, line.extras.tags);
        for (name, value) in line.extras.fields {
            drop(write!(message, "{name}=\"{}\" ", plain(value)));
        }
        if line.is_continued() {
            message.extend_from_slice(b"continued=true ");
        }
        if line.extras.redacted {
            message.extend_from_slice(b"redacted=true ");
        }
        message.extend(line.message.iter().map(|&byte| if byte == b'\n' { b' ' } else { byte }));
        message.push(b'\n');
        drop(write!(out, "{} ", message.len()));
        out.extend_from_slice(&message);
    }
}

fn write_user(out: &mut Vec<u8>, origin: &Origin, wanted: TagSet) {
    let Some(session) = &origin.session else { return };
    if wanted.has(Tag::UserEmail) {
        let email = plain(&session.user_email).replace(' ', "_");
        drop(write!(out, "user_email={email} "));
    }
    if wanted.has(Tag::UserName) {
        drop(write!(out, "user_name=\"{}\" ", plain(&session.user_name)));
    }
}

fn plain(text: &str) -> String {
    text.replace(char::is_control, " ").replace(['"', '\\'], "'")
}

#[cfg(test)]
mod tests {
    use crate::encode::tests::encode;
    use crate::lines::Channel;

    use super::*;

    #[test]
    fn the_length_counts_the_line_feed() {
        let frame = encode(LogplexEncoder::new(), Channel::Stdout, b"a\nb");
        let (length, message) = frame.split_once(' ').unwrap();
        assert_eq!(length.parse::<usize>().unwrap(), message.len());
        assert!(message.starts_with("<134>1 2023-11-14T22:13:20.123456Z host web 00000000-"));
        assert!(
            message.ends_with(
                "5:stdout:7-16 user_email=ada@example.com user_name=\"Ada ']' Lovelace\" continued=true a b\n"
            ),
            "{message}"
        );
    }
}
