//! What a message says (pure).
//!
//! Usual messages are read by hand (`usual`), for speed; what is unusual is read by `syslog_loose` (`loose`), which
//! makes the same of the usual ones, too. What neither can read is text.
//!
//! Invariant: no byte of a message's text is lost, whatever the message.

use std::borrow::Cow;

use model::{FieldsPacker, Severity, Timestamp};

use super::{loose, usual};
use crate::sources::{TOKEN_LENGTH, is_token};

/// The element of structured data that may have a token, as its parameter `token`.
const ELEMENT: &str = "spillway@32473";
/// What a message's fields have at most: parameters beyond are left out.
const FIELDS_BYTES: usize = 16 << 10;
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clockd", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

/// Which of the two ways a message is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// RFC 5424.
    New,
    /// RFC 3164, and what senders make of it.
    Old,
}

/// The month it is: RFC 3164's times have no year.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Today {
    year: i32,
    month: u32,
}

/// A message. Its text goes on to the end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) severity: Option<Severity>,
    pub(crate) facility: Option<u8>,
    pub(crate) sent_at: Option<Timestamp>,
    pub(crate) head: Head<'a>,
    /// Where the text begins.
    pub(crate) text: usize,
    /// Neither way of reading it fits.
    pub(crate) is_malformed: bool,
}

/// Who says it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    pub(crate) hostname: Option<&'a str>,
    pub(crate) app_name: Option<&'a str>,
    pub(crate) procid: Option<Cow<'a, str>>,
    pub(crate) msgid: Option<&'a str>,
    pub(crate) data: Vec<Element<'a>>,
}

/// An element of structured data.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    pub(crate) id: &'a str,
    pub(crate) parameters: Vec<(&'a str, Cow<'a, str>)>,
}

/// Reads a message that is not a usual one.
pub(crate) fn parse_unusual(message: &[u8], today: Today) -> Message<'_> {
    loose::parse(message, today).unwrap_or_else(|| usual::without_time(message))
}

impl Today {
    pub(crate) fn new(now: Timestamp) -> Self {
        let now = now.date_time();
        Self { year: now.year(), month: u8::from(now.month()).into() }
    }

    /// The year of a time in this month: around New Year it may be last year's, or already next year's.
    pub(crate) const fn year_of(self, month: u32) -> i32 {
        match (self.month, month) {
            (1, 12) => self.year - 1,
            (12, 1) => self.year + 1,
            _ => self.year,
        }
    }
}

/// The severity that a priority has (RFC 5424, section 6.2.1).
pub(crate) fn severity(priority: u8) -> Option<Severity> {
    Severity::ALL.get(usize::from(priority & 7)).copied()
}

impl Head<'_> {
    /// The token that it has, if any, and may be wrong.
    pub(crate) fn token(&self) -> Option<&str> {
        let of_element =
            |element: &'_ Element<'_>| element.id != ELEMENT && is_token(token_of_id(element.id));
        let parameter =
            self.data.iter().filter(|element| element.id == ELEMENT).find_map(|spillway| {
                spillway
                    .parameters
                    .iter()
                    .find(|(name, _)| *name == "token")
                    .map(|(_, token)| &**token)
            });
        parameter
            .or_else(|| self.data.iter().find(|e| of_element(e)).map(|e| token_of_id(e.id)))
            .or_else(|| self.app_name.map(token_of_name).filter(|name| is_token(name)))
    }

    /// Packs what it says, without this token.
    pub(crate) fn pack(
        &self,
        facility: Option<u8>,
        token: Option<&str>,
        fields: &mut FieldsPacker,
    ) {
        let mut push = |name: &str, value: &str| {
            // Only what is long enough is looked through.
            let has = |text: &str, token| text.len() >= TOKEN_LENGTH && text.contains(token);
            let has_token = token.is_some_and(|token| has(value, token) || has(name, token));
            if !has_token && fields.len() + name.len() + value.len() <= FIELDS_BYTES {
                fields.push(name, value);
            }
        };
        if let Some(hostname) = self.hostname {
            push("hostname", hostname);
        }
        if let Some(name) = self.app_name {
            // Of `TOKEN/name`, the name.
            let name = match token {
                Some(token) => {
                    name.strip_prefix(token).and_then(|n| n.strip_prefix('/')).unwrap_or(name)
                }
                None => name,
            };
            push("app_name", name);
        }
        if let Some(procid) = &self.procid {
            push("procid", procid);
        }
        if let Some(msgid) = self.msgid {
            push("msgid", msgid);
        }
        if let Some(facility) = facility.and_then(|facility| FACILITIES.get(usize::from(facility)))
        {
            push("facility", facility);
        }
        let mut full_name = String::new();
        for Element { id, parameters } in &self.data {
            let of_token = token.is_some_and(|token| token_of_id(id) == token);
            for (name, value) in parameters {
                if of_token {
                    push(name, value);
                } else {
                    full_name.clear();
                    full_name.extend([id, ".", name]);
                    push(&full_name, value);
                }
            }
        }
    }
}

/// `TOKEN` or `TOKEN@digits`, as services want them that take a token as an element's id.
fn token_of_id(id: &str) -> &str {
    match id.split_once('@') {
        Some((token, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => token,
        _ => id,
    }
}

/// `TOKEN` or `TOKEN/name`.
fn token_of_name(name: &str) -> &str {
    match name.get(..TOKEN_LENGTH) {
        Some(token) if name.as_bytes().get(TOKEN_LENGTH) == Some(&b'/') => token,
        _ => name,
    }
}

#[cfg(test)]
mod tests;
