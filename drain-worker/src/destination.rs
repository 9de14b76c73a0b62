//! Where lines go: one file per kind of endpoint, each with the same anatomy: a configuration that
//! is parsed and checked, a connection, sending a batch, and what each failure means.

pub(crate) mod datadog;
pub(crate) mod elasticsearch;
mod http;
pub(crate) mod https_post;
pub(crate) mod insightops;
pub(crate) mod logdna;
pub(crate) mod loki;
pub(crate) mod otlp_http;
pub(crate) mod papertrail;
pub(crate) mod s3;
pub(crate) mod slack;
pub(crate) mod solarwinds;
pub(crate) mod splunk_hec;
pub(crate) mod sumologic;
pub(crate) mod syslog_tls;
pub(crate) mod webhook;

pub(crate) use http::{HttpClient, HttpConfigError, uri};

use std::borrow::Cow;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::batch::{Batch, BatchLimits};
use crate::concurrency::Concurrency;
use crate::lines::Line;
use crate::trace::Trace;

/// What to do about a batch that could not be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Send everything unconfirmed again, after a while; the endpoint may say after how long.
    Retry(Option<Duration>),
    /// A connection that worked has ended: connect again at once, then retry as above.
    Reconnect,
    /// It is not the lines' fault (a wrong token, a wrong path): keep them, and try again rarely.
    Park,
    /// Too large: send smaller batches.
    Halve,
    /// Some line of it is refused: find it.
    Isolate,
    /// Of its first `upto` lines, one at least, these are refused, by their numbers, each for a reason,
    /// and the others are delivered; what follows them is not.
    Refuse { lines: Vec<(usize, String)>, upto: usize },
}

/// A batch was not delivered.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) remedy: Remedy,
    /// For the drain's owner; without credentials.
    pub(crate) message: String,
    /// What of the batch was not delivered, to be sent in its place, where it was divided: the failure is the
    /// first one's.
    pub(crate) left: Option<Vec<Batch>>,
    /// The endpoint may have taken some of it all the same.
    pub(crate) in_doubt: bool,
}

impl Failure {
    pub(crate) fn new(remedy: Remedy, message: impl Into<String>) -> Self {
        Self { remedy, message: message.into(), left: None, in_doubt: false }
    }

    /// The endpoint may have taken some of it all the same.
    pub(crate) fn in_doubt(self) -> Self {
        Self { in_doubt: true, ..self }
    }
}

/// An endpoint. After a failure it is as new: nothing that was sent before counts.
#[async_trait]
pub(crate) trait Destination: Send {
    /// Batches may be divided into requests within these limits from now on. Answers how many are sent at a
    /// time; None where a batch is always one.
    fn divide(&mut self, _limits: BatchLimits) -> Option<Concurrency> {
        None
    }

    /// Sends a batch, connecting if need be.
    async fn send(&mut self, batch: &Batch, trace: &mut Trace) -> Result<(), Failure>;

    /// Waits until some of the batches sent are surely delivered; answers how many, from the oldest.
    /// With nothing unconfirmed it watches the connection and does not return. `pressed` says that
    /// nothing more is sent until one is confirmed. Dropping the future loses nothing.
    async fn confirmed(&mut self, pressed: bool) -> Result<usize, Failure>;

    /// The object to keep of an encoded line that was refused.
    fn rejected(&self, line: &[u8]) -> Value;
}

/// Fields as a JSON object.
fn object(fields: Vec<(Cow<'static, str>, String)>) -> Map<String, Value> {
    fields.into_iter().map(|(name, value)| (name.into_owned(), value.into())).collect()
}

/// Adds what the line's text says, where it is JSON, to an object.
fn add_json(object: &mut Value, line: &Line<'_>) {
    if let (Some(json), Some(object)) = (line.extras.json, object.as_object_mut()) {
        object.insert("json".to_owned(), json.clone().into());
    }
}

/// Writes a JSON value on one line, with something before and after it.
fn write_json(out: &mut Vec<u8>, before: &[u8], value: &Value, after: &[u8]) {
    out.extend_from_slice(before);
    // Writing to a Vec cannot fail.
    drop(serde_json::to_writer(&mut *out, value));
    out.extend_from_slice(after);
}
