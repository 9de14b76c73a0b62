//! The logs of `MariaDB` and `MySQL`: errors, and slow queries.
//!
//! A slow query's statement may have any lines, and the log does not mark its end: it goes on until the next entry
//! begins, or nothing comes for a while.

use model::{Severity, Timestamp};

use super::Role;
use super::facts::{Facts, bracketed, first_line, valid};
use super::time;

const TIME: &str = "# Time: ";
const USER: &str = "# User@Host: ";
/// What the server writes when it opens the log of slow queries.
const BANNER: &str = ". started with:";

/// Reads the lines of one server.
#[derive(Debug, Default)]
pub(super) struct MariaDb {
    /// What waits has only its time so far, which is said when the second changes.
    is_only_time: bool,
}

impl MariaDb {
    pub(super) fn role(&mut self, text: &[u8], is_waiting: bool) -> Role {
        let was_only_time = std::mem::take(&mut self.is_only_time) && is_waiting;
        if text.starts_with(TIME.as_bytes()) {
            self.is_only_time = true;
            return Role::Begins;
        }
        if text.starts_with(USER.as_bytes()) {
            return if was_only_time { Role::Continues } else { Role::Begins };
        }
        let is_other = || text.ends_with(BANNER.as_bytes()) || error(valid(text)).is_some();
        if is_waiting && !is_other() { Role::Continues } else { Role::Alone }
    }
}

pub(super) fn facts(text: &[u8]) -> Facts<'_> {
    let text = valid(text);
    if text.starts_with(TIME) || text.starts_with(USER) {
        slow_query(text)
    } else {
        error(first_line(text)).unwrap_or_default()
    }
}

/// `time thread [level] [code] [subsystem] message`, of which versions leave out some.
fn error(text: &str) -> Option<Facts<'_>> {
    let (sent_at, rest) = time::sent_at(text).or_else(|| short_time(text))?;
    let rest = rest.trim_start_matches(' ');
    let after_thread = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let thread = rest.strip_suffix(after_thread).filter(|thread| !thread.is_empty());
    let (level, rest) = bracketed(after_thread.trim_start_matches(' '))?;
    // MySQL marks what everybody should see as `System`; notes are chatter.
    let severity = match level.to_ascii_lowercase().as_str() {
        "error" => Severity::Error,
        "warning" | "warn" => Severity::Warning,
        "system" => Severity::Notice,
        "note" => Severity::Info,
        _ => return None,
    };
    let code = bracketed(rest).filter(|(code, _)| code.starts_with("MY-"));
    let subsystem = code.and_then(|(_, rest)| bracketed(rest)).map(|(subsystem, _)| subsystem);
    let facts = Facts::new(Some(severity), sent_at);
    let facts = facts.with("thread_id", thread).with("error_code", code.map(|(code, _)| code));
    Some(facts.with("subsystem", subsystem))
}

/// `261128 15:40:46` of old versions, without a zone.
fn short_time(text: &str) -> Option<(Option<Timestamp>, &str)> {
    let (date, rest) = text.split_once(' ')?;
    let (time, rest) = rest.trim_start_matches(' ').split_once(' ')?;
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_time = time.split(':').count() == 3 && time.split(':').all(is_digits);
    (date.len() == 6 && is_digits(date) && is_time).then_some((None, rest))
}

fn slow_query(text: &str) -> Facts<'_> {
    let mut facts = Facts::default();
    let mut epoch = None;
    for line in text.split('\n') {
        if let Some(time) = line.strip_prefix(TIME) {
            facts.sent_at = time::sent_at(time).and_then(|(at, _)| at);
        } else if let Some(user) = line.strip_prefix(USER) {
            facts = account(facts, user);
        } else if let Some(pairs) = line.strip_prefix("# ") {
            facts = measures(facts, pairs);
        } else if let Some(database) = line.strip_prefix("use ") {
            let database = database.trim_end_matches(';').trim_matches('`');
            facts = facts.with("database", Some(database));
        } else if let Some(seconds) = line.strip_prefix("SET timestamp=") {
            epoch = seconds.trim_end_matches(';').parse::<u64>().ok();
            // The statement follows, which may say anything.
            break;
        }
    }
    let of_epoch = || epoch?.checked_mul(1_000_000_000).map(Timestamp::from_nanos);
    facts.sent_at = facts.sent_at.or_else(of_epoch);
    facts
}

/// `app[app] @ host [address]`: who the server took it for, and who it said it is.
fn account<'a>(facts: Facts<'a>, text: &'a str) -> Facts<'a> {
    let Some((user, client)) = text.split_once(" @ ") else { return facts };
    let user = user.split_once('[').map_or(user, |(_, said)| said.trim_end_matches(']'));
    let (host, rest) = client.split_once('[').unwrap_or((client, ""));
    let (address, rest) = rest.split_once(']').unwrap_or((rest, ""));
    let client = Some(host.trim()).filter(|host| !host.is_empty()).or(Some(address));
    measures(facts.with("user", Some(user)).with("client", client), rest)
}

/// `Query_time: 0.000098  Lock_time: 0.000000  Rows_sent: 1`; a value may be empty.
fn measures<'a>(mut facts: Facts<'a>, text: &'a str) -> Facts<'a> {
    let mut words = text.split_ascii_whitespace().peekable();
    while let Some(name) = words.next() {
        let Some(name) = name.strip_suffix(':') else { continue };
        let value = words.next_if(|value| !value.ends_with(':'));
        let name = match name {
            "Query_time" => "query_time",
            "Lock_time" => "lock_time",
            "Rows_sent" => "rows_sent",
            "Rows_examined" => "rows_examined",
            "Rows_affected" => "rows_affected",
            "Thread_id" | "Id" => "thread_id",
            "Schema" => "database",
            _ => continue,
        };
        facts = facts.with(name, value);
    }
    facts
}
