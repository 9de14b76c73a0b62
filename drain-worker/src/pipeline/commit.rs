//! Has written to the database what a pipeline has done, a little after it is done.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{Fuse, FusedFuture as _};
use log_stream::Header;
use model::{Drain, Id, Source, Timestamp};
use store::leases::Lease;
use store::{Store, StoreError};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Context, FINISH, Status, reports};

/// A drain that is stuck is seen to be stuck.
const AT_LEAST_EVERY: Duration = Duration::from_secs(5);
const AT_LEAST_EVERY_BEHIND: Duration = Duration::from_secs(1);
/// Nothing but what there is to deliver changes.
const AT_LEAST_EVERY_FAILING: Duration = Duration::from_secs(3);
/// One part in so many of the time, at most, goes into counting how far a drain is behind.
const COUNTING_SHARE: u32 = 20;
/// Blocks that are counted for the lag; a drain that is further behind has at least so much.
const MOST_COUNTED: u16 = 10_000;

/// How far a drain is behind.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Lag {
    pub(crate) records: i64,
    /// Of output and other content, before compression.
    pub(crate) bytes: i64,
    pub(crate) seconds: f64,
}

/// Keeps the drain's row until the pipeline's tasks have stopped.
pub(super) async fn keep(
    context: &Context,
    lease: Lease,
    sources: &[Source],
    status: &Arc<Status>,
    stop: &CancellationToken,
    mut tasks: JoinSet<()>,
) {
    let mut lag = Lag::default();
    let mut lag_known = Instant::now();
    let mut counting = Duration::ZERO;
    let mut spread = 1.0;
    // Beside the writing, which is not to wait for it.
    let mut looking = pin!(Fuse::terminated());
    while !stop.is_cancelled() {
        let every = match lag.records {
            0 => AT_LEAST_EVERY,
            _ if status.fails() => AT_LEAST_EVERY_FAILING,
            _ => AT_LEAST_EVERY_BEHIND,
        };
        let every = every.max(counting * COUNTING_SHARE).mul_f64(spread);
        let idle = looking.is_terminated();
        // Losing an arm is safe: each only waits, and looking goes on.
        tokio::select! {
            () = stop.cancelled() => break,
            () = status.changed() => {
                // Nobody needs to look.
                if status.has_caught_up() {
                    (lag, lag_known) = (Lag::default(), Instant::now());
                }
            }
            () = sleep(every.saturating_sub(lag_known.elapsed())), if idle => {
                looking.set(look(context, lease.drain, sources).fuse());
                continue;
            }
            found = &mut looking, if !idle => {
                lag_known = Instant::now();
                // Drains that began together are not looked at together for ever.
                spread = rand::random_range(0.75..1.25);
                let known = lag;
                let mut is_settled = false;
                if let Some((now, took)) = found {
                    (lag, counting) = (now, took);
                    is_settled = lag.records == 0 && status.nothing_waits();
                }
                // How long a drain fails is told when it is written.
                if lag == known && !is_settled && !status.fails() && !status.waits() {
                    continue;
                }
            }
            // A pipeline that ends by itself is broken: it is started anew, but not at once.
            Some(_) = tasks.join_next() => {
                sleep(Duration::from_secs(1)).await;
                break;
            }
        }
        context.reports.write(lease, status, lag, stop).await;
    }
    let ended = async { while tasks.join_next().await.is_some() {} };
    if timeout(FINISH + Duration::from_secs(1), ended).await.is_err() {
        tasks.shutdown().await;
    }
    status.end();
    context.reports.write(lease, status, lag, stop).await;
}

/// How far a drain is behind, and how long it took to count that; None if it cannot be found out.
async fn look(context: &Context, drain: Id<Drain>, sources: &[Source]) -> Option<(Lag, Duration)> {
    let backlog = context.reports.backlog(drain).await?;
    if backlog.len() < usize::from(reports::LOOKED_AT) {
        return Some((Lag::of(&backlog, sources), Duration::ZERO));
    }
    let begun = Instant::now();
    match lag_of(&context.store, drain, sources).await {
        Ok(lag) => Some((lag, begun.elapsed())),
        Err(error) => {
            tracing::warn!(%drain, "{error}");
            None
        }
    }
}

/// How far a drain is behind by its row, from the headers of the blocks after its position.
pub(crate) async fn lag_of(
    store: &Store,
    drain: Id<Drain>,
    sources: &[Source],
) -> Result<Lag, StoreError> {
    let backlogs = store.drain_backlogs(&[drain], MOST_COUNTED).await?;
    Ok(backlogs.get(&drain).map(|backlog| Lag::of(backlog, sources)).unwrap_or_default())
}

impl Lag {
    /// Of a drain that takes these sources, by the headers of the blocks that it has yet to deliver.
    pub(super) fn of(backlog: &[Vec<u8>], sources: &[Source]) -> Self {
        let headers = backlog.iter().filter_map(|header| Header::parse(header).ok());
        let mut wanted = headers
            .filter(|header| header.sources.iter().any(|source| sources.contains(source)))
            .peekable();
        let oldest = wanted.peek().map(|header| header.first_at);
        let (mut records, mut bytes) = (0, 0);
        for header in wanted {
            records += i64::from(header.records);
            bytes += i64::try_from(header.uncompressed_bytes).unwrap_or(i64::MAX);
        }
        Self {
            records,
            bytes,
            seconds: oldest.map_or(0.0, |oldest| Timestamp::now().since(oldest).as_secs_f64()),
        }
    }
}
