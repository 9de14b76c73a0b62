//! What senders know of what they have sent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// By all of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(crate) http: HttpSent,
    /// Connections with syslog, in their order: the lines of each follow those of the one before.
    pub(crate) syslog: Vec<Connection>,
    /// Why there was no container, if there was none.
    pub(crate) no_container: Option<String>,
}

/// Over HTTP.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct HttpSent {
    /// Lines in all batches, numbered from 0.
    pub(crate) lines: u64,
    /// The first so many of them are acknowledged.
    pub(crate) acknowledged: u64,
    pub(crate) batches: u64,
    pub(crate) tries: u64,
    /// How tries were answered, and how often.
    pub(crate) answers: BTreeMap<String, u64>,
}

/// A connection with syslog over TLS.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Connection {
    pub(crate) intake: usize,
    /// The number of its first line.
    pub(crate) first: u64,
    /// When lines were written, in seconds after the start, and how many at once.
    pub(crate) written: Vec<(f64, u64)>,
    pub(crate) ended: f64,
    pub(crate) end: End,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    /// The sender closed it in order.
    Closed,
    /// The sender reset it.
    Cut,
    /// It broke.
    Broken,
}

impl Connection {
    /// How many lines were written.
    pub(crate) fn lines(&self) -> u64 {
        self.written.iter().map(|(_, lines)| lines).sum()
    }

    /// When the line of a number was written.
    pub(crate) fn written_at(&self, number: u64) -> Option<f64> {
        let mut next = self.first;
        self.written.iter().find_map(|(at, lines)| {
            next += lines;
            (number < next).then_some(*at)
        })
    }
}
