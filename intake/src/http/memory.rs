//! How much memory all requests together may hold.
//!
//! Room is taken as bytes arrive, not as they are announced, and never waited for: who finds none is told to come
//! again. A source has at most half of it, so that one with slow requests does not keep the others out.
//!
//! Invariant: what a request holds is given back when nothing of it is in memory: also where nobody waits for its lines
//! any more, not before they are durable.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use model::{Id, LogSource};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Refusal;
use super::lines::limit;

/// KiB that requests hold at least; more, if bodies may be large.
const LEAST_KIB: usize = 64 << 10;
/// Sources whose shares are kept though nobody may hold them any more.
const KEPT: usize = 256;

/// The memory.
pub(super) struct Memory {
    all: Arc<Semaphore>,
    source_kib: usize,
    sources: Mutex<HashMap<Id<LogSource>, Weak<Semaphore>>>,
}

/// What a request holds of it, given back when this is dropped.
pub(super) struct Held {
    of: [Arc<Semaphore>; 2],
    permits: [Option<OwnedSemaphorePermit>; 2],
    bytes: usize,
    kib: usize,
}

impl Memory {
    /// Enough for two requests at least, whatever bodies may have.
    pub(super) fn for_bodies_of(bytes: usize) -> Self {
        // A body, as it came and decompressed, and its lines.
        let request = (2 * bytes + limit(bytes)).div_ceil(1024);
        let all = LEAST_KIB.max(2 * request);
        Self { all: Arc::new(Semaphore::new(all)), source_kib: all / 2, sources: Mutex::default() }
    }

    /// Whether there is any left.
    pub(super) fn has_room(&self) -> bool {
        self.all.available_permits() > 0
    }

    /// Nothing yet, for a request of this source.
    pub(super) fn hold(&self, source: Id<LogSource>) -> Held {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() > KEPT {
            sources.retain(|_, share| share.strong_count() > 0);
        }
        let kept = sources.entry(source).or_default();
        let share = kept.upgrade().unwrap_or_else(|| {
            let share = Arc::new(Semaphore::new(self.source_kib));
            *kept = Arc::downgrade(&share);
            share
        });
        Held { of: [share, self.all.clone()], permits: [None, None], bytes: 0, kib: 0 }
    }
}

impl Held {
    /// Holds this many bytes more.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.bytes += bytes;
        let missing = self.bytes.div_ceil(1024).saturating_sub(self.kib);
        if missing == 0 {
            return Ok(());
        }
        let kib = u32::try_from(missing).map_err(|_| Refusal::Busy)?;
        for (semaphore, held) in self.of.iter().zip(&mut self.permits) {
            let permit = semaphore.clone().try_acquire_many_owned(kib);
            let permit = permit.map_err(|_| Refusal::Busy)?;
            match held {
                Some(held) => held.merge(permit),
                None => *held = Some(permit),
            }
        }
        self.kib += missing;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_cannot_take_all_and_gives_back_what_it_took() {
        let memory = Memory::for_bodies_of(8 << 20);
        let (greedy, other) = (Id::generate(), Id::generate());
        let mut held = Vec::new();
        while held.len() < 100 {
            let mut more = memory.hold(greedy);
            if more.grow(1 << 20).is_err() {
                break;
            }
            held.push(more);
        }
        assert_eq!(held.len(), 48);
        assert!(memory.has_room());
        memory.hold(other).grow(48 << 20).unwrap();
        drop(held);
        memory.hold(greedy).grow(48 << 20).unwrap();
        assert!(memory.hold(greedy).grow(49 << 20).is_err());
        // In however many pieces.
        let mut held = memory.hold(greedy);
        assert!((0..48 << 10).all(|_| (0..8).all(|_| held.grow(128).is_ok())));
        assert!(held.grow(1).is_err());
    }
}
