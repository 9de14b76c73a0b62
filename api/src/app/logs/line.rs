//! A record as it is shown: under the names of what drains deliver.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::{
    App, Database, Environment, EphemeralSession, Event, Id, OutputStream, Record, Severity, User,
};
use serde::Serialize;
use utoipa::ToSchema;

/// A line of a log, or something that happened. What a session shows comes as it was recorded, not cut into
/// lines.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LogLine {
    /// Stable: the same each time.
    id: String,
    /// When it was recorded.
    #[schema(format = DateTime)]
    time: String,
    /// `app`, `database`, `ephemeral_session` or `activity`.
    source: &'static str,
    /// The environment's handle then.
    environment: String,
    #[schema(value_type = Uuid)]
    environment_id: Id<Environment>,
    /// The app's handle then.
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>, nullable = false)]
    app_id: Option<Id<App>>,
    /// The database's handle then.
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>, nullable = false)]
    database_id: Option<Id<Database>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>, nullable = false)]
    session_id: Option<Id<EphemeralSession>>,
    /// The engineer in the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>, nullable = false)]
    user_id: Option<Id<User>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_name: Option<String>,
    /// What happened, such as `line`, `output`, `session_started`, `activity`.
    event: &'static str,
    /// `stdout` or `stderr`, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<&'static str>,
    /// Of output: bytes of this stream before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    /// Of output: its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
    /// The line goes on in the next one of the same stream.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    continued: bool,
    /// How severe it is, if that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<Severity>,
    /// When the sender says that it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    sent_at: Option<String>,
    /// Its number among the records of its session, connection or file.
    seq: u64,
    /// The text; what is not UTF-8 in it is replaced.
    message: String,
    /// The exact bytes where they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_base64: Option<String>,
    /// What else the sender said with it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(required = false)]
    fields: BTreeMap<String, String>,
}

impl LogLine {
    /// Bytes of what is of any length.
    pub(super) fn bytes(&self) -> usize {
        let fields = self.fields.iter().map(|(name, value)| name.len() + value.len());
        512 + self.message.len()
            + self.message_base64.as_ref().map_or(0, String::len)
            + fields.sum::<usize>()
    }
}

impl From<&Record> for LogLine {
    fn from(record: &Record) -> Self {
        let origin = &record.origin;
        let session = origin.session.as_ref();
        // The stream, and of output the place in it.
        let (stream, span) = match &record.event {
            Event::Output { stream, offset, bytes } => {
                (Some(stream.as_str()), Some((stream.as_str(), *offset, bytes.len() as u64)))
            }
            Event::Input { offset, bytes } => (None, Some(("input", *offset, bytes.len() as u64))),
            Event::Line(line) => (line.stream.map(OutputStream::as_str), None),
            _ => (None, None),
        };
        let line = match &record.event {
            Event::Line(line) => Some(line),
            _ => None,
        };
        let message = record.message();
        let producer = origin.producer;
        Self {
            id: match span {
                Some((channel, offset, length)) => {
                    format!("{producer}:{channel}:{offset}-{}", offset.saturating_add(length))
                }
                None => format!("{producer}:{}", record.seq),
            },
            time: record.at.to_string(),
            source: origin.source.as_str(),
            environment: origin.environment.handle.to_string(),
            environment_id: origin.environment.id,
            app: origin.app.as_ref().map(|app| app.handle.to_string()),
            app_id: origin.app.as_ref().map(|app| app.id),
            database: origin.database.as_ref().map(|database| database.handle.to_string()),
            database_id: origin.database.as_ref().map(|database| database.id),
            session_id: session.map(|session| session.id),
            user_id: session.map(|session| session.user),
            user_email: session.map(|session| session.user_email.clone()),
            user_name: session.map(|session| session.user_name.clone()),
            event: record.event.name(),
            stream,
            offset: span.map(|(_, offset, _)| offset),
            length: span.map(|(.., length)| length),
            continued: line.is_some_and(|line| line.continued),
            severity: line.and_then(|line| line.severity),
            sent_at: line.and_then(|line| line.sent_at).map(|at| at.to_string()),
            seq: record.seq,
            message_base64: std::str::from_utf8(&message).err().map(|_| STANDARD.encode(&message)),
            message: String::from_utf8_lossy(&message).into_owned(),
            fields: line
                .iter()
                .flat_map(|line| line.fields.iter())
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        }
    }
}
