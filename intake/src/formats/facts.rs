//! What a line says about itself.

use std::borrow::Cow;

use model::{Fields, LogLine, Severity, Timestamp};

/// What a line says about itself, as far as it is understood.
#[derive(Debug, Default)]
pub(super) struct Facts<'a> {
    pub(super) severity: Option<Severity>,
    pub(super) sent_at: Option<Timestamp>,
    fields: Vec<(&'static str, Cow<'a, str>)>,
}

impl<'a> Facts<'a> {
    pub(super) const fn new(severity: Option<Severity>, sent_at: Option<Timestamp>) -> Self {
        Self { severity, sent_at, fields: Vec::new() }
    }

    /// With a field, if there is a value; the first of a name stays.
    pub(super) fn with(
        mut self,
        name: &'static str,
        value: Option<impl Into<Cow<'a, str>>>,
    ) -> Self {
        if let Some(value) = value.map(Into::into)
            && !value.is_empty()
            && self.fields.iter().all(|(other, _)| *other != name)
        {
            self.fields.push((name, value));
        }
        self
    }

    /// Adds what is known to what came with the line, whose own fields keep their values: a database that names
    /// something has the right to its name, but not to that of the machine it runs on.
    pub(super) fn add_to(self, line: &mut LogLine) {
        line.severity = self.severity.or(line.severity);
        line.sent_at = self.sent_at.or(line.sent_at);
        if self.fields.is_empty() {
            return;
        }
        let came = std::mem::take(&mut line.fields);
        let is_new = |name: &str| came.iter().all(|(other, _)| other != name);
        let own = self.fields.iter().filter(|(name, _)| is_new(name));
        let own = own.map(|(name, value)| (*name, value.as_ref()));
        line.fields = came.iter().chain(own).collect::<Fields>();
    }
}

/// As much of a text as is UTF-8.
pub(super) fn valid(text: &[u8]) -> &str {
    match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => {
            let valid = text.get(..error.valid_up_to()).unwrap_or_default();
            std::str::from_utf8(valid).unwrap_or_default()
        }
    }
}

/// The first line of a text.
pub(super) fn first_line(text: &str) -> &str {
    text.split_once('\n').map_or(text, |(first, _)| first)
}

/// What is between brackets at the start of a text, and what follows.
pub(super) fn bracketed(text: &str) -> Option<(&str, &str)> {
    let (inside, rest) = text.strip_prefix('[')?.split_once(']')?;
    Some((inside, rest.trim_start_matches(' ')))
}
