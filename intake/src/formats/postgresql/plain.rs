//! Plain text, as written to standard error.
//!
//! What the prefix says is found by its form, as its format is not known here: the defaults of PostgreSQL and of
//! Debian, `user=%u,db=%d,app=%a`, and what resembles them.

use model::Severity;

use super::super::facts::Facts;
use super::super::time;

/// A longer prefix is none.
const LONGEST_PREFIX: usize = 1024;

/// A line's start.
pub(super) struct Head<'a> {
    pub(super) prefix: &'a str,
    pub(super) word: Word,
    message: &'a str,
}

/// What kind of line it is.
#[derive(Clone, Copy)]
pub(super) enum Word {
    /// A message.
    Severity(Severity),
    /// More on the message before.
    Further,
}

/// The start of a line, if it has a severity or what stands in its place.
pub(super) fn head(text: &str) -> Option<Head<'_>> {
    text.match_indices(":  ").take_while(|(at, _)| *at < LONGEST_PREFIX).find_map(|(at, _)| {
        let (before, message) = text.split_at_checked(at)?;
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let prefix = before.trim_end_matches(is_part);
        let word = word(before.strip_prefix(prefix)?)?;
        Some(Head { prefix, word, message: message.strip_prefix(":  ")? })
    })
}

fn word(text: &str) -> Option<Word> {
    match text {
        "DETAIL" | "HINT" | "QUERY" | "CONTEXT" | "LOCATION" | "BACKTRACE" | "STATEMENT" => {
            Some(Word::Further)
        }
        text => super::severity(text).map(Word::Severity),
    }
}

/// The process, which is in brackets in most prefixes.
pub(super) fn pid(prefix: &str) -> Option<u32> {
    prefix.split('[').skip(1).find_map(|text| text.split_once(']')?.0.parse().ok())
}

pub(super) fn facts<'a>(head: &Head<'a>, severity: Option<Severity>) -> Facts<'a> {
    let Head { prefix, message, .. } = *head;
    let sent_at = time::sent_at(prefix.trim_start_matches(['<', '['])).and_then(|(at, _)| at);
    let sqlstate = message.split_once(": ").map(|(state, _)| state).filter(|state| {
        let is_part = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        state.len() == 5
            && state.bytes().all(is_part)
            && state.bytes().any(|byte| byte.is_ascii_digit())
    });
    let account = prefix.split([' ', ':', ',']).find_map(account);
    let named = |names: &[&str], ends: &[char]| {
        names.iter().find_map(|name| value(prefix, name, ends)).filter(|value| is_known(value))
    };
    let ends = [',', ' ', ']', ')'];
    let user = named(&["user=", "u="], &ends).or(account.map(|(user, _)| user));
    let database =
        named(&["db=", "database=", "d="], &ends).or(account.map(|(_, database)| database));
    // May have spaces.
    let application = named(&["app=", "application=", "a="], &[',']);
    let facts = Facts::new(severity, sent_at);
    facts
        .with("user", user)
        .with("database", database)
        .with("pid", pid(prefix).map(|pid| pid.to_string()))
        .with("sqlstate", sqlstate.filter(|state| *state != "00000"))
        .with("application_name", application)
}

/// `user@database`.
fn account(word: &str) -> Option<(&str, &str)> {
    let (user, database) = word.rsplit_once('@')?;
    (is_known(user) && is_known(database)).then_some((user, database))
}

/// What follows a name in a prefix.
fn value<'a>(prefix: &'a str, name: &str, ends: &[char]) -> Option<&'a str> {
    let (_, value) = prefix.match_indices(name).find_map(|(at, _)| {
        let (before, rest) = prefix.split_at_checked(at)?;
        let is_whole = before.is_empty() || before.ends_with([' ', ',', '[', '(', ':']);
        is_whole.then_some((before, rest.strip_prefix(name)?))
    })?;
    let end = value.find(ends).unwrap_or(value.len());
    value.get(..end).map(str::trim)
}

/// PostgreSQL writes `[unknown]` for what it does not know yet.
fn is_known(value: &str) -> bool {
    !value.is_empty() && value != "[unknown]"
}
