//! What waits for the next block of each environment, in the order in which it came.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use log_stream::Block;
use model::{Environment, Event, Id, Record};
use tokio::sync::{Notify, oneshot};

use super::{BLOCK_BYTES, BLOCK_RECORDS, cost};

/// The environments for which a task appends. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Lanes(Arc<Mutex<HashMap<Id<Environment>, Lane>>>);

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// How many bytes the task of this environment waits for, while it does.
    wanted: Option<usize>,
    enough: Arc<Notify>,
}

/// A record, and who is told that it is durable.
pub(super) struct Waiting {
    pub(super) record: Record,
    pub(super) durable: oneshot::Sender<Event>,
}

impl Waiting {
    /// Gives the event back. A session that has ended in the meantime does not wait for it.
    pub(super) fn reveal(self) {
        drop(self.durable.send(self.record.event));
    }
}

/// What goes into one block.
pub(super) struct Batch {
    records: Vec<Record>,
    durables: Vec<oneshot::Sender<Event>>,
    bytes: usize,
}

/// A block, and its records until they are revealed.
pub(super) struct Packed {
    pub(super) block: Arc<Block>,
    batch: Batch,
}

impl Lanes {
    /// Puts records behind what waits; true if the environment has no task yet.
    pub(super) fn put(&self, environment: Id<Environment>, waiting: Vec<Waiting>) -> bool {
        let mut lanes = self.all();
        let is_new = !lanes.contains_key(&environment);
        let lane = lanes.entry(environment).or_default();
        lane.bytes += waiting.iter().map(|waiting| cost(&waiting.record.event)).sum::<usize>();
        lane.waiting.extend(waiting);
        if lane.wanted.is_some_and(|wanted| lane.has(wanted)) {
            lane.wanted = None;
            lane.enough.notify_one();
        }
        is_new
    }

    /// Takes as much as fits into a block. If nothing waits, the lane is gone: who puts something
    /// next starts a task.
    pub(super) fn take(&self, environment: Id<Environment>) -> Option<Batch> {
        let mut lanes = self.all();
        let lane = lanes.get_mut(&environment)?;
        if lane.waiting.is_empty() {
            lanes.remove(&environment);
            return None;
        }
        let mut bytes = 0;
        let count = lane
            .waiting
            .iter()
            .take(BLOCK_RECORDS)
            .map(|waiting| cost(&waiting.record.event))
            .take_while(|cost| {
                let room = bytes < BLOCK_BYTES;
                bytes += if room { *cost } else { 0 };
                room
            })
            .count();
        lane.bytes -= bytes;
        let (records, durables) =
            lane.waiting.drain(..count).map(|waiting| (waiting.record, waiting.durable)).unzip();
        Some(Batch { records, durables, bytes })
    }

    /// Waits until as many bytes wait, or as many records as a block holds. Losing this future
    /// loses nothing. Only the environment's task calls it.
    pub(super) async fn until(&self, environment: Id<Environment>, bytes: usize) {
        loop {
            let enough = {
                let mut lanes = self.all();
                let Some(lane) = lanes.get_mut(&environment) else { return };
                if lane.has(bytes) {
                    return;
                }
                lane.wanted = Some(bytes);
                lane.enough.clone()
            };
            enough.notified().await;
        }
    }

    /// Drops what waits.
    pub(super) fn remove(&self, environment: Id<Environment>) {
        self.all().remove(&environment);
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Id<Environment>, Lane>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    fn has(&self, bytes: usize) -> bool {
        self.bytes >= bytes || self.waiting.len() >= BLOCK_RECORDS
    }
}

impl Batch {
    /// `None` ends the sessions, as their senders are dropped: they may show nothing of this.
    pub(super) fn pack(self, environment: Id<Environment>) -> Option<Packed> {
        match Block::encode(environment, &self.records) {
            Ok(block) => Some(Packed { block: Arc::new(block), batch: self }),
            Err(error) => {
                tracing::error!(%environment, %error, "records cannot be encoded");
                None
            }
        }
    }
}

impl Packed {
    pub(super) const fn bytes(&self) -> usize {
        self.batch.bytes
    }

    /// Gives the events back, in order.
    pub(super) fn reveal(self) {
        let Batch { records, durables, .. } = self.batch;
        for (record, durable) in records.into_iter().zip(durables) {
            Waiting { record, durable }.reveal();
        }
    }
}
