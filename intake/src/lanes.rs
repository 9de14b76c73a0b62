//! The one way of lines into the stream.
//!
//! Each environment has a lane: what waits there goes into its next block. Of one environment at most one
//! append is in flight, so no timer delays a line when nothing is, and many share a commit when much comes.
//!
//! Invariants: a line is reported durable only when its block is; a producer's records are numbered without a gap
//! in the order in which they were submitted; a failed append is repeated with the same block until it succeeds;
//! sources take turns in a lane; and what waits is bounded for each source, each environment and the whole process.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use log_stream::{Block, LogStream};
use model::{Environment, Event, Id, LogLine, LogSource, Record};
use service::Shutdown;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::counts::Counts;
use crate::loops::Loops;
use crate::sources::Source;

mod long_line;
mod producer;

pub(crate) use long_line::{LINE_LIMIT, boundary, split};
pub(crate) use producer::Producer;

/// A block is closed when its records hold this many bytes.
pub(crate) const BLOCK_BYTES: usize = 1 << 20;
/// A block is closed when it has this many records.
pub(crate) const BLOCK_RECORDS: usize = 4096;
/// What a source puts into a block before the next one has its turn, about.
const TURN_BYTES: usize = 128 << 10;
/// KiB that wait at most: in the process, of an environment, of a source.
const PROCESS_KIB: usize = 96 << 10;
const ENVIRONMENT_KIB: usize = 32 << 10;
const SOURCE_KIB: usize = 4 << 10;
/// What a record takes besides its text and its fields.
const RECORD_BYTES: usize = 256;
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(2);

/// The process stops, and the lines are not known to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the intake stops")]
pub(crate) struct NotDurable;

/// What a sender keeps until its lines are durable: they may be slices of something much larger than they are.
pub(crate) type Kept = Arc<dyn Any + Send + Sync>;

/// Resolves when what was submitted is durable.
#[derive(Debug)]
pub(crate) struct Durable(oneshot::Receiver<()>);

impl Durable {
    /// Of nothing.
    fn already() -> Self {
        let (durable, receiver) = oneshot::channel();
        // It has just been made.
        durable.send(()).ok();
        Self(receiver)
    }
}

impl Future for Durable {
    type Output = Result<(), NotDurable>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(|_| NotDurable)
    }
}

/// The lanes. Clones share them.
#[derive(Clone)]
pub(crate) struct Lanes {
    stream: Arc<dyn LogStream>,
    counts: Counts,
    loops: Loops,
    tasks: Shutdown,
    abandoned: CancellationToken,
    process: Arc<Semaphore>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    lanes: HashMap<Id<Environment>, Lane>,
    // Gone with the last who waits or has something waiting.
    environments: HashMap<Id<Environment>, Weak<Semaphore>>,
    sources: HashMap<Id<LogSource>, Weak<Semaphore>>,
}

/// What waits for an environment's next block.
#[derive(Default)]
struct Lane {
    /// Whose turn it is.
    turns: VecDeque<Id<LogSource>>,
    waiting: HashMap<Id<LogSource>, VecDeque<Waiting>>,
    bytes: usize,
    /// Told when there is enough for a whole block.
    enough: Arc<Notify>,
}

struct Waiting {
    producer: Arc<Producer>,
    events: Vec<Event>,
    bytes: usize,
    durable: oneshot::Sender<()>,
    _room: Room,
}

/// Room for what waits, given back when it is durable; the semaphores live as long.
struct Room {
    _permits: [OwnedSemaphorePermit; 3],
    _kept: Option<Kept>,
}

/// What goes into one block.
#[derive(Default)]
struct Batch {
    records: Vec<Record>,
    submissions: Vec<Submitted>,
}

/// A block, and who waits for it.
struct Packed {
    block: Arc<Block>,
    submissions: Vec<Submitted>,
}

/// Of which source; lines, and their bytes.
type Submitted = (Id<LogSource>, usize, usize, Waiting);

impl Lanes {
    pub(crate) fn new(
        stream: Arc<dyn LogStream>,
        counts: Counts,
        loops: Loops,
        tasks: Shutdown,
    ) -> Self {
        Self {
            stream,
            counts,
            loops,
            tasks,
            abandoned: CancellationToken::new(),
            process: Arc::new(Semaphore::new(PROCESS_KIB)),
            shared: Arc::default(),
        }
    }

    /// Waits for room, then puts lines into their lane. Losing this future before it resolves loses the lines
    /// that are not there yet, and nothing of them is recorded. `kept` is dropped when none of them waits.
    pub(crate) async fn submit(
        &self,
        source: &Source,
        producer: &Arc<Producer>,
        lines: Vec<LogLine>,
        kept: Option<Kept>,
    ) -> Durable {
        let mut events = Vec::with_capacity(lines.len());
        for line in lines {
            if line.text.len() <= LINE_LIMIT {
                events.push(Event::Line(Box::new(line)));
            } else {
                events.extend(split(line).map(|line| Event::Line(Box::new(line))));
            }
        }
        self.submit_kept(source, producer, events, kept).await
    }

    /// The same for any events, which are no longer than [`LINE_LIMIT`].
    pub(crate) async fn submit_events(
        &self,
        source: &Source,
        producer: &Arc<Producer>,
        events: Vec<Event>,
    ) -> Durable {
        self.submit_kept(source, producer, events, None).await
    }

    async fn submit_kept(
        &self,
        source: &Source,
        producer: &Arc<Producer>,
        mut events: Vec<Event>,
        kept: Option<Kept>,
    ) -> Durable {
        self.loops.mark_events(source.of(), &mut events);
        let mut rest = events.into_iter().peekable();
        loop {
            let (mut some, mut bytes) = (Vec::new(), 0);
            while bytes < TURN_BYTES
                && some.len() < BLOCK_RECORDS
                && let Some(event) = rest.next()
            {
                bytes += cost(std::slice::from_ref(&event));
                some.push(event);
            }
            let durable = self.submit_some(source, producer, some, kept.clone()).await;
            // What a source puts into its lane becomes durable in that order, so the last tells of all.
            if rest.peek().is_none() {
                return durable;
            }
        }
    }

    async fn submit_some(
        &self,
        source: &Source,
        producer: &Arc<Producer>,
        events: Vec<Event>,
        kept: Option<Kept>,
    ) -> Durable {
        if events.is_empty() {
            return Durable::already();
        }
        let bytes = cost(&events);
        let [process, environment, of_source] = self.semaphores(source);
        // The narrowest first, so that who waits for its own room holds none of the others'.
        let of_source = acquire(of_source, kib(bytes, SOURCE_KIB)).await;
        let environment = acquire(environment, kib(bytes, ENVIRONMENT_KIB)).await;
        let process = acquire(process, kib(bytes, PROCESS_KIB)).await;
        match (of_source, environment, process) {
            (Some(of_source), Some(environment), Some(process)) => {
                let room = Room { _permits: [of_source, environment, process], _kept: kept };
                self.put(source, producer.clone(), events, bytes, room)
            }
            // Never: the semaphores are not closed.
            _ => Durable(oneshot::channel().1),
        }
    }

    /// The same without waiting; None where there is no room.
    pub(crate) fn try_submit(
        &self,
        source: &Source,
        producer: &Arc<Producer>,
        mut events: Vec<Event>,
    ) -> Option<Durable> {
        self.loops.mark_events(source.of(), &mut events);
        if events.is_empty() {
            return Some(Durable::already());
        }
        let bytes = cost(&events);
        let limits = [PROCESS_KIB, ENVIRONMENT_KIB, SOURCE_KIB];
        let mut permits = Vec::new();
        for (semaphore, limit) in self.semaphores(source).into_iter().zip(limits) {
            permits.push(semaphore.try_acquire_many_owned(kib(bytes, limit)).ok()?);
        }
        let room = Room { _permits: permits.try_into().ok()?, _kept: None };
        Some(self.put(source, producer.clone(), events, bytes, room))
    }

    /// Appends a block that was packed elsewhere, until it is durable.
    pub(crate) async fn append(&self, block: Block) -> Result<(), NotDurable> {
        let environment = block.header().environment;
        if self.append_block(environment, Arc::new(block)).await { Ok(()) } else { Err(NotDurable) }
    }

    /// The lines that came back.
    pub(crate) const fn loops(&self) -> &Loops {
        &self.loops
    }

    /// Gives up what is not durable yet: for the end of the process.
    pub(crate) fn abandon(&self) {
        self.abandoned.cancel();
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().lanes.is_empty()
    }

    fn semaphores(&self, source: &Source) -> [Arc<Semaphore>; 3] {
        let mut shared = self.lock();
        let Shared { environments, sources, .. } = &mut *shared;
        [
            self.process.clone(),
            semaphore(environments, source.environment(), ENVIRONMENT_KIB),
            semaphore(sources, source.id(), SOURCE_KIB),
        ]
    }

    fn put(
        &self,
        source: &Source,
        producer: Arc<Producer>,
        events: Vec<Event>,
        bytes: usize,
        room: Room,
    ) -> Durable {
        let (durable, receiver) = oneshot::channel();
        if self.abandoned.is_cancelled() {
            // Dropping the sender tells the caller.
            return Durable(receiver);
        }
        let waiting = Waiting { producer, events, bytes, durable, _room: room };
        let environment = source.environment();
        let is_new = {
            let mut shared = self.lock();
            let is_new = !shared.lanes.contains_key(&environment);
            let lane = shared.lanes.entry(environment).or_default();
            let of_source = lane.waiting.entry(source.id()).or_default();
            if of_source.is_empty() {
                lane.turns.push_back(source.id());
            }
            of_source.push_back(waiting);
            lane.bytes += bytes;
            if lane.bytes >= BLOCK_BYTES {
                lane.enough.notify_one();
            }
            is_new
        };
        if is_new {
            self.tasks.spawn(self.clone().append_all(environment));
        }
        Durable(receiver)
    }

    /// Takes as much as fits into a block. If nothing waits, the lane is gone: who puts something next starts
    /// a task.
    fn take(&self, environment: Id<Environment>) -> Option<Batch> {
        let mut shared = self.lock();
        let lane = shared.lanes.get_mut(&environment)?;
        let batch = lane.take();
        if batch.submissions.is_empty() {
            shared.lanes.remove(&environment);
            shared.environments.retain(|_, semaphore| semaphore.strong_count() > 0);
            shared.sources.retain(|_, semaphore| semaphore.strong_count() > 0);
            return None;
        }
        Some(batch)
    }

    async fn append_all(self, environment: Id<Environment>) {
        let mut ahead = None;
        while let Some(packed) = ahead.take().or_else(|| self.pack(environment)) {
            let Packed { block, submissions } = packed;
            let answered = CancellationToken::new();
            let append = async {
                let is_durable = self.append_block(environment, block).await;
                if is_durable {
                    for (source, lines, bytes, waiting) in submissions {
                        self.counts.durable(source, lines, bytes);
                        // Whoever has gone away does not wait for it.
                        waiting.durable.send(()).ok();
                    }
                }
                answered.cancel();
                is_durable
            };
            let (is_durable, next) = tokio::join!(append, self.pack_ahead(environment, &answered));
            if !is_durable {
                self.lock().lanes.remove(&environment);
                return;
            }
            ahead = next;
        }
    }

    /// The next block of what waits; None where nothing does.
    fn pack(&self, environment: Id<Environment>) -> Option<Packed> {
        loop {
            let Batch { records, submissions } = self.take(environment)?;
            match Block::encode(environment, &records) {
                Ok(block) => return Some(Packed { block: Arc::new(block), submissions }),
                // Dropping the senders tells the callers.
                Err(error) => {
                    tracing::error!(%environment, "lines cannot be recorded: {error}");
                }
            }
        }
    }

    /// Packs the next block as soon as there is enough for a whole one; nothing if the append in flight is
    /// `answered` before.
    async fn pack_ahead(
        &self,
        environment: Id<Environment>,
        answered: &CancellationToken,
    ) -> Option<Packed> {
        loop {
            let enough = {
                let shared = self.lock();
                let lane = shared.lanes.get(&environment)?;
                if lane.bytes >= BLOCK_BYTES {
                    break;
                }
                lane.enough.clone()
            };
            // Losing either arm loses nothing: both only wait.
            tokio::select! {
                () = answered.cancelled() => return None,
                () = enough.notified() => {}
            }
        }
        self.pack(environment)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends until it succeeds; false if the process stops first.
    async fn append_block(&self, environment: Id<Environment>, block: Arc<Block>) -> bool {
        let mut delay = FIRST_RETRY;
        loop {
            // Losing the append loses nothing: only a stopping process does, and reports nothing.
            let outcome = tokio::select! {
                () = self.abandoned.cancelled() => return false,
                outcome = self.stream.append(block.clone()) => outcome,
            };
            let Err(error) = outcome else { return true };
            tracing::warn!(%environment, %error, "lines are not durable yet; senders wait");
            tokio::select! {
                () = self.abandoned.cancelled() => return false,
                () = sleep(delay) => {}
            }
            delay = (delay * 2).min(LONGEST_RETRY);
        }
    }
}

impl Lane {
    /// One submission after the other, each source in its turn.
    fn take(&mut self) -> Batch {
        let mut batch = Batch::default();
        let (mut bytes, mut turn) = (0, 0);
        while bytes < BLOCK_BYTES
            && batch.records.len() < BLOCK_RECORDS
            && let Some(source) = self.turns.front().copied()
        {
            let queue = self.waiting.entry(source).or_default();
            if let Some(mut waiting) = queue.pop_front() {
                self.bytes -= waiting.bytes;
                bytes += waiting.bytes;
                turn += waiting.bytes;
                let (lines, text) = size(&waiting.events);
                waiting.producer.number(waiting.events.drain(..), &mut batch.records);
                batch.submissions.push((source, lines, text, waiting));
            }
            let is_done = queue.is_empty();
            if is_done || turn >= TURN_BYTES {
                turn = 0;
                self.turns.pop_front();
                if is_done {
                    self.waiting.remove(&source);
                } else {
                    self.turns.push_back(source);
                }
            }
        }
        batch
    }
}

fn semaphore<K: std::hash::Hash + Eq>(
    all: &mut HashMap<K, Weak<Semaphore>>,
    key: K,
    kib: usize,
) -> Arc<Semaphore> {
    let kept = all.entry(key).or_default();
    kept.upgrade().unwrap_or_else(|| {
        let semaphore = Arc::new(Semaphore::new(kib));
        *kept = Arc::downgrade(&semaphore);
        semaphore
    })
}

async fn acquire(semaphore: Arc<Semaphore>, kib: u32) -> Option<OwnedSemaphorePermit> {
    semaphore.acquire_many_owned(kib).await.ok()
}

/// What is larger than the limit waits until it is alone.
fn kib(bytes: usize, limit: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024).min(limit)).unwrap_or(u32::MAX)
}

fn cost(events: &[Event]) -> usize {
    let (_, text) = size(events);
    text + events.len() * RECORD_BYTES
}

/// How many lines there are, and the bytes of their texts and fields.
fn size(events: &[Event]) -> (usize, usize) {
    events.iter().fold((0, 0), |(lines, bytes), event| match event {
        Event::Line(line) => (lines + 1, bytes + line.text.len() + line.fields.packed().len()),
        _ => (lines, bytes),
    })
}

#[cfg(test)]
mod tests;
