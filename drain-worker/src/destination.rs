//! Where lines go: one file per kind of endpoint, each with the same anatomy: a configuration that
//! is parsed and checked, a connection, sending a batch, and what each failure means.

pub(crate) mod https_post;
pub(crate) mod syslog_tls;

use std::time::Duration;

use async_trait::async_trait;

use crate::batch::Batch;
use crate::trace::Trace;

/// What to do about a batch that could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

/// A batch was not delivered.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) remedy: Remedy,
    /// For the drain's owner; without credentials.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(remedy: Remedy, message: impl Into<String>) -> Self {
        Self { remedy, message: message.into() }
    }
}

/// An endpoint. After a failure it is as new: nothing that was sent before counts.
#[async_trait]
pub(crate) trait Destination: Send {
    /// Sends a batch, connecting if need be.
    async fn send(&mut self, batch: &Batch, trace: &mut Trace) -> Result<(), Failure>;

    /// Waits until some of the batches sent are surely delivered; answers how many, from the oldest.
    /// With nothing unconfirmed it watches the connection and does not return. `pressed` says that
    /// nothing more is sent until one is confirmed. Dropping the future loses nothing.
    async fn confirmed(&mut self, pressed: bool) -> Result<usize, Failure>;

    /// The object to keep of an encoded line that was refused.
    fn rejected(&self, line: &[u8]) -> serde_json::Value;
}
