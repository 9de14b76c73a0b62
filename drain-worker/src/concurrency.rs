//! How many requests an endpoint is sent at a time.
//!
//! One more after each batch that could have been more, half as many when the endpoint refuses or fails:
//! additive increase and multiplicative decrease, as TCP has them (RFC 5681). And a quarter less when answers
//! take longer than when there were fewer: then requests wait for one another at the endpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Requests at a time.
const MOST: usize = 8;
/// How much longer than the quickest answer the slowest of a batch may take.
const SLOWER: u32 = 2;

/// Requests at a time, at present.
#[derive(Debug, Clone)]
pub(crate) struct Concurrency(Arc<AtomicUsize>);

impl Default for Concurrency {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(1)))
    }
}

impl Concurrency {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, requests: usize) {
        self.0.store(requests.clamp(1, MOST), Ordering::Relaxed);
    }
}

/// Sets it by what the endpoint answers.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    concurrency: Concurrency,
    quickest: Option<Duration>,
}

impl Pace {
    pub(crate) const fn concurrency(&self) -> &Concurrency {
        &self.concurrency
    }

    /// As many requests as there may be were taken, and the slowest took so long; there could have been more.
    pub(crate) fn all_taken(&mut self, slowest: Duration) {
        // An endpoint that has become slower for good is believed after a while.
        let quickest = self.quickest.map_or(slowest, |it| (it + it / 64).min(slowest));
        self.quickest = Some(quickest);
        let now = self.concurrency.get();
        if slowest > quickest * SLOWER {
            self.concurrency.set(now * 3 / 4);
        } else {
            self.concurrency.set(now + 1);
        }
    }

    /// The endpoint wants less, or takes nothing.
    pub(crate) fn pushed_back(&self) {
        self.concurrency.set(self.concurrency.get() / 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(100);

    #[test]
    fn requests_grow_one_by_one_and_are_halved_when_one_is_refused() {
        let mut pace = Pace::default();
        let mut seen = Vec::new();
        for _ in 0..9 {
            seen.push(pace.concurrency().get());
            pace.all_taken(QUICK);
        }
        assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7, 8, 8]);
        for halved in [4, 2, 1, 1] {
            pace.pushed_back();
            assert_eq!(pace.concurrency().get(), halved);
        }
    }

    #[test]
    fn requests_that_wait_for_one_another_become_fewer_until_that_is_how_the_endpoint_is() {
        let mut pace = Pace::default();
        (0..8).for_each(|_| pace.all_taken(QUICK));
        pace.all_taken(QUICK * 3);
        assert_eq!(pace.concurrency().get(), 6);
        (0..100).for_each(|_| pace.all_taken(QUICK * 3));
        assert_eq!(pace.concurrency().get(), 8);
    }
}
