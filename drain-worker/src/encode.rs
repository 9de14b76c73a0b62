//! Lines to the bytes of an endpoint's format (pure). One file per format.

pub(crate) mod json;
pub(crate) mod logplex;
pub(crate) mod syslog;
pub(crate) mod time;

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use destinations::{Severity, Tag, TagSet};
use model::{Fields, Origin};
use serde_json::{Map, Value};

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

/// What is said of a line besides its text, in every format under the same names, as far as the drain wants it.
/// Text that is not UTF-8 is among it, in base64.
pub(crate) fn tags(line: &Line<'_>) -> Vec<(Cow<'static, str>, String)> {
    let mut id = Vec::new();
    line.write_id(&mut id);
    let mut time = TimeText::new();
    time.set(line.at);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut all = vec![(Tag::Id, text(&id)), (Tag::Time, format!("{}Z", text(time.whole())))];
    all.extend(origin_tags(line.origin));
    all.push((Tag::Event, line.event.to_owned()));
    all.extend(line.channel().map(|channel| (Tag::Stream, channel.as_str().to_owned())));
    if let Some(span) = line.span {
        all.push((Tag::Offset, span.offset.to_string()));
        all.push((Tag::Length, span.length.to_string()));
    }
    all.push((Tag::Seq, line.seq.to_string()));
    if let Some(sent_at) = line.extras.said.sent_at {
        time.set(sent_at);
        all.push((Tag::SentAt, format!("{}Z", text(time.whole()))));
    }
    let wanted = all.into_iter().filter(|(tag, _)| line.extras.tags.has(*tag));
    let mut tags: Vec<_> = wanted.map(|(tag, value)| (tag.as_str(), value)).collect();
    if line.is_continued() {
        tags.push(("continued", "true".to_owned()));
    }
    if line.extras.redacted {
        tags.push(("redacted", "true".to_owned()));
    }
    if std::str::from_utf8(line.message).is_err() {
        tags.push(("message_base64", STANDARD.encode(line.message)));
    }
    let said = said_fields(line).map(|(name, value)| (format!("fields.{name}"), value.to_owned()));
    let own = line.extras.fields.iter().map(|(name, value)| (name.clone(), value.clone()));
    let more = said.chain(own).map(|(name, value)| (name.into(), value));
    tags.into_iter().map(|(name, value)| (name.into(), value)).chain(more).collect()
}

/// What the sender said with the line, as far as the drain wants it.
fn said_fields<'a>(line: &Line<'a>) -> impl Iterator<Item = (&'a str, &'a str)> {
    let said = line.extras.said.fields.filter(|_| line.extras.tags.has(Tag::Fields));
    said.into_iter().flat_map(Fields::iter)
}

/// Who is in the session, under these names for id, e-mail address and name, as far as the drain wants it.
pub(crate) fn user(line: &Line<'_>, names: [&str; 3]) -> Map<String, Value> {
    let Some(session) = &line.origin.session else { return Map::new() };
    let all = [
        (Tag::UserId, session.user.to_string()),
        (Tag::UserEmail, session.user_email.clone()),
        (Tag::UserName, session.user_name.clone()),
    ];
    let wanted = all.into_iter().zip(names).filter(|((tag, _), _)| line.extras.tags.has(*tag));
    wanted.map(|((_, value), name)| (name.to_owned(), value.into())).collect()
}

/// What wrote a line: the app or the database, or else the environment.
pub(crate) fn service(origin: &Origin) -> &str {
    let app = origin.app.as_ref().map(|app| &app.handle);
    let database = origin.database.as_ref().map(|database| &database.handle);
    app.or(database).unwrap_or(&origin.environment.handle).as_str()
}

/// How severe a line is. Programs write progress and prompts to standard error, so that is no warning.
pub(crate) fn severity(line: &Line<'_>) -> Severity {
    line.extras.severity.unwrap_or(match line.channel() {
        Some(Channel::Stderr) => Severity::Notice,
        _ => Severity::Info,
    })
}

/// The same in a word.
pub(crate) fn level(line: &Line<'_>) -> &'static str {
    severity(line).as_str()
}

/// Those of the wanted tags that say where a line comes from.
fn origin_fields(
    origin: &Origin,
    wanted: TagSet,
) -> impl Iterator<Item = (&'static str, String)> + use<> {
    let tags = origin_tags(origin).into_iter().filter(move |(tag, _)| wanted.has(*tag));
    tags.map(|(tag, value)| (tag.as_str(), value))
}

fn origin_tags(origin: &Origin) -> Vec<(Tag, String)> {
    let mut tags = vec![
        (Tag::Source, origin.source.to_string()),
        (Tag::Environment, origin.environment.handle.to_string()),
        (Tag::EnvironmentId, origin.environment.id.to_string()),
    ];
    if let Some(app) = &origin.app {
        tags.extend([(Tag::App, app.handle.to_string()), (Tag::AppId, app.id.to_string())]);
    }
    if let Some(database) = &origin.database {
        tags.push((Tag::Database, database.handle.to_string()));
        tags.push((Tag::DatabaseId, database.id.to_string()));
    }
    if let Some(session) = &origin.session {
        tags.push((Tag::SessionId, session.id.to_string()));
        tags.push((Tag::UserId, session.user.to_string()));
        tags.push((Tag::UserEmail, session.user_email.clone()));
        tags.push((Tag::UserName, session.user_name.clone()));
    }
    tags
}

#[cfg(test)]
pub(crate) mod tests;
