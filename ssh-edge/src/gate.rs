//! Record before reveal.
//!
//! A record goes in, and its event comes back out only when a block that holds it is durable. What
//! an engineer sees is taken from what comes back, so nothing can be shown that is not in the stream.
//!
//! Invariants: of one environment at most one append is in flight, and records are appended in the
//! order they were submitted; a failed append is repeated with the same block until it succeeds. No
//! timer delays a record: it is sent at once when nothing is in flight, and otherwise with all that
//! came in the meantime. What waits here is bounded by the sessions' windows (`session::window`).

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use log_stream::{AppendError, Block, LogStream};
use model::{Environment, Event, Id, Record};
use rand::Rng as _;
use service::Shutdown;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// A block is closed when its records hold this many bytes.
const BLOCK_BYTES: usize = 1 << 20;
/// A block is closed when it has this many records.
const BLOCK_RECORDS: usize = 4096;
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
    lanes: Arc<Mutex<HashMap<Id<Environment>, Lane>>>,
}

/// What waits for the next block of an environment. It exists while a task appends for it.
type Lane = VecDeque<Waiting>;

struct Waiting {
    record: Record,
    durable: oneshot::Sender<Event>,
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
            lanes: Arc::default(),
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
            for Waiting { record, durable } in waiting {
                drop(durable.send(record.event));
            }
            return durables;
        };
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if self.abandoned.is_cancelled() || self.fenced.is_cancelled() {
            // Dropping the senders tells the callers.
        } else if let Some(lane) = lanes.get_mut(&environment) {
            lane.extend(waiting);
        } else {
            lanes.insert(environment, waiting.into());
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
        while let Some((records, durables)) = self.next_batch(environment) {
            let block = match Block::encode(environment, &records) {
                Ok(block) => Arc::new(block),
                Err(error) => {
                    // Dropping the senders ends the sessions: they may show nothing of this.
                    tracing::error!(%environment, %error, "records cannot be encoded");
                    continue;
                }
            };
            if !self.append(&*stream, environment, block).await {
                self.lanes.lock().unwrap_or_else(PoisonError::into_inner).remove(&environment);
                return;
            }
            for (record, durable) in records.into_iter().zip(durables) {
                // A session that has ended in the meantime does not wait for its records.
                drop(durable.send(record.event));
            }
        }
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

    fn next_batch(
        &self,
        environment: Id<Environment>,
    ) -> Option<(Vec<Record>, Vec<oneshot::Sender<Event>>)> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.get_mut(&environment)?;
        if lane.is_empty() {
            lanes.remove(&environment);
            return None;
        }
        let mut bytes = 0;
        let count = lane
            .iter()
            .take(BLOCK_RECORDS)
            .take_while(|waiting| {
                let before = bytes;
                bytes += cost(&waiting.record.event);
                before < BLOCK_BYTES
            })
            .count();
        Some(lane.drain(..count).map(|waiting| (waiting.record, waiting.durable)).unzip())
    }
}

/// About how much memory an event takes until it is durable, in bytes.
#[must_use]
pub(crate) fn cost(event: &Event) -> usize {
    const FIXED: usize = 256;
    FIXED
        + match event {
            Event::Output { bytes, .. } | Event::Input { bytes, .. } | Event::Line { bytes } => {
                bytes.len()
            }
            Event::Exec { command } => command.len(),
            _ => 0,
        }
}

#[cfg(test)]
mod tests;
