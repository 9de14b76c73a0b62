//! Lines to the bytes of an endpoint's format (pure). One file per format.

pub(crate) mod json;
pub(crate) mod logplex;
pub(crate) mod syslog;
pub(crate) mod time;

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use destinations::Severity;
use model::Origin;

use crate::lines::{Channel, Line};
use time::TimeText;

/// A format's writer.
pub(crate) trait Encode: Send {
    /// Appends the line.
    fn encode(&mut self, line: &Line<'_>, out: &mut Vec<u8>);
}

fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// What is said of a line besides its text, in every format under the same names. Text that is not UTF-8
/// is among it, in base64.
pub(crate) fn tags(line: &Line<'_>) -> Vec<(Cow<'static, str>, String)> {
    let mut id = Vec::new();
    line.write_id(&mut id);
    let mut time = TimeText::new();
    time.set(line.at);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut tags = vec![("id", text(&id)), ("time", format!("{}Z", text(time.whole())))];
    tags.extend(origin_fields(line.origin));
    tags.push(("event", line.event.to_owned()));
    if let Some(span) = line.span {
        tags.push(("stream", span.channel.as_str().to_owned()));
        tags.push(("offset", span.offset.to_string()));
        tags.push(("length", span.length.to_string()));
        if span.continued {
            tags.push(("continued", "true".to_owned()));
        }
    }
    if line.extras.redacted {
        tags.push(("redacted", "true".to_owned()));
    }
    tags.push(("seq", line.seq.to_string()));
    if std::str::from_utf8(line.message).is_err() {
        tags.push(("message_base64", STANDARD.encode(line.message)));
    }
    let own = line.extras.fields.iter().map(|(name, value)| (name.clone().into(), value.clone()));
    tags.into_iter().map(|(name, value)| (name.into(), value)).chain(own).collect()
}

/// What wrote a line: the app or the database, or else the environment.
pub(crate) fn service(origin: &Origin) -> &str {
    let app = origin.app.as_ref().map(|app| &app.handle);
    let database = origin.database.as_ref().map(|database| &database.handle);
    app.or(database).unwrap_or(&origin.environment.handle).as_str()
}

/// How severe a line is. Programs write progress and prompts to standard error, so that is no warning.
pub(crate) fn severity(line: &Line<'_>) -> Severity {
    line.extras.severity.unwrap_or(match line.span {
        Some(span) if span.channel == Channel::Stderr => Severity::Notice,
        _ => Severity::Info,
    })
}

/// The same in a word.
pub(crate) fn level(line: &Line<'_>) -> &'static str {
    severity(line).as_str()
}

/// The fields that say where a line comes from, in every format under the same names.
fn origin_fields(origin: &Origin) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("source", origin.source.to_string()),
        ("environment", origin.environment.handle.to_string()),
        ("environment_id", origin.environment.id.to_string()),
    ];
    if let Some(app) = &origin.app {
        fields.extend([("app", app.handle.to_string()), ("app_id", app.id.to_string())]);
    }
    if let Some(database) = &origin.database {
        fields.push(("database", database.handle.to_string()));
        fields.push(("database_id", database.id.to_string()));
    }
    if let Some(session) = &origin.session {
        fields.push(("session_id", session.id.to_string()));
        fields.push(("user_id", session.user.to_string()));
        fields.push(("user_email", session.user_email.clone()));
        fields.push(("user_name", session.user_name.clone()));
    }
    fields
}

#[cfg(test)]
pub(crate) mod tests;
