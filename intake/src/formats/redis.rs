//! Redis' log, and Valkey's.
//!
//! A line: `pid:role day month year time level message` (`serverLogRaw` in the source). A crash report takes some
//! hundred lines.

use model::Severity;

use super::Role;
use super::facts::{Facts, first_line, valid};

const REPORT_BEGINS: &[u8] = b"=== REDIS BUG REPORT START";
const REPORT_ENDS: &[u8] = b"=== REDIS BUG REPORT END";

pub(super) fn role(text: &[u8], is_waiting: bool) -> Role {
    if text.starts_with(REPORT_BEGINS) {
        Role::Begins
    } else if !is_waiting {
        Role::Alone
    } else if text.starts_with(REPORT_ENDS) {
        Role::Ends
    } else {
        Role::Continues
    }
}

pub(super) fn facts(text: &[u8]) -> Facts<'_> {
    let is_report = text.starts_with(REPORT_BEGINS);
    let text = valid(text);
    // A report's second line says who writes it.
    let text = if is_report { text.split_once('\n').map_or("", |(_, rest)| rest) } else { text };
    let mut facts = line(first_line(text)).unwrap_or_default();
    if is_report {
        facts.severity = Some(Severity::Critical);
    }
    facts
}

fn line(text: &str) -> Option<Facts<'_>> {
    let (pid, rest) = text.split_once(':')?;
    let mut words = rest.split(' ');
    let role = match words.next()? {
        "X" => "sentinel",
        "C" => "child",
        "S" => "replica",
        "M" => "master",
        _ => return None,
    };
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    // Of a time that does not say its zone only the form is of use.
    let [day, _, year, time] = [words.next()?, words.next()?, words.next()?, words.next()?];
    if ![pid, day, year].into_iter().all(is_number) || !time.contains(':') {
        return None;
    }
    let severity = match words.next()? {
        "." => Severity::Debug,
        "-" => Severity::Info,
        "*" => Severity::Notice,
        "#" => Severity::Warning,
        _ => return None,
    };
    let facts = Facts::new(Some(severity), None);
    Some(facts.with("pid", Some(pid)).with("role", Some(role)))
}
