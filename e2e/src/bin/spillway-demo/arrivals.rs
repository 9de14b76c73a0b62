//! What an endpoint has received of a session, whichever format it came in.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context as _, Result};
use serde_json::Value;
use syslog_loose::{Variant, parse_message};

/// One delivered line.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// Its fields, by the names that all formats share.
    pub fields: BTreeMap<String, String>,
    /// What it says.
    pub message: String,
    /// As it was sent.
    pub raw: String,
}

impl Arrival {
    /// A field; empty if it is not there.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    fn from_syslog(raw: &str) -> Self {
        let parsed = parse_message(raw, Variant::RFC5424);
        let parameters = parsed.structured_data.iter().flat_map(|element| &element.params);
        Self {
            fields: parameters
                .map(|(name, value)| ((*name).to_owned(), unescaped(value)))
                .collect(),
            message: parsed.msg.to_owned(),
            raw: raw.to_owned(),
        }
    }

    fn from_json(raw: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(raw).context("the HTTPS receiver kept no JSON")?;
        let mut fields: BTreeMap<_, _> = value
            .as_object()
            .context("the HTTPS receiver kept no JSON object")?
            .iter()
            .map(|(name, value)| {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                (name.clone(), text)
            })
            .collect();
        let message = fields.remove("message").unwrap_or_default();
        Ok(Self { fields, message, raw: raw.to_owned() })
    }
}

/// The messages in rsyslog's file, each once, in the session's order.
pub(crate) fn of_syslog(file: &str) -> Vec<Arrival> {
    in_order(file.lines().map(Arrival::from_syslog).collect())
}

/// The lines in the HTTPS receiver's file, each once, in the session's order.
pub(crate) fn of_https(file: &str) -> Result<Vec<Arrival>> {
    let arrivals: Result<Vec<_>> = file.lines().map(Arrival::from_json).collect();
    Ok(in_order(arrivals?))
}

/// Delivery is at least once: what came twice has one id.
fn in_order(mut arrivals: Vec<Arrival>) -> Vec<Arrival> {
    let mut seen = HashSet::new();
    arrivals.retain(|arrival| seen.insert(arrival.field("id").to_owned()));
    let number = |arrival: &Arrival, name| arrival.field(name).parse::<u64>().unwrap_or(0);
    arrivals.sort_by_key(|arrival| (number(arrival, "seq"), number(arrival, "offset")));
    arrivals
}

fn unescaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        // RFC 5424, section 6.3.3.
        text.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    text
}
