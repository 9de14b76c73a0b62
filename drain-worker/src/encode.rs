//! Lines to the bytes of an endpoint's format (pure). One file per format.

pub(crate) mod json;
pub(crate) mod logplex;
pub(crate) mod syslog;
pub(crate) mod time;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
pub(crate) fn tags(line: &Line<'_>) -> Vec<(&'static str, String)> {
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
    tags.push(("seq", line.seq.to_string()));
    if std::str::from_utf8(line.message).is_err() {
        tags.push(("message_base64", STANDARD.encode(line.message)));
    }
    tags
}

/// What wrote a line: the app or the database, or else the environment.
pub(crate) fn service(origin: &Origin) -> &str {
    let app = origin.app.as_ref().map(|app| &app.handle);
    let database = origin.database.as_ref().map(|database| &database.handle);
    app.or(database).unwrap_or(&origin.environment.handle).as_str()
}

/// How grave a line is. Programs write progress and prompts to standard error, so that is no warning.
pub(crate) fn level(line: &Line<'_>) -> &'static str {
    match line.span {
        Some(span) if span.channel == Channel::Stderr => "notice",
        _ => "info",
    }
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
mod tests;
