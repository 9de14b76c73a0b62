//! Record before reveal.
//!
//! A record goes in, and its event comes back out only when a block that holds it is durable. What
//! an engineer sees is taken from what comes back, so nothing can be shown that is not in the stream.
//!
//! Invariants: of one environment at most one append is in flight, and records are appended in the
//! order they were submitted; a failed append is repeated with the same block until it succeeds. No
//! timer delays what a key or a small command prints: it is sent at once when nothing is in flight,
//! and otherwise with all that came in the meantime. Bulk output is different: the next block is
//! packed while the one before is in flight, and what follows a bulk block gathers for a moment.
//! What waits here is bounded by the sessions' windows (`session::window`), and by two packed
//! blocks of each environment.

mod lanes;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use log_stream::{AppendError, Block, LogStream};
use model::{Environment, Event, Id, Record};
use rand::Rng as _;
use service::Shutdown;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use lanes::{Lanes, Packed, Waiting};

/// A block is closed when its records hold this many bytes.
const BLOCK_BYTES: usize = 1 << 20;
/// A block is closed when it has this many records.
const BLOCK_RECORDS: usize = 4096;
/// A block of this many bytes is bulk output: nobody waits for a single byte of it.
const BULK: usize = 64 << 10;
/// After a bulk block, the next waits until it has this many bytes, ...
const GATHERED: usize = 256 << 10;
/// ... but no longer than this.
const GATHERING: Duration = Duration::from_millis(1);
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(2);

/// The one way of records into the stream. Clones share it.
#[derive(Clone)]
pub(crate) struct Gate {
    /// `None`: nothing is recorded.
    stream: Option<Arc<dyn LogStream>>,
    tasks: Shutdown,
    abandoned: CancellationToken,
    fenced: CancellationToken,
    lanes: Lanes,
}

/// The process stopped, or was fenced off, before the record was known to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record is not known to be durable")]
pub(crate) struct NotDurable;

/// Resolves to the record's event when it is durable.
#[derive(Debug)]
pub(crate) struct Durable(oneshot::Receiver<Event>);

impl Future for Durable {
    type Output = Result<Event, NotDurable>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(|_| NotDurable)
    }
}

impl Gate {
    /// A gate in front of a stream; its tasks run under `tasks`.
    #[must_use]
    pub(crate) fn new(stream: Arc<dyn LogStream>, tasks: Shutdown) -> Self {
        Self { stream: Some(stream), ..Self::open(tasks) }
    }

    /// A gate that keeps nothing and gives every event back at once: only to measure what
    /// recording costs.
    #[must_use]
    pub(crate) fn open(tasks: Shutdown) -> Self {
        Self {
            stream: None,
            tasks,
            abandoned: CancellationToken::new(),
            fenced: CancellationToken::new(),
            lanes: Lanes::default(),
        }
    }

    /// The same gate in front of another stream, with nothing waiting.
    #[must_use]
    pub(crate) fn renewed(&self, stream: Arc<dyn LogStream>) -> Self {
        let abandoned = self.abandoned.clone();
        Self { abandoned, ..Self::new(stream, self.tasks.clone()) }
    }

    /// Takes records of one environment and gives each its future, in the same order. Records of
    /// one call get into the same block if they fit.
    pub(crate) fn submit(
        &self,
        environment: Id<Environment>,
        records: impl IntoIterator<Item = Record>,
    ) -> Vec<Durable> {
        let (waiting, durables): (Vec<_>, Vec<_>) = records
            .into_iter()
            .map(|record| {
                let (durable, receiver) = oneshot::channel();
                (Waiting { record, durable }, Durable(receiver))
            })
            .unzip();
        let Some(stream) = &self.stream else {
            waiting.into_iter().for_each(Waiting::reveal);
            return durables;
        };
        if self.abandoned.is_cancelled() || self.fenced.is_cancelled() {
            // Dropping the senders tells the callers.
        } else if self.lanes.put(environment, waiting) {
            self.tasks.spawn(self.clone().append_all(stream.clone(), environment));
        }
        durables
    }

    /// Gives up what is not durable yet: for the end of the process.
    pub(crate) fn abandon(&self) {
        self.abandoned.cancel();
    }

    /// Waits until that is so.
    pub(crate) async fn abandoned(&self) {
        self.abandoned.cancelled().await;
    }

    /// Whether the stream takes nothing more from this appender: another edge has taken its
    /// sessions over.
    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.is_cancelled()
    }

    async fn append_all(self, stream: Arc<dyn LogStream>, environment: Id<Environment>) {
        let mut packed_ahead = None;
        loop {
            let packed = match packed_ahead.take() {
                Some(packed) => packed,
                None => match self.lanes.take(environment) {
                    None => return,
                    Some(batch) => match batch.pack(environment) {
                        Some(packed) => packed,
                        None => continue,
                    },
                },
            };
            let is_bulk = packed.bytes() >= BULK;
            let answered = CancellationToken::new();
            let append = async {
                let durable = self.append(&*stream, environment, packed.block.clone()).await;
                if durable {
                    packed.reveal();
                }
                answered.cancel();
                durable
            };
            let (durable, next) = tokio::join!(append, self.pack_ahead(environment, &answered));
            if !durable {
                return self.lanes.remove(environment);
            }
            packed_ahead = next;
            if is_bulk && packed_ahead.is_none() {
                let gathered = self.lanes.until(environment, GATHERED);
                drop(tokio::time::timeout(GATHERING, gathered).await);
            }
        }
    }

    /// Packs the next block as soon as there is enough for a whole one; nothing if the append in
    /// flight is `answered` before.
    async fn pack_ahead(
        &self,
        environment: Id<Environment>,
        answered: &CancellationToken,
    ) -> Option<Packed> {
        // Losing either arm loses nothing: both only wait.
        tokio::select! {
            () = answered.cancelled() => return None,
            () = self.lanes.until(environment, BLOCK_BYTES) => {}
        }
        self.lanes.take(environment)?.pack(environment)
    }

    /// Appends until it succeeds; false if the process stops first, or is fenced off.
    async fn append(
        &self,
        stream: &dyn LogStream,
        environment: Id<Environment>,
        block: Arc<Block>,
    ) -> bool {
        let mut delay = FIRST_RETRY;
        loop {
            // Losing the append loses nothing: only a stopping process does, and reveals nothing.
            let outcome = tokio::select! {
                () = self.abandoned.cancelled() => return false,
                outcome = stream.append(block.clone()) => outcome,
            };
            let Err(error) = outcome else { return true };
            if matches!(error, AppendError::Fenced) {
                tracing::warn!(%environment, %error, "other edges have closed its sessions");
                self.fenced.cancel();
                return false;
            }
            tracing::warn!(%environment, %error, "records are not durable yet; sessions wait");
            let jittered = delay.mul_f64(rand::rng().random_range(0.5..1.0));
            tokio::select! {
                () = self.abandoned.cancelled() => return false,
                () = tokio::time::sleep(jittered) => {}
            }
            delay = (delay * 2).min(LONGEST_RETRY);
        }
    }
}

/// About how much memory an event takes until it is durable, in bytes.
#[must_use]
pub(crate) fn cost(event: &Event) -> usize {
    const FIXED: usize = 256;
    FIXED
        + match event {
            Event::Output { bytes, .. } | Event::Input { bytes, .. } => bytes.len(),
            Event::Exec { command } => command.len(),
            _ => 0,
        }
}

#[cfg(test)]
mod tests;
