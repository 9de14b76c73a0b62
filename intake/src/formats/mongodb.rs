//! `MongoDB`'s log: a JSON object a line since 4.4, plain text before.
//!
//! <https://www.mongodb.com/docs/manual/reference/log-messages/>

use std::borrow::Cow;

use model::Severity;
use serde::Deserialize;

use super::facts::{Facts, bracketed, first_line, valid};
use super::time;

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    t: Time<'a>,
    #[serde(borrow)]
    s: Cow<'a, str>,
    #[serde(borrow)]
    c: Cow<'a, str>,
    id: Option<u64>,
    #[serde(borrow)]
    ctx: Cow<'a, str>,
    attr: Option<Attributes>,
}

#[derive(Deserialize)]
struct Time<'a> {
    #[serde(rename = "$date", borrow)]
    date: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Attributes {
    // Where it is not a text, it is not a namespace either.
    ns: Option<serde_json::Value>,
}

pub(super) fn facts(text: &[u8]) -> Facts<'_> {
    let found = if text.starts_with(b"{") { json(text) } else { plain(first_line(valid(text))) };
    found.unwrap_or_default()
}

fn json(text: &[u8]) -> Option<Facts<'_>> {
    let entry: Entry<'_> = serde_json::from_slice(text).ok()?;
    let severity = Some(severity(&entry.s)?);
    let sent_at = time::sent_at(&entry.t.date).and_then(|(at, _)| at);
    let namespace = entry.attr.and_then(|attributes| attributes.ns);
    let database = namespace
        .as_ref()
        .and_then(serde_json::Value::as_str)
        .map(|namespace| namespace.split_once('.').map_or(namespace, |(database, _)| database));
    let facts = Facts::new(severity, sent_at);
    Some(
        facts
            .with("component", Some(entry.c).filter(|component| component != "-"))
            .with("context", Some(entry.ctx))
            .with("id", entry.id.map(|id| id.to_string()))
            .with("database", database.map(str::to_owned)),
    )
}

/// `time severity component [context] message`.
fn plain(text: &str) -> Option<Facts<'_>> {
    let (sent_at, rest) = time::sent_at(text)?;
    let (level, rest) = rest.strip_prefix(' ')?.split_once(' ')?;
    let severity = Some(severity(level)?);
    let (component, rest) = rest.trim_start_matches(' ').split_once(' ')?;
    let (context, _) = bracketed(rest.trim_start_matches(' '))?;
    let component = Some(component).filter(|component| *component != "-");
    let facts = Facts::new(severity, sent_at);
    Some(facts.with("component", component).with("context", Some(context)))
}

fn severity(level: &str) -> Option<Severity> {
    Some(match level {
        "F" => Severity::Critical,
        "E" => Severity::Error,
        "W" => Severity::Warning,
        "I" => Severity::Info,
        "D" | "D1" | "D2" | "D3" | "D4" | "D5" => Severity::Debug,
        _ => return None,
    })
}
