//! What a pipeline has done and what troubles it, between its steps and the task that writes it to
//! the database.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use model::Timestamp;
use serde_json::Value;
use store::drain_positions::{DrainFailure, DrainHealth, RejectedLine};
use tokio::sync::Notify;

use crate::batch::Reached;
use crate::trace::Peer;

/// Messages longer than this say no more.
const LONGEST_ERROR: usize = 1000;
/// Refused lines that may wait to be written.
const MOST_REJECTED: usize = 20;
/// Lines one after the other.
const MANY_REFUSED: usize = 100;
/// A position that is so many bytes after the last one that was written is written soon: all of them
/// come again when the worker is killed.
const MANY_UNWRITTEN: u64 = 2 << 20;

/// How a drain fares by the minute is written more rarely than how far it has got: it is a row more.
const MINUTES_EVERY: Duration = Duration::from_secs(5);

/// Shared between the steps of a pipeline.
#[derive(Debug)]
pub(crate) struct Status {
    state: Mutex<State>,
    /// Refused lines that are not written, those that are being written included.
    unwritten: AtomicUsize,
    /// Refused lines since the last one that was delivered.
    refused: AtomicUsize,
    /// Bytes that were delivered or refused since the pipeline began, those before the newest position, and
    /// those before the one that was last written.
    done: AtomicU64,
    reached: AtomicU64,
    settled: AtomicU64,
    /// The last thing that was tried failed: what is new for the drain waits anyway.
    fails: Arc<AtomicBool>,
    changed: Notify,
    written: Notify,
    /// Told when it must be written soon.
    urgent: Arc<Notify>,
    /// With so many bytes before the newest position.
    many: u64,
}

/// What happened to lines.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) delivered: usize,
    /// Of delivered lines, encoded.
    pub(super) bytes: usize,
    /// Delivered lines of which something was masked.
    pub(super) redacted: usize,
    /// Lines that may have been received and are sent again.
    pub(super) repeated: usize,
    /// Lines that were refused for good.
    pub(super) rejected: usize,
    /// What could not be sent, or not be confirmed.
    pub(super) failures: usize,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        let Self { delivered, bytes, redacted, repeated, rejected, failures } = other;
        self.delivered += delivered;
        self.bytes += bytes;
        self.redacted += redacted;
        self.repeated += repeated;
        self.rejected += rejected;
        self.failures += failures;
    }
}

/// What was delivered after the position that was last written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unwritten {
    pub(super) bytes: usize,
    /// Whether there is a newer position, which writing will make them fewer.
    pub(super) writable: bool,
}

/// What is to be written.
#[derive(Debug, Default, Clone)]
pub(super) struct State {
    pub(super) reached: Option<Reached>,
    pub(super) counts: Counts,
    /// The same, for the minutes.
    pub(super) minute: Counts,
    /// When that was last written.
    minute_at: Option<Instant>,
    pub(super) rejected: Vec<RejectedLine>,
    pub(super) health: DrainHealth,
    pub(super) connection: Option<Value>,
}

impl Status {
    /// Of a drain that may send so many bytes again.
    pub(super) fn new(urgent: Arc<Notify>, window_bytes: usize) -> Self {
        Self {
            state: Mutex::default(),
            unwritten: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            done: AtomicU64::new(0),
            reached: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            fails: Arc::default(),
            changed: Notify::new(),
            written: Notify::new(),
            urgent,
            many: MANY_UNWRITTEN.min(window_bytes as u64 / 2),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, and the state is whole at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something does not work. That it fails again like the last time waits to be written until the drain's
    /// row is written anyway.
    pub(crate) fn failed(&self, message: &str) {
        let now = Timestamp::now().date_time();
        let error: String = message.replace('\0', "").chars().take(LONGEST_ERROR).collect();
        let mut state = self.state();
        let (since, has_worked, is_news) = match &state.health {
            DrainHealth::Unknown => (now, false, true),
            DrainHealth::Works => (now, true, true),
            DrainHealth::Fails { failure, has_worked } => {
                (failure.since, *has_worked, failure.error != error)
            }
        };
        let failure = DrainFailure { since, error, at: now };
        state.health = DrainHealth::Fails { failure, has_worked };
        self.fails.store(true, Ordering::Relaxed);
        state.minute.failures += 1;
        drop(state);
        if is_news {
            self.changed.notify_one();
        }
    }

    /// There is a connection.
    pub(super) fn connected(&self, peer: &Peer) {
        self.state().connection = serde_json::to_value(peer).ok();
        self.changed.notify_one();
    }

    /// Lines are sent again.
    pub(super) fn repeated(&self, lines: usize) {
        self.state().counts.repeated += lines;
    }

    /// Lines were delivered, so everything works; with those that were refused, this many bytes are done.
    pub(super) fn delivered(&self, counts: Counts, done: usize, reached: Option<Reached>) {
        self.done.fetch_add(done as u64, Ordering::Relaxed);
        if let Some(reached) = &reached {
            self.reached.store(reached.bytes, Ordering::Relaxed);
        }
        let mut state = self.state();
        state.counts += counts;
        state.minute += counts;
        if counts.delivered > 0 {
            state.health = DrainHealth::Works;
            self.fails.store(false, Ordering::Relaxed);
            self.refused.store(0, Ordering::Relaxed);
        }
        if reached.is_some() {
            state.reached = reached;
        }
        drop(state);
        self.changed.notify_one();
        let settled = self.settled.load(Ordering::Relaxed);
        if self.reached.load(Ordering::Relaxed).saturating_sub(settled) >= self.many {
            self.urgent.notify_one();
        }
    }

    /// So many of the bytes that are done come again from before.
    pub(super) fn undone(&self, bytes: usize) {
        self.done.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn unwritten(&self) -> Unwritten {
        let settled = self.settled.load(Ordering::Relaxed);
        let bytes = self.done.load(Ordering::Relaxed).saturating_sub(settled);
        Unwritten {
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
            writable: self.reached.load(Ordering::Relaxed) > settled,
        }
    }

    /// Waits until fewer are unwritten.
    pub(super) async fn fewer_than(&self, bytes: usize) {
        loop {
            let written = self.written.notified();
            if self.unwritten().bytes < bytes {
                return;
            }
            written.await;
        }
    }

    /// A line was refused for good. Waits while many others are not written yet.
    pub(super) async fn rejected(&self, line: RejectedLine) {
        loop {
            let written = self.written.notified();
            if self.unwritten.load(Ordering::Relaxed) < MOST_REJECTED {
                break;
            }
            written.await;
        }
        self.unwritten.fetch_add(1, Ordering::Relaxed);
        self.refused.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        state.rejected.push(line);
        state.minute.rejected += 1;
        drop(state);
        self.changed.notify_one();
    }

    /// Whether so many lines were refused, and none delivered, since this was last so, that it is hardly the
    /// lines: then the drain fails.
    pub(super) fn refuses_all(&self, reason: &str) -> bool {
        let is_so = self.refused.load(Ordering::Relaxed) >= MANY_REFUSED;
        if is_so {
            self.refused.store(0, Ordering::Relaxed);
            self.failed(&format!("the last {MANY_REFUSED} lines were all refused: {reason}"));
        }
        is_so
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
        self.fails.load(Ordering::Relaxed)
    }

    /// The same as it changes: whoever reads for the drain need not hurry then.
    pub(super) fn leisure(&self) -> Arc<AtomicBool> {
        self.fails.clone()
    }

    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes what is to be written; then it is [`Self::written`] or [put back](Self::put_back).
    pub(super) fn take(&self) -> State {
        let mut state = self.state();
        let mut rest = State { health: state.health.clone(), ..State::default() };
        if state.minute_at.is_some_and(|at| at.elapsed() < MINUTES_EVERY) {
            rest.minute_at = state.minute_at;
            rest.minute = std::mem::take(&mut state.minute);
        } else {
            rest.minute_at = Some(Instant::now());
        }
        std::mem::replace(&mut *state, rest)
    }

    /// Whether nothing followed in the stream what was delivered last, and is not written yet.
    pub(super) fn has_caught_up(&self) -> bool {
        self.state().reached.as_ref().is_some_and(|reached| reached.is_newest)
    }

    /// Whether something waits only for its turn to be written.
    pub(super) fn waits(&self) -> bool {
        self.state().minute != Counts::default()
    }

    /// Nothing will follow: what waits is written the next time.
    pub(super) fn end(&self) {
        self.state().minute_at = None;
    }

    pub(super) fn written(&self, state: &State) {
        self.unwritten.fetch_sub(state.rejected.len(), Ordering::Relaxed);
        if let Some(reached) = &state.reached {
            self.settled.store(reached.bytes, Ordering::Relaxed);
        }
        self.written.notify_waiters();
    }

    /// Puts back what could not be written; newer things stand.
    pub(super) fn put_back(&self, unwritten: State) {
        let mut state = self.state();
        state.counts += unwritten.counts;
        state.minute += unwritten.minute;
        state.rejected.splice(0..0, unwritten.rejected);
        if state.reached.is_none() {
            state.reached = unwritten.reached;
        }
        if state.connection.is_none() {
            state.connection = unwritten.connection;
        }
        drop(state);
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::Checkpoint;

    #[test]
    fn what_was_delivered_after_a_position_stays_unwritten_when_that_is_written() {
        let status = Status::new(Arc::default(), 100);
        let unwritten = || {
            let Unwritten { bytes, writable } = status.unwritten();
            (bytes, writable)
        };
        let delivered = |bytes, reached| {
            status.delivered(Counts { delivered: 1, bytes, ..Counts::default() }, bytes, reached);
        };
        delivered(30, None);
        assert_eq!(unwritten(), (30, false), "no block has ended");
        let checkpoint = Checkpoint::default();
        delivered(30, Some(Reached { checkpoint, bytes: 40, behind: 0, is_newest: true }));
        assert_eq!(unwritten(), (60, true));

        let taken = status.take();
        delivered(5, None);
        status.put_back(taken);
        assert_eq!(unwritten(), (65, true), "it could not be written");
        status.written(&status.take());
        assert_eq!(unwritten(), (25, false));
        status.written(&status.take());
        assert_eq!(unwritten(), (25, false), "there was no newer position to write");
    }
}
