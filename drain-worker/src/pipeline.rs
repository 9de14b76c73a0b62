//! One drain at work: read, filter, cut into lines, batch, send, commit; the same for every kind of
//! endpoint.
//!
//! Invariants: a position is written after its lines are delivered, never before; nothing is sent
//! after the lease has run out; queues between the steps are bounded, so an endpoint that takes nothing
//! stops the reading and nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log_stream::{LogStream, Pages};
use model::{Environment, Id};
use store::Store;
use store::leases::{DrainOutline, Lease, WorkableDrain};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::batch::{BatchLimits, Batcher};
use crate::drain::{self, Drain};
use crate::egress::Egress;
use crate::lines::Assembler;
use crate::room::{Room, Share};

mod commit;
mod deliver;
mod read;
mod reports;
mod start;
mod status;

pub(crate) use commit::lag_of;
pub(crate) use reports::Reports;
pub(crate) use start::PassOver;
use status::Status;

/// What every pipeline of a worker shares.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) store: Store,
    pub(crate) reports: Reports,
    pub(crate) stream: Arc<dyn LogStream>,
    pub(crate) egress: Egress,
    pub(crate) batch: BatchLimits,
    /// For lines that are on their way.
    pub(crate) room: Room,
    /// For blocks that become lines.
    pub(crate) pages: Pages,
    pub(crate) line_bytes: usize,
    pub(crate) redelivery_window: Duration,
    pub(crate) redelivery_bytes: usize,
    pub(crate) opening_key: model::OpeningKey,
    /// Tells the appender of activity that there may be some.
    pub(crate) activity: Arc<Notify>,
}

/// How long an endpoint may take for what was sent already when the pipeline is to stop.
const FINISH: Duration = Duration::from_secs(3);

/// Runs a drain until `stop`, or until its lease is lost.
pub(crate) async fn run(
    context: Context,
    outline: DrainOutline,
    row: WorkableDrain,
    lease: Lease,
    until: watch::Receiver<Instant>,
    stop: CancellationToken,
) {
    let status = Arc::new(context.reports.status(context.redelivery_bytes));
    // A child, so that its loss of the lease stops this pipeline alone.
    let stop = stop.child_token();
    let mut tasks = JoinSet::new();
    let environment = row.environment_id;
    let sources = drain::sources(&outline);
    let prepared = drain::prepare(&context, &row);
    // It may be large, and is not needed any more.
    drop(row);
    match prepared {
        Ok(mut drain) => {
            drain.wanted.sources.clone_from(&sources);
            let (context, status, stop) = (context.clone(), status.clone(), stop.clone());
            let (pass_over, paused) = (PassOver::of(&outline), outline.paused);
            let place = Place { environment, pass_over, paused, lease, until };
            tasks.spawn(work(context, drain, place, status, stop));
        }
        Err(error) => status.failed(&error.to_string()),
    }
    commit::keep(&context, lease, &sources, &status, &stop, tasks).await;
}

/// What a drain works on.
struct Place {
    environment: Id<Environment>,
    pass_over: PassOver,
    /// It only passes that over.
    paused: bool,
    lease: Lease,
    /// Until when the drain is surely this worker's.
    until: watch::Receiver<Instant>,
}

/// Reads and delivers from the drain's position until `stop`.
async fn work(
    context: Context,
    mut drain: Drain,
    Place { environment, pass_over, paused, lease, until }: Place,
    status: Arc<Status>,
    stop: CancellationToken,
) {
    let from = loop {
        match start::position(&context, &lease, environment, pass_over, &drain.wanted.sources).await
        {
            Ok(Some(from)) => break from,
            Ok(None) => return stop.cancel(),
            Err(error) => {
                tracing::warn!(drain = %lease.drain, "{error}");
                // Losing the wait is losing nothing.
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                }
            }
        }
    };
    if paused {
        return;
    }
    let redelivery_bytes = context.redelivery_bytes;
    let concurrency =
        if drain.wants_everything() { drain.destination.divide(drain.batch) } else { None };
    let share = Share::new(context.room.clone(), drain.batch.bytes, redelivery_bytes);
    let share = Arc::new(share.with_concurrency(concurrency));
    let mut delivery = deliver::Delivery::new(
        (drain.destination, drain.format),
        redelivery_bytes,
        (share.clone(), drain.gathering.is_some()),
        from.clone(),
        until,
        status.clone(),
        stop.clone(),
    );
    let mut reader = read::Reader {
        stream: context.stream.clone(),
        environment,
        from: from.low,
        assembler: Assembler::new(drain.wanted, from),
        shaper: drain.shaper,
        batcher: Batcher::new(drain.batch.lines, share.clone(), drain.gathering, drain.encoder),
        reached: None,
        pieces: 0,
        pages: context.pages.clone(),
        status,
    };
    loop {
        // One batch is sent, one waits, one is filled.
        let (batches, queue) = mpsc::channel(1);
        let stop_reading = stop.child_token();
        let (mut reading, mut delivering) = (JoinSet::new(), JoinSet::new());
        reading.spawn(reader.run(batches, stop_reading.clone()));
        delivering.spawn(delivery.run(queue));
        let delivered = delivering.join_next().await;
        // It may wait for what will not come.
        stop_reading.cancel();
        let read = reading.join_next().await;
        let (Some(Ok(ended)), Some(Ok(read))) = (delivered, read) else { return };
        (delivery, reader) = (ended, read);
        match delivery.thrown_away() {
            Some((from, wait)) => {
                reader.resume(from);
                share.forget();
                // Losing the wait loses nothing.
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(wait) => {}
                }
            }
            None => return,
        }
    }
}
