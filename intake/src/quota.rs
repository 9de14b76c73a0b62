//! How much a source, and an environment, may send.
//!
//! Token buckets of bytes (`governor`): a rate, and a burst for who has sent little. What is larger than the
//! burst counts as the burst.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use model::{Environment, Id, LogSource};
use tokio::time::sleep;

use crate::config::Settings;
use crate::counts::Counts;
use crate::sources::Source;

/// Buckets that are kept; when there are more, those that are full are forgotten.
const KEPT: usize = 4096;

/// The buckets. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Quotas {
    settings: Arc<Settings>,
    counts: Counts,
    sources: Buckets<LogSource>,
    environments: Buckets<Environment>,
}

/// A sender has to wait so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the quota is used up; send again in {0:?}")]
pub(crate) struct OverQuota(pub(crate) Duration);

type Buckets<T> = Arc<Mutex<HashMap<Id<T>, Bucket>>>;

#[derive(Debug, Clone)]
struct Bucket {
    rate: NonZeroU32,
    burst: NonZeroU32,
    limiter: Arc<DefaultDirectRateLimiter>,
}

impl Quotas {
    pub(crate) fn new(settings: &Settings, counts: Counts) -> Self {
        Self {
            settings: Arc::new(settings.clone()),
            counts,
            sources: Arc::default(),
            environments: Arc::default(),
        }
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
        let settings = &self.settings;
        let (rate, burst) = source.quota();
        let of_source = bucket(
            &self.sources,
            source.id(),
            quota(rate, settings.intake_source_bytes_per_second),
            quota(burst, settings.intake_source_burst_bytes),
        );
        let (rate, burst) = source.environment_quota();
        let of_environment = bucket(
            &self.environments,
            source.environment(),
            quota(rate, settings.intake_environment_bytes_per_second),
            quota(burst, settings.intake_environment_burst_bytes),
        );
        of_source.take(bytes)?;
        of_environment.take(bytes)
    }
}

fn quota(own: Option<i64>, default: NonZeroU32) -> NonZeroU32 {
    own.map_or(default, |own| {
        u32::try_from(own.max(1)).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX)
    })
}

fn bucket<T>(buckets: &Buckets<T>, id: Id<T>, rate: NonZeroU32, burst: NonZeroU32) -> Bucket {
    let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
    if buckets.len() > KEPT {
        // One that is full is the same as a new one.
        buckets.retain(|_, bucket| bucket.limiter.check_n(bucket.burst).is_err());
    }
    match buckets.get(&id) {
        Some(bucket) if bucket.rate == rate && bucket.burst == burst => bucket.clone(),
        _ => {
            let quota = Quota::per_second(rate).allow_burst(burst);
            let bucket = Bucket { rate, burst, limiter: Arc::new(RateLimiter::direct(quota)) };
            buckets.insert(id, bucket.clone());
            bucket
        }
    }
}

impl Bucket {
    fn take(&self, bytes: usize) -> Result<(), OverQuota> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.burst.get());
        let Some(bytes) = NonZeroU32::new(bytes) else { return Ok(()) };
        match self.limiter.check_n(bytes) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(later)) => Err(OverQuota(later.wait_time_from(DefaultClock::default().now()))),
            // Never: it is no more than the burst.
            Err(_) => Err(OverQuota(Duration::from_secs(1))),
        }
    }
}
