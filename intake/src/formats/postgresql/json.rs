//! `log_destination = jsonlog`, since version 15.
//!
//! <https://www.postgresql.org/docs/current/runtime-config-logging.html#RUNTIME-CONFIG-LOGGING-JSONLOG>

use std::borrow::Cow;

use serde::Deserialize;

use super::super::facts::Facts;
use super::super::time;

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    error_severity: Cow<'a, str>,
    pid: Option<u32>,
    user: Option<String>,
    dbname: Option<String>,
    state_code: Option<String>,
    application_name: Option<String>,
}

pub(super) fn facts(text: &[u8]) -> Facts<'_> {
    read(text).unwrap_or_default()
}

fn read(text: &[u8]) -> Option<Facts<'_>> {
    let entry: Entry<'_> = serde_json::from_slice(text).ok()?;
    let severity = Some(super::severity(&entry.error_severity)?);
    let sent_at = time::sent_at(&entry.timestamp).and_then(|(at, _)| at);
    let facts = Facts::new(severity, sent_at);
    Some(
        facts
            .with("user", entry.user)
            .with("database", entry.dbname)
            .with("pid", entry.pid.map(|pid| pid.to_string()))
            .with("sqlstate", entry.state_code.filter(|state| state != "00000"))
            .with("application_name", entry.application_name),
    )
}
