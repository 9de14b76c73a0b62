//! Which drains this worker owns.
//!
//! Invariant: a drain counts as owned only as long as the database would say so, too: when leases
//! cannot be renewed in time, all are lost.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use model::{Drain, Id, Worker};
use store::leases::Lease;
use store::{Store, StoreError};
use tokio::sync::watch;

/// The leases that a worker holds.
#[derive(Debug)]
pub(crate) struct Leases {
    store: Store,
    worker: Id<Worker>,
    duration: Duration,
    held: HashMap<Id<Drain>, Lease>,
    renewed_at: Instant,
    /// Until when what is held is surely held.
    until: watch::Sender<Instant>,
    /// Workers that share the drains, this one included.
    workers: u32,
}

impl Leases {
    pub(crate) fn new(store: Store, worker: Id<Worker>, duration: Duration) -> Self {
        let now = Instant::now();
        // The first renewal is due at once.
        let renewed_at = now.checked_sub(duration).unwrap_or(now);
        let (held, until) = (HashMap::new(), watch::Sender::new(now));
        Self { store, worker, duration, held, renewed_at, until, workers: 1 }
    }

    /// Until when a drain that is held may be worked on; moves on with each renewal.
    pub(crate) fn until(&self) -> watch::Receiver<Instant> {
        self.until.subscribe()
    }

    /// How many of so many drains this worker should have at most.
    pub(crate) fn share(&self, drains: usize) -> usize {
        drains.div_ceil(usize::try_from(self.workers).unwrap_or(1).max(1))
    }

    /// How many drains this worker has.
    pub(crate) fn count(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn get(&self, drain: Id<Drain>) -> Option<Lease> {
        self.held.get(&drain).copied()
    }

    /// Takes a drain unless another worker has it.
    pub(crate) async fn take(&mut self, drain: Id<Drain>) -> Result<Option<Lease>, StoreError> {
        if let Some(held) = self.get(drain) {
            return Ok(Some(held));
        }
        let lease = self.store.take_lease(drain, self.worker, self.duration).await?;
        if let Some(lease) = lease {
            tracing::info!(%drain, generation = lease.generation, "drain taken");
            self.held.insert(drain, lease);
        }
        Ok(lease)
    }

    /// Renews all leases if that is due; drops those that are lost.
    pub(crate) async fn renew(&mut self) {
        let started = Instant::now();
        if started.duration_since(self.renewed_at) < self.duration / 3 {
            return;
        }
        let leases: Vec<_> = self.held.values().copied().collect();
        let renewed = async {
            self.workers = self.store.announce_worker(self.worker, self.duration).await?;
            self.store.renew_leases(&leases, self.duration).await
        };
        match renewed.await {
            Ok(kept) => {
                self.held.retain(|drain, _| kept.contains(drain));
                self.renewed_at = started;
                self.until.send_replace(started + self.duration);
            }
            Err(error) => {
                tracing::warn!("leases cannot be renewed: {error}");
                if self.renewed_at.elapsed() >= self.duration {
                    self.held.clear();
                }
            }
        }
    }

    /// Says that this worker is gone.
    pub(crate) async fn leave(&mut self) {
        let drains = self.drains();
        self.release(&drains).await;
        if let Err(error) = self.store.forget_worker(self.worker).await {
            tracing::warn!("the worker cannot be taken off the list: {error}");
        }
    }

    /// Gives drains back.
    pub(crate) async fn release(&mut self, drains: &[Id<Drain>]) {
        let leases: Vec<_> = drains.iter().filter_map(|drain| self.held.remove(drain)).collect();
        if leases.is_empty() {
            return;
        }
        // Otherwise they run out.
        if let Err(error) = self.store.release_leases(&leases).await {
            tracing::warn!("drains cannot be given back: {error}");
        }
    }

    pub(crate) fn drains(&self) -> Vec<Id<Drain>> {
        self.held.keys().copied().collect()
    }
}
