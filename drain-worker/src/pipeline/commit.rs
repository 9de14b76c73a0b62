//! Writes what a pipeline has done to the database, a little after it is done.

use std::time::{Duration, Instant};

use log_stream::{Header, Position};
use model::{Drain, Id, Source, Timestamp};
use store::Store;
use store::drain_positions::{DrainPosition, DrainProgress, ProgressError};
use store::leases::Lease;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{FINISH, Status};
use crate::lines::Checkpoint;

/// Between writes: each repeats less after a crash and costs the database a commit.
const EVERY: Duration = Duration::from_millis(200);
/// A drain that is stuck is seen to be stuck.
const AT_LEAST_EVERY: Duration = Duration::from_secs(5);
const AT_LEAST_EVERY_BEHIND: Duration = Duration::from_secs(1);
/// One part in so many of the time, at most, goes into counting how far a drain is behind.
const COUNTING_SHARE: u32 = 20;
/// Blocks that are counted for the lag; a drain that is further behind has at least so much.
const MOST_COUNTED: u16 = 10_000;

/// How far a drain is behind.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Lag {
    pub(crate) records: i64,
    pub(crate) seconds: f64,
}

/// Keeps the drain's row until the pipeline's tasks have stopped.
pub(super) async fn keep(
    store: &Store,
    lease: &Lease,
    sources: &[Source],
    status: &Status,
    stop: &CancellationToken,
    mut tasks: JoinSet<()>,
) {
    let mut lag = Lag::default();
    let mut lag_known = Instant::now();
    let mut counting = Duration::ZERO;
    while !stop.is_cancelled() {
        let started = Instant::now();
        let every = if lag.records > 0 { AT_LEAST_EVERY_BEHIND } else { AT_LEAST_EVERY };
        let every = every.max(counting * COUNTING_SHARE);
        // Losing an arm is safe: each only waits.
        let changed = tokio::select! {
            () = stop.cancelled() => break,
            () = status.changed() => true,
            () = sleep(every.saturating_sub(lag_known.elapsed())) => false,
            // A pipeline that ends by itself is broken: it is started anew, but not at once.
            Some(_) = tasks.join_next() => {
                sleep(Duration::from_secs(1)).await;
                break;
            }
        };
        let known = lag;
        if lag_known.elapsed() >= every {
            let begun = Instant::now();
            match lag_of(store, lease.drain, sources).await {
                Ok(now) => lag = now,
                Err(error) => tracing::warn!(drain = %lease.drain, "{error}"),
            }
            counting = begun.elapsed();
            lag_known = Instant::now();
        }
        if !changed && lag == known {
            continue;
        }
        write(store, lease, status, lag, stop).await;
        // Losing the wait is losing nothing.
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(EVERY.saturating_sub(started.elapsed())) => {}
        }
    }
    let ended = async { while tasks.join_next().await.is_some() {} };
    if timeout(FINISH + Duration::from_secs(1), ended).await.is_err() {
        tasks.shutdown().await;
    }
    write(store, lease, status, lag, stop).await;
}

async fn write(store: &Store, lease: &Lease, status: &Status, lag: Lag, stop: &CancellationToken) {
    let state = status.take();
    let progress = DrainProgress {
        position: state.checkpoint.as_ref().map(to_row),
        delivered: state.delivered,
        rejected: state.rejected.clone(),
        failure: state.failure.clone(),
        lag_records: lag.records,
        lag_seconds: lag.seconds,
    };
    match store.report_drain_progress(lease, &progress).await {
        Ok(()) => {}
        Err(ProgressError::LeaseLost) => stop.cancel(),
        Err(ProgressError::Store(error)) => {
            tracing::warn!(drain = %lease.drain, "{error}");
            status.put_back(state);
        }
    }
}

/// How far a drain is behind by its row, from the headers of the blocks after its position.
pub(crate) async fn lag_of(
    store: &Store,
    drain: Id<Drain>,
    sources: &[Source],
) -> Result<Lag, store::StoreError> {
    let backlog = store.drain_backlog(drain, MOST_COUNTED).await?;
    let headers = backlog.iter().filter_map(|header| Header::parse(header).ok());
    let mut wanted = headers
        .filter(|header| header.sources.iter().any(|source| sources.contains(source)))
        .peekable();
    let oldest = wanted.peek().map(|header| header.first_at);
    Ok(Lag {
        records: wanted.map(|header| i64::from(header.records)).sum(),
        seconds: oldest.map_or(0.0, |oldest| Timestamp::now().since(oldest).as_secs_f64()),
    })
}

fn to_row(checkpoint: &Checkpoint) -> DrainPosition {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let (Position { xid: low_xid, seq: low_seq }, Position { xid: high_xid, seq: high_seq }) =
        (checkpoint.low, checkpoint.high);
    DrainPosition {
        low_xid: signed(low_xid),
        low_seq: signed(low_seq),
        high_xid: signed(high_xid),
        high_seq: signed(high_seq),
        open: serde_json::to_value(&checkpoint.open).unwrap_or_default(),
    }
}
