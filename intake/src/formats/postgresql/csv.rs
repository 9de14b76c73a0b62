//! `log_destination = csvlog`: columns as the versions since 9.0 have them in common.
//!
//! <https://www.postgresql.org/docs/current/runtime-config-logging.html#RUNTIME-CONFIG-LOGGING-CSVLOG>

use std::borrow::Cow;

use super::super::facts::{Facts, first_line, valid};
use super::super::time;

const USER: usize = 1;
const DATABASE: usize = 2;
const PID: usize = 3;
const SEVERITY: usize = 11;
const SQLSTATE: usize = 12;
const APPLICATION: usize = 22;

/// Whether an entry begins. Only what follows its severity may have several lines.
pub(super) fn begins(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_digit)
        && Columns(Some(first_line(valid(text))))
            .nth(SEVERITY)
            .is_some_and(|column| super::severity(&column).is_some())
}

/// Whether a quote that was open is closed at the end of this, and the other way round.
pub(super) fn turns_quote(text: &[u8]) -> bool {
    // A quote within quotes is doubled.
    memchr::memchr_iter(b'"', text).count() % 2 == 1
}

pub(super) fn facts(text: &str) -> Facts<'_> {
    let mut facts = Facts::default();
    for (index, column) in Columns(Some(text)).enumerate().take(APPLICATION + 1) {
        match index {
            0 => facts.sent_at = time::sent_at(text).and_then(|(at, _)| at),
            USER => facts = facts.with("user", Some(column)),
            DATABASE => facts = facts.with("database", Some(column)),
            PID => facts = facts.with("pid", Some(column)),
            SEVERITY => facts.severity = super::severity(&column),
            SQLSTATE => {
                facts = facts.with("sqlstate", Some(column).filter(|state| state != "00000"));
            }
            APPLICATION => facts = facts.with("application_name", Some(column)),
            _ => {}
        }
    }
    facts
}

/// The columns of what is left of an entry.
struct Columns<'a>(Option<&'a str>);

impl<'a> Iterator for Columns<'a> {
    type Item = Cow<'a, str>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.0.take()?;
        let Some(quoted) = text.strip_prefix('"') else {
            let (column, rest) =
                text.split_once(',').map_or((text, None), |(column, rest)| (column, Some(rest)));
            self.0 = rest;
            return Some(column.into());
        };
        let end = end_of_quoted(quoted).unwrap_or(quoted.len());
        let (column, rest) = quoted.split_at_checked(end)?;
        self.0 = rest.strip_prefix("\",");
        let is_plain = !column.contains('"');
        Some(if is_plain { column.into() } else { column.replace("\"\"", "\"").into() })
    }
}

/// Where the quote is that is not doubled.
fn end_of_quoted(text: &str) -> Option<usize> {
    let mut quotes = text.match_indices('"').map(|(at, _)| at).peekable();
    while let Some(at) = quotes.next() {
        if quotes.next_if_eq(&(at + 1)).is_none() {
            return Some(at);
        }
    }
    None
}
