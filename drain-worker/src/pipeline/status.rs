//! What a pipeline has done and what troubles it, between its steps and the task that writes it to
//! the database.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::Timestamp;
use store::drain_positions::{DrainFailure, DrainHealth, RejectedLine};
use tokio::sync::Notify;

use crate::lines::Checkpoint;

/// Messages longer than this say no more.
const LONGEST_ERROR: usize = 1000;
/// Refused lines that may wait to be written.
const MOST_REJECTED: usize = 20;
/// Delivered bytes since the position was last written, with which it is written soon: all come again
/// when the worker is killed.
const MANY_UNWRITTEN: usize = 2 << 20;

/// Shared between the steps of a pipeline.
#[derive(Debug)]
pub(crate) struct Status {
    state: Mutex<State>,
    /// Refused lines that are not written, those that are being written included.
    unwritten: AtomicUsize,
    /// The same of delivered bytes.
    unwritten_bytes: AtomicUsize,
    changed: Notify,
    written: Notify,
    /// Told when it must be written soon.
    urgent: Arc<Notify>,
    /// With so many bytes unwritten.
    many: usize,
}

/// What is to be written.
#[derive(Debug, Default, Clone)]
pub(super) struct State {
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) delivered: i64,
    pub(super) delivered_bytes: usize,
    pub(super) rejected: Vec<RejectedLine>,
    pub(super) health: DrainHealth,
}

impl Status {
    /// Of a drain that may send so many bytes again.
    pub(super) fn new(urgent: Arc<Notify>, window_bytes: usize) -> Self {
        Self {
            state: Mutex::default(),
            unwritten: AtomicUsize::new(0),
            unwritten_bytes: AtomicUsize::new(0),
            changed: Notify::new(),
            written: Notify::new(),
            urgent,
            many: MANY_UNWRITTEN.min(window_bytes / 2),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, and the state is whole at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something does not work.
    pub(crate) fn failed(&self, message: &str) {
        let now = Timestamp::now().date_time();
        let mut state = self.state();
        let (since, has_worked) = match &state.health {
            DrainHealth::Unknown => (now, false),
            DrainHealth::Works => (now, true),
            DrainHealth::Fails { failure, has_worked } => (failure.since, *has_worked),
        };
        let error = message.replace('\0', "").chars().take(LONGEST_ERROR).collect();
        let failure = DrainFailure { since, error, at: now };
        state.health = DrainHealth::Fails { failure, has_worked };
        drop(state);
        self.changed.notify_one();
    }

    /// Lines were delivered, so everything works.
    pub(super) fn delivered(&self, lines: usize, bytes: usize, checkpoint: Option<Checkpoint>) {
        let unwritten = self.unwritten_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let mut state = self.state();
        state.delivered += i64::try_from(lines).unwrap_or(i64::MAX);
        state.delivered_bytes += bytes;
        if lines > 0 {
            state.health = DrainHealth::Works;
        }
        if checkpoint.is_some() {
            state.checkpoint = checkpoint;
        }
        drop(state);
        self.changed.notify_one();
        if unwritten >= self.many {
            self.urgent.notify_one();
        }
    }

    /// Bytes that were delivered since the position was last written.
    pub(super) fn unwritten(&self) -> usize {
        self.unwritten_bytes.load(Ordering::Relaxed)
    }

    /// Waits until fewer are unwritten.
    pub(super) async fn fewer_than(&self, bytes: usize) {
        loop {
            let written = self.written.notified();
            if self.unwritten() < bytes {
                return;
            }
            written.await;
        }
    }

    /// A line was refused for good. Waits while many others are not written yet.
    pub(super) async fn rejected(&self, line: RejectedLine, checkpoint: Option<Checkpoint>) {
        loop {
            let written = self.written.notified();
            if self.unwritten.load(Ordering::Relaxed) < MOST_REJECTED {
                break;
            }
            written.await;
        }
        self.unwritten.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        state.rejected.push(line);
        if checkpoint.is_some() {
            state.checkpoint = checkpoint;
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Nothing is left to deliver: what failed before this worker had the drain fails no more, unless it
    /// has been tried. Answers whether that is news.
    pub(super) fn nothing_waits(&self) -> bool {
        let mut state = self.state();
        let is_news = matches!(state.health, DrainHealth::Unknown);
        if is_news {
            state.health = DrainHealth::Works;
        }
        is_news
    }

    /// Whether the last thing that was tried failed.
    pub(super) fn fails(&self) -> bool {
        matches!(self.state().health, DrainHealth::Fails { .. })
    }

    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes what is to be written; then it is [`Self::written`] or [put back](Self::put_back).
    pub(super) fn take(&self) -> State {
        let mut state = self.state();
        let rest = State { health: state.health.clone(), ..State::default() };
        std::mem::replace(&mut *state, rest)
    }

    pub(super) fn written(&self, state: &State) {
        self.unwritten.fetch_sub(state.rejected.len(), Ordering::Relaxed);
        self.unwritten_bytes.fetch_sub(state.delivered_bytes, Ordering::Relaxed);
        self.written.notify_waiters();
    }

    /// Puts back what could not be written; newer things stand.
    pub(super) fn put_back(&self, unwritten: State) {
        let mut state = self.state();
        state.delivered += unwritten.delivered;
        state.delivered_bytes += unwritten.delivered_bytes;
        state.rejected.splice(0..0, unwritten.rejected);
        if state.checkpoint.is_none() {
            state.checkpoint = unwritten.checkpoint;
        }
        drop(state);
        self.changed.notify_one();
    }
}
