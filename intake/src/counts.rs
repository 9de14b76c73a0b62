//! What came in, added up for each source and told to the database every two seconds.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::{Id, LogSource};
use service::Shutdown;
use store::Store;
use store::intake::SourceCounts;
use tokio::time::{Instant, sleep};

use crate::loops::Loops;

const TELL_EVERY: Duration = Duration::from_secs(2);
const FORGET_EVERY: Duration = Duration::from_mins(10);
/// Sources whose counts are told in one go.
const AT_A_TIME: usize = 1000;

/// The counts. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    of: Arc<Mutex<HashMap<Id<LogSource>, SourceCounts>>>,
    unknown: Arc<AtomicU64>,
}

impl Counts {
    /// Lines are durable.
    pub(crate) fn durable(&self, source: Id<LogSource>, lines: usize, bytes: usize) {
        self.change(source, |counts| {
            add(&mut counts.lines, lines);
            add(&mut counts.bytes, bytes);
        });
    }

    /// A message or a request was refused.
    pub(crate) fn refused(&self, source: Id<LogSource>, reason: &impl fmt::Display) {
        self.change(source, |counts| {
            add(&mut counts.refused, 1);
            counts.last_refusal = Some(reason.to_string());
        });
    }

    /// Lines could not be read as what they were said to be.
    pub(crate) fn malformed(&self, source: Id<LogSource>, lines: usize) {
        self.change(source, |counts| add(&mut counts.malformed, lines));
    }

    /// Datagrams were dropped.
    pub(crate) fn dropped(&self, source: Id<LogSource>, lines: usize) {
        self.change(source, |counts| add(&mut counts.dropped, lines));
    }

    /// A sender had to wait.
    pub(crate) fn throttled(&self, source: Id<LogSource>) {
        self.change(source, |counts| add(&mut counts.throttled, 1));
    }

    /// Lines came back that a drain of the same environment had delivered.
    pub(crate) fn looped(&self, source: Id<LogSource>, lines: usize) {
        self.change(source, |counts| add(&mut counts.looped, lines));
    }

    /// Somebody came whom no source knows.
    pub(crate) fn unknown(&self) {
        self.unknown.fetch_add(1, Ordering::Relaxed);
    }

    fn change(&self, source: Id<LogSource>, change: impl FnOnce(&mut SourceCounts)) {
        change(self.of.lock().unwrap_or_else(PoisonError::into_inner).entry(source).or_default());
    }

    /// Tells until the shutdown is requested, and once more then.
    pub(crate) async fn run(self, store: Store, loops: Loops, shutdown: Shutdown) {
        let (mut trouble, mut forgotten, mut unknown) = (false, None::<Instant>, 0);
        loop {
            let is_last = shutdown.is_requested();
            match self.tell(&store, &loops).await {
                Ok(()) => trouble = false,
                Err(error) => {
                    if !std::mem::replace(&mut trouble, true) {
                        tracing::warn!("counts of log sources cannot be told: {error}");
                    }
                }
            }
            let refused = self.unknown.load(Ordering::Relaxed);
            if refused > unknown {
                let count = refused - unknown;
                tracing::warn!(count, "senders were refused: no log source has their token");
                unknown = refused;
            }
            if forgotten.is_none_or(|at| at.elapsed() >= FORGET_EVERY) {
                if let Err(error) = store.forget_intake_history().await {
                    tracing::warn!("old counts of log sources cannot be forgotten: {error}");
                }
                forgotten = Some(Instant::now());
            }
            if is_last {
                return;
            }
            // Losing either arm loses nothing.
            tokio::select! {
                () = shutdown.requested() => {}
                () = sleep(TELL_EVERY) => {}
            }
        }
    }

    async fn tell(&self, store: &Store, loops: &Loops) -> Result<(), store::StoreError> {
        let back = loops.taken();
        if !back.is_empty()
            && let Err(error) = store.add_drain_loops(&back).await
        {
            loops.give_back(back);
            return Err(error);
        }
        let taken = std::mem::take(&mut *self.of.lock().unwrap_or_else(PoisonError::into_inner));
        let mut taken: Vec<_> = taken.into_iter().collect();
        while !taken.is_empty() {
            let rest = taken.split_off(taken.len().min(AT_A_TIME));
            let told = store.add_source_counts(&taken).await;
            if let Err(error) = told {
                // What was not told is told next time.
                for (source, counts) in taken.into_iter().chain(rest) {
                    self.change(source, |later| merge(later, counts));
                }
                return Err(error);
            }
            taken = rest;
        }
        Ok(())
    }
}

fn add(count: &mut i64, more: usize) {
    *count = count.saturating_add(i64::try_from(more).unwrap_or(i64::MAX));
}

fn merge(later: &mut SourceCounts, earlier: SourceCounts) {
    later.lines += earlier.lines;
    later.bytes += earlier.bytes;
    later.refused += earlier.refused;
    later.malformed += earlier.malformed;
    later.dropped += earlier.dropped;
    later.throttled += earlier.throttled;
    later.looped += earlier.looped;
    if later.last_refusal.is_none() {
        later.last_refusal = earlier.last_refusal;
    }
}
