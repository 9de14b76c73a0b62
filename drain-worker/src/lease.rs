//! Which drains this worker owns.
//!
//! Invariant: a drain counts as owned only as long as the database would say so, too: when leases
//! cannot be renewed in time, all are lost.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use model::{Drain, Id, Worker};
use store::leases::Lease;
use store::{Store, StoreError};

/// The leases that a worker holds.
#[derive(Debug)]
pub(crate) struct Leases {
    store: Store,
    worker: Id<Worker>,
    duration: Duration,
    held: HashMap<Id<Drain>, Lease>,
    renewed_at: Instant,
}

impl Leases {
    pub(crate) fn new(store: Store, worker: Id<Worker>, duration: Duration) -> Self {
        Self { store, worker, duration, held: HashMap::new(), renewed_at: Instant::now() }
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
        match self.store.renew_leases(&leases, self.duration).await {
            Ok(kept) => {
                self.held.retain(|drain, _| kept.contains(drain));
                self.renewed_at = started;
            }
            Err(error) => {
                tracing::warn!("leases cannot be renewed: {error}");
                if self.renewed_at.elapsed() >= self.duration {
                    self.held.clear();
                }
            }
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
