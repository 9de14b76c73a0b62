//! Which records a caller wants to see, and may.

use log_stream::Header;
use model::{
    App as AppKind, Database as DatabaseKind, EphemeralSession, Event, Id, OutputStream, Record,
    Severity, Source, Timestamp,
};
use regex::bytes::{Regex, RegexBuilder};

use crate::app::AppError;
use model::validation::{Checks, FieldError};

/// Characters of a text that is searched for.
const LONGEST_TEXT: usize = 200;

/// Which records a caller wants to see. Names are handles or ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Of these apps, if any app or database is named.
    pub(crate) apps: Vec<String>,
    /// Or of these databases.
    pub(crate) databases: Vec<String>,
    /// Of this session.
    pub(crate) session: Option<Id<EphemeralSession>>,
    /// Of these sources; all, if none are named.
    pub(crate) sources: Vec<Source>,
    /// With this in their text, whatever its case.
    pub(crate) text: Option<String>,
    /// As severe as this, or more.
    pub(crate) severity: Option<Severity>,
    /// That happened then or later.
    pub(crate) since: Option<Timestamp>,
    /// That happened before that.
    pub(crate) until: Option<Timestamp>,
}

/// The same, ready to be asked.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) sources: Vec<Source>,
    pub(super) things: Vec<Thing>,
    pub(super) session: Option<Id<EphemeralSession>>,
    pub(super) text: Option<Regex>,
    pub(super) severity: Option<Severity>,
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
}

/// An app or a database: by its id, or by the handle that it had when a record was made.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Thing {
    App(Option<Id<AppKind>>, String),
    Database(Option<Id<DatabaseKind>>, String),
}

impl Wanted {
    /// Whether only sessions' records fit.
    pub(super) fn asks_for_sessions(&self) -> bool {
        self.session.is_some() || self.sources.contains(&Source::EphemeralSession)
    }

    /// The pattern of its text.
    pub(super) fn pattern(&self) -> Result<Option<Regex>, AppError> {
        let Some(text) = &self.text else { return Ok(None) };
        let mut checks = Checks::default();
        let length = text.chars().count();
        checks.rule((1..=LONGEST_TEXT).contains(&length), "text", "must have 1 to 200 characters");
        checks.finish()?;
        let pattern = RegexBuilder::new(&regex::escape(text)).case_insensitive(true).build();
        pattern.map(Some).map_err(|_| {
            AppError::Invalid(vec![FieldError::new("text", "cannot be searched for: shorten it")])
        })
    }
}

impl Thing {
    fn is_of(&self, record: &Record) -> bool {
        match self {
            Self::App(id, handle) => record
                .origin
                .app
                .as_ref()
                .is_some_and(|app| Some(app.id) == *id || app.handle.as_str() == handle),
            Self::Database(id, handle) => record.origin.database.as_ref().is_some_and(|database| {
                Some(database.id) == *id || database.handle.as_str() == handle
            }),
        }
    }
}

impl Filter {
    /// Whether a block may have a record that fits.
    pub(super) fn takes_block(&self, header: &Header) -> bool {
        header.sources.iter().any(|source| self.sources.contains(source))
            && self.since.is_none_or(|since| header.last_at >= since)
            && self.until.is_none_or(|until| header.first_at < until)
    }

    /// Whether a record fits.
    pub(super) fn takes(&self, record: &Record) -> bool {
        let origin = &record.origin;
        !matches!(record.event, Event::Pause { .. })
            && self.sources.contains(&origin.source)
            && self.since.is_none_or(|since| record.at >= since)
            && self.until.is_none_or(|until| record.at < until)
            && (self.things.is_empty() || self.things.iter().any(|thing| thing.is_of(record)))
            && self.session.is_none_or(|wanted| {
                origin.session.as_ref().is_some_and(|session| session.id == wanted)
            })
            && self.severity.is_none_or(|least| severity(record) <= least)
            && self.text.as_ref().is_none_or(|text| text.is_match(&record.message()))
    }
}

/// How severe a record is. Programs write progress and prompts to standard error, so that is no warning.
fn severity(record: &Record) -> Severity {
    let (said, stream) = match &record.event {
        Event::Line(line) => (line.severity, line.stream),
        Event::Output { stream, .. } => (None, Some(*stream)),
        _ => (None, None),
    };
    said.unwrap_or(match stream {
        Some(OutputStream::Stderr) => Severity::Notice,
        _ => Severity::Info,
    })
}
