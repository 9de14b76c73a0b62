//! How much a source, and an environment, may send.
//!
//! Token buckets of bytes: a rate, and a burst for who has sent little. What is larger than the burst counts as the
//! burst. Bytes are taken from the source's bucket and from its environment's, or from neither: who is refused has
//! paid nothing.
//!
//! Of its environment's rate each source has a 16th for itself, within its own quota, so that one that floods does
//! not keep the others out: where the environment's bucket is empty, a source takes from this reserve. The
//! environment's bucket owes that then, so all together get no more than its rate, while no more than 16 sources
//! send at a time.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::{Environment, Id, LogSource};
use tokio::time::sleep;

use crate::config::Settings;
use crate::counts::Counts;
use crate::sources::Source;

/// Buckets that are kept; when there are more, those that are full are forgotten.
const KEPT: usize = 4096;
/// The part of its environment's quota that a source has for itself.
const RESERVE: u32 = 16;

/// The buckets. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Quotas {
    settings: Arc<Settings>,
    counts: Counts,
    buckets: Arc<Mutex<Buckets>>,
}

/// A sender has to wait so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the quota is used up; send again in {0:?}")]
pub(crate) struct OverQuota(pub(crate) Duration);

#[derive(Debug, Default)]
struct Buckets {
    sources: HashMap<Id<LogSource>, Bucket>,
    reserves: HashMap<Id<LogSource>, Bucket>,
    environments: HashMap<Id<Environment>, Bucket>,
}

/// Bytes a second, and at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limit {
    rate: u32,
    burst: u32,
}

/// Bytes that may be taken. Fewer than none are owed.
#[derive(Debug)]
struct Bucket {
    limit: Limit,
    bytes: f64,
    filled_at: Instant,
}

impl Quotas {
    pub(crate) fn new(settings: &Settings, counts: Counts) -> Self {
        Self { settings: Arc::new(settings.clone()), counts, buckets: Arc::default() }
    }

    /// Takes so many bytes, or says how long to wait; that is counted.
    pub(crate) fn take(&self, source: &Source, bytes: usize) -> Result<(), OverQuota> {
        let taken = self.try_take(source, bytes);
        if taken.is_err() {
            self.counts.throttled(source.id());
        }
        taken
    }

    /// Takes so many bytes, and waits until they are there; that is counted.
    pub(crate) async fn wait(&self, source: &Source, bytes: usize) {
        let mut taken = self.take(source, bytes);
        while let Err(OverQuota(wait)) = taken {
            sleep(wait).await;
            taken = self.try_take(source, bytes);
        }
    }

    /// The same without counting.
    pub(crate) fn try_take(&self, source: &Source, bytes: usize) -> Result<(), OverQuota> {
        self.take_at(source, bytes, Instant::now())
    }

    fn take_at(&self, source: &Source, bytes: usize, now: Instant) -> Result<(), OverQuota> {
        let settings = &self.settings;
        let (rate, burst) = source.quota();
        let of_source = Limit {
            rate: quota(rate, settings.intake_source_bytes_per_second),
            burst: quota(burst, settings.intake_source_burst_bytes),
        };
        let (rate, burst) = source.environment_quota();
        let of_environment = Limit {
            rate: quota(rate, settings.intake_environment_bytes_per_second),
            burst: quota(burst, settings.intake_environment_burst_bytes),
        };
        let bytes = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Buckets { sources, reserves, environments } = &mut *buckets;
        let own = bucket(sources, source.id(), of_source, now);
        let reserve = bucket(reserves, source.id(), of_environment.reserve(), now);
        let environment = bucket(environments, source.environment(), of_environment, now);
        own.has(bytes)?;
        if let Err(OverQuota(wait)) = environment.has(bytes) {
            reserve.has(bytes).map_err(|OverQuota(sooner)| OverQuota(wait.min(sooner)))?;
            // All of it, though it may hold less: it is a rate that is reserved, whatever comes at once.
            reserve.bytes -= environment.price(bytes);
        }
        own.bytes -= own.price(bytes);
        environment.bytes -= environment.price(bytes);
        // What more than 16 sources have of their reserves is not owed for ever.
        environment.bytes = environment.bytes.max(-f64::from(of_environment.burst));
        Ok(())
    }
}

fn quota(own: Option<i64>, default: NonZeroU32) -> u32 {
    own.map_or(default.get(), |own| u32::try_from(own.max(1)).unwrap_or(u32::MAX))
}

/// A bucket as it is now; one that is new, or has another limit, is full.
fn bucket<K: Hash + Eq>(
    buckets: &mut HashMap<K, Bucket>,
    key: K,
    limit: Limit,
    now: Instant,
) -> &mut Bucket {
    if buckets.len() > KEPT && !buckets.contains_key(&key) {
        // One that is full is the same as a new one.
        buckets.retain(|_, bucket| {
            bucket.fill(now);
            bucket.bytes < f64::from(bucket.limit.burst)
        });
    }
    let full = || Bucket { limit, bytes: f64::from(limit.burst), filled_at: now };
    let bucket = buckets.entry(key).or_insert_with(full);
    if bucket.limit == limit {
        bucket.fill(now);
    } else {
        *bucket = full();
    }
    bucket
}

impl Limit {
    fn reserve(self) -> Self {
        Self { rate: (self.rate / RESERVE).max(1), burst: (self.burst / RESERVE).max(1) }
    }
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let Limit { rate, burst } = self.limit;
        let more = now.saturating_duration_since(self.filled_at).as_secs_f64() * f64::from(rate);
        self.bytes = (self.bytes + more).min(f64::from(burst));
        self.filled_at = self.filled_at.max(now);
    }

    /// What so many bytes count as.
    fn price(&self, bytes: f64) -> f64 {
        bytes.min(f64::from(self.limit.burst))
    }

    /// Whether they may be taken, or when.
    fn has(&self, bytes: f64) -> Result<(), OverQuota> {
        let lacking = self.price(bytes) - self.bytes;
        if lacking <= 0.0 {
            return Ok(());
        }
        Err(OverQuota(Duration::from_secs_f64(lacking / f64::from(self.limit.rate))))
    }
}

#[cfg(test)]
mod tests;
