//! PostgreSQL's log: plain text as written to standard error or to syslog, CSV, and JSON.
//!
//! A plain line is whatever `log_line_prefix` says, then a severity, a colon and two spaces; further lines of a
//! message begin with a tab. `DETAIL`, `HINT`, `STATEMENT` and their like are lines of their own, as severe as the
//! line they belong to. Syslog gets a message in pieces, numbered `[5-1]`, `[5-2]`.
//!
//! <https://www.postgresql.org/docs/current/runtime-config-logging.html>

use model::{LogLine, Severity};

use super::Role;
use super::facts::{Facts, first_line, valid};

mod csv;
mod json;
mod plain;

/// Reads the lines of one server.
#[derive(Debug, Default)]
pub(super) struct Postgresql {
    /// What waits is CSV with an open quote.
    is_quoted: bool,
    /// What waits is a message to syslog, and this its last piece.
    piece: Option<Piece>,
    /// What the last line of its own was, by process.
    last: Option<(Option<u32>, Severity)>,
}

/// A message's number, and that of a piece of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    message: u64,
    number: u64,
}

impl Postgresql {
    pub(super) fn role(&mut self, line: &LogLine, first: Option<&LogLine>) -> Role {
        let was_quoted = std::mem::take(&mut self.is_quoted) && first.is_some();
        let last_piece = self.piece.take().filter(|_| first.is_some());
        let text: &[u8] = &line.text;
        // A quote that was never closed, as its end was lost, ends with the next entry.
        if csv::begins(text) {
            self.is_quoted = csv::turns_quote(text);
            return if self.is_quoted { Role::Begins } else { Role::Alone };
        }
        if was_quoted {
            self.is_quoted = !csv::turns_quote(text);
            return if self.is_quoted { Role::Continues } else { Role::Ends };
        }
        let (piece, text) = piece(text);
        let is_next = match (piece, last_piece) {
            (None, None) => true,
            (Some(piece), Some(last)) => {
                let next = last.number.checked_add(1);
                piece.message == last.message && Some(piece.number) == next
            }
            _ => false,
        };
        let goes_on = first.is_some_and(|first| is_next && is_of_same_process(first, line));
        let is_indented = text.starts_with(b"\t") || text.starts_with(b"#011");
        if goes_on && is_indented {
            self.piece = piece;
            return Role::Continues;
        }
        if plain::head(first_line(valid(text))).is_some() {
            self.piece = piece;
            return Role::Begins;
        }
        // A long line is cut for syslog; its rest looks like anything.
        if goes_on && piece.is_some() {
            self.piece = piece;
            return Role::Continues;
        }
        Role::Alone
    }

    pub(super) fn facts<'a>(&mut self, text: &'a [u8]) -> Facts<'a> {
        if csv::begins(text) {
            return csv::facts(valid(text));
        }
        let (_, rest) = piece(text);
        if rest.starts_with(b"{") {
            return json::facts(rest);
        }
        let Some(head) = plain::head(first_line(valid(rest))) else { return Facts::default() };
        let pid = plain::pid(head.prefix);
        let severity = match head.word {
            plain::Word::Severity(severity) => {
                self.last = Some((pid, severity));
                Some(severity)
            }
            plain::Word::Further => {
                self.last.filter(|(last, _)| *last == pid).map(|(_, severity)| severity)
            }
        };
        plain::facts(&head, severity)
    }
}

/// `[5-1] ` at the start of a text, and what follows.
fn piece(text: &[u8]) -> (Option<Piece>, &[u8]) {
    let numbered = || {
        let end = text.iter().take(32).position(|byte| *byte == b']')?;
        let inside = std::str::from_utf8(text.get(..end)?.strip_prefix(b"[")?).ok()?;
        let (message, number) = inside.split_once('-')?;
        let rest = text.get(end + 1..)?.strip_prefix(b" ")?;
        Some((Piece { message: message.parse().ok()?, number: number.parse().ok()? }, rest))
    };
    numbered().map_or((None, text), |(piece, rest)| (Some(piece), rest))
}

/// Whether their senders did not say that they are of different processes.
fn is_of_same_process(one: &LogLine, other: &LogLine) -> bool {
    process(one) == process(other)
}

fn process(line: &LogLine) -> Option<&str> {
    line.fields.iter().find(|(name, _)| *name == "procid").map(|(_, value)| value)
}

/// A severity by PostgreSQL's name.
fn severity(name: &str) -> Option<Severity> {
    Some(match name {
        "PANIC" => Severity::Alert,
        "FATAL" => Severity::Critical,
        "ERROR" => Severity::Error,
        "WARNING" => Severity::Warning,
        "NOTICE" => Severity::Notice,
        "LOG" | "INFO" => Severity::Info,
        "DEBUG" | "DEBUG1" | "DEBUG2" | "DEBUG3" | "DEBUG4" | "DEBUG5" => Severity::Debug,
        _ => return None,
    })
}
