//! Lines as the programs that wrote them mean them (pure).
//!
//! A database's line says how severe it is, when it was written and whom it is about, and some of what it says
//! takes several lines. Those are joined, and what a line says is added to what came with it.
//!
//! Invariants: no byte of a line's text is lost or changed, and lines that are joined have LF between them; what is
//! not recognized passes as it came; and lines leave in the order in which they came.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use model::{LogLine, OutputStream, Severity, Timestamp};

use crate::lanes::LINE_LIMIT;

mod facts;
mod mariadb;
mod mongodb;
mod postgresql;
mod redis;
mod time;

use facts::Facts;
use mariadb::MariaDb;
use postgresql::Postgresql;

/// What waits for more lines is complete after this long without one.
pub(crate) const COMPLETE_AFTER: Duration = Duration::from_millis(500);
/// And after this long, however many come: for who has many senders.
pub(crate) const COMPLETE_WITHIN: Duration = Duration::from_secs(2);

/// Reads the lines of one producer.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// None where lines pass as they are.
    database: Option<Box<Database>>,
}

#[derive(Debug)]
struct Database {
    format: Format,
    waiting: Option<Waiting>,
    /// The outputs whose last line goes on in their next.
    going_on: Vec<GoingOn>,
}

#[derive(Debug)]
enum Format {
    Postgresql(Postgresql),
    MariaDb(MariaDb),
    Redis,
    MongoDb,
}

/// What a line is to those around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It is complete.
    Alone,
    /// It may go on in the next one.
    Begins,
    /// It belongs to what waits, and may go on.
    Continues,
    /// It belongs to what waits, and completes it.
    Ends,
}

/// A line that may go on.
#[derive(Debug)]
struct Waiting {
    first: LogLine,
    /// The texts so far, as soon as there are two.
    joined: BytesMut,
    /// The first is a copy.
    is_own: bool,
}

/// A line that was too long for its way in, and comes in pieces.
#[derive(Debug)]
struct GoingOn {
    stream: Option<OutputStream>,
    severity: Option<Severity>,
    sent_at: Option<Timestamp>,
}

impl Reader {
    /// For an app (None), or for a database's engine.
    pub(crate) fn new(engine: Option<&str>) -> Self {
        let format = match engine {
            Some("postgresql") => Format::Postgresql(Postgresql::default()),
            Some("mysql" | "mariadb") => Format::MariaDb(MariaDb::default()),
            Some("redis") => Format::Redis,
            Some("mongodb") => Format::MongoDb,
            _ => return Self::default(),
        };
        let database = Database { format, waiting: None, going_on: Vec::new() };
        Self { database: Some(Box::new(database)) }
    }

    /// Takes a line; appends those that are complete.
    pub(crate) fn push(&mut self, line: LogLine, out: &mut Vec<LogLine>) {
        match &mut self.database {
            None => out.push(line),
            Some(database) => database.push(line, out),
        }
    }

    /// Whether something waits for more lines. It is at most a line's limit.
    pub(crate) fn is_waiting(&self) -> bool {
        self.database.as_ref().is_some_and(|database| database.waiting.is_some())
    }

    /// Has what waits in memory of its own; how many bytes that takes, nothing where nothing waits.
    pub(crate) fn keep(&mut self) -> usize {
        let waiting = self.database.as_mut().and_then(|database| database.waiting.as_mut());
        waiting.map_or(0, Waiting::keep)
    }

    /// Appends what waits, as it is: after [`COMPLETE_AFTER`], and at the end.
    pub(crate) fn flush(&mut self, out: &mut Vec<LogLine>) {
        if let Some(database) = &mut self.database {
            database.flush(out);
        }
    }
}

impl Database {
    fn push(&mut self, mut line: LogLine, out: &mut Vec<LogLine>) {
        if let Some(at) = self.going_on.iter().position(|one| one.stream == line.stream) {
            self.flush(out);
            if let Some(head) = self.going_on.get(at) {
                line.severity = head.severity.or(line.severity);
                line.sent_at = head.sent_at.or(line.sent_at);
            }
            if !line.continued {
                self.going_on.swap_remove(at);
            }
            out.push(line);
            return;
        }
        let role = self.format.role(&line, self.waiting.as_ref().map(|waiting| &waiting.first));
        if matches!(role, Role::Continues | Role::Ends)
            && !line.continued
            && let Some(waiting) = &mut self.waiting
            && waiting.has_room_for(&line)
        {
            waiting.join(&line);
            if role == Role::Ends {
                self.flush(out);
            }
            return;
        }
        self.flush(out);
        if role == Role::Begins && !line.continued {
            self.waiting = Some(Waiting { first: line, joined: BytesMut::new(), is_own: false });
        } else {
            self.complete(line, out);
        }
    }

    fn flush(&mut self, out: &mut Vec<LogLine>) {
        if let Some(waiting) = self.waiting.take() {
            self.complete(waiting.whole(), out);
        }
    }

    fn complete(&mut self, mut line: LogLine, out: &mut Vec<LogLine>) {
        let text = line.text.clone();
        self.format.facts(&text).add_to(&mut line);
        if line.continued {
            let (stream, severity, sent_at) = (line.stream, line.severity, line.sent_at);
            self.going_on.push(GoingOn { stream, severity, sent_at });
        }
        out.push(line);
    }
}

impl Format {
    fn role(&mut self, line: &LogLine, first: Option<&LogLine>) -> Role {
        // What was written to another output belongs to something else.
        let first = first.filter(|first| first.stream == line.stream);
        match self {
            Self::Postgresql(format) => format.role(line, first),
            Self::MariaDb(format) => format.role(&line.text, first.is_some()),
            Self::Redis => redis::role(&line.text, first.is_some()),
            Self::MongoDb => Role::Alone,
        }
    }

    fn facts<'a>(&mut self, text: &'a [u8]) -> Facts<'a> {
        match self {
            Self::Postgresql(format) => format.facts(text),
            Self::MariaDb(_) => mariadb::facts(text),
            Self::Redis => redis::facts(text),
            Self::MongoDb => mongodb::facts(text),
        }
    }
}

impl Waiting {
    fn has_room_for(&self, line: &LogLine) -> bool {
        self.joined.len().max(self.first.text.len()) + 1 + line.text.len() <= LINE_LIMIT
    }

    fn join(&mut self, line: &LogLine) {
        // Also an empty text is a first one.
        if self.joined.is_empty() {
            self.joined.extend_from_slice(&self.first.text);
        }
        self.joined.extend_from_slice(b"\n");
        self.joined.extend_from_slice(&line.text);
    }

    /// A line that came with many others shares their memory, which would live as long as it.
    fn keep(&mut self) -> usize {
        if !std::mem::replace(&mut self.is_own, true) {
            self.first.text = Bytes::copy_from_slice(&self.first.text);
            self.first.fields = self.first.fields.copied();
        }
        let first = self.first.text.len() + self.first.fields.packed().len();
        size_of::<Self>() + first + self.joined.capacity()
    }

    fn whole(self) -> LogLine {
        let Self { mut first, joined, .. } = self;
        if !joined.is_empty() {
            first.text = joined.freeze();
        }
        first
    }
}

#[cfg(test)]
mod tests;
