//! What pipelines ask of the database again and again, asked for many drains at a time: a drain costs
//! little more where there are many.
//!
//! What is asked for soon after the last time waits, and goes together with what comes meanwhile.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log_stream::Position;
use model::{Drain, Id};
use store::drain_positions::{DrainMinute, DrainPosition, DrainProgress};
use store::leases::Lease;
use store::{Store, StoreError};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Status;
use super::commit::Lag;
use super::status::{Counts, State};
use crate::lines::Checkpoint;

/// Between two times: each repeats less after a crash and costs the database a commit.
const EVERY: Duration = Duration::from_millis(50);
/// Between two times where something is urgent.
const EVERY_URGENT: Duration = Duration::from_millis(5);
/// Drains that are asked about at a time, and that may wait for it.
const MOST: usize = 500;
/// Blocks of a backlog.
pub(super) const LOOKED_AT: u16 = 16;
/// Above the time in which the database gives up itself.
const DEADLINE: Duration = Duration::from_secs(10);

/// Shared by all pipelines of a worker. Its tasks end when the last clone is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Reports {
    rows: mpsc::Sender<Report>,
    backlogs: mpsc::Sender<BacklogWanted>,
    urgent: Arc<Notify>,
    _tasks: Arc<JoinSet<()>>,
}

#[derive(Debug)]
struct Report {
    lease: Lease,
    status: Arc<Status>,
    lag: Lag,
    stop: CancellationToken,
    done: oneshot::Sender<()>,
}

#[derive(Debug)]
struct BacklogWanted {
    drain: Id<Drain>,
    answer: oneshot::Sender<Vec<Vec<u8>>>,
}

impl Reports {
    /// Drains that fail for `failing_after` are announced.
    pub(crate) fn start(store: &Store, failing_after: Duration) -> Self {
        let (rows, rows_queue) = mpsc::channel(MOST);
        let (backlogs, backlogs_queue) = mpsc::channel(MOST);
        let urgent = Arc::new(Notify::new());
        let mut tasks = JoinSet::new();
        let writer = Writer { store: store.clone(), failing_after };
        tasks.spawn(write_reports(writer, rows_queue, urgent.clone()));
        tasks.spawn(look_at_backlogs(store.clone(), backlogs_queue));
        Self { rows, backlogs, urgent, _tasks: Arc::new(tasks) }
    }

    /// Of a drain that has done nothing yet.
    pub(super) fn status(&self, window_bytes: usize) -> Status {
        Status::new(self.urgent.clone(), window_bytes)
    }

    /// Writes what the drain has done by then, or puts it back; stops it if its lease is lost.
    pub(super) async fn write(
        &self,
        lease: Lease,
        status: &Arc<Status>,
        lag: Lag,
        stop: &CancellationToken,
    ) {
        let (done, written) = oneshot::channel();
        let report = Report { lease, status: status.clone(), lag, stop: stop.clone(), done };
        if self.rows.send(report).await.is_ok() {
            // Its end is the end of the worker.
            let _ended = written.await;
        }
    }

    /// The headers of the first blocks, [`LOOKED_AT`] at most, that follow the drain's position; None if
    /// they are not to be had.
    pub(super) async fn backlog(&self, drain: Id<Drain>) -> Option<Vec<Vec<u8>>> {
        let (answer, backlog) = oneshot::channel();
        self.backlogs.send(BacklogWanted { drain, answer }).await.ok()?;
        backlog.await.ok()
    }
}

/// Waits for something, and if that comes early for more, unless it is urgent; None when nothing will
/// come any more.
async fn gather<T>(
    queue: &mut mpsc::Receiver<T>,
    last: &mut Instant,
    urgent: &Notify,
) -> Option<Vec<T>> {
    let mut all = vec![queue.recv().await?];
    sleep(EVERY_URGENT.saturating_sub(last.elapsed())).await;
    // Losing either arm is safe: one waits, and what is urgent is among what is gathered.
    tokio::select! {
        () = urgent.notified() => {}
        () = sleep(EVERY.saturating_sub(last.elapsed())) => {}
    }
    *last = Instant::now();
    while all.len() < MOST
        && let Ok(another) = queue.try_recv()
    {
        all.push(another);
    }
    Some(all)
}

async fn within_deadline<T>(
    asked: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    timeout(DEADLINE, asked).await.unwrap_or(Err(StoreError::Silent))
}

struct Writer {
    store: Store,
    failing_after: Duration,
}

async fn write_reports(writer: Writer, mut queue: mpsc::Receiver<Report>, urgent: Arc<Notify>) {
    let mut last = Instant::now();
    while let Some(reports) = gather(&mut queue, &mut last, &urgent).await {
        let taken = reports.into_iter().map(|report| (report.status.take(), report)).collect();
        write(&writer, taken).await;
    }
}

async fn write(writer: &Writer, reports: Vec<(State, Report)>) {
    let rows: Vec<_> = reports.iter().map(|(state, report)| row(state, report)).collect();
    let writing = writer.store.report_drain_progress(&rows, writer.failing_after);
    let written = match within_deadline(writing).await {
        Err(error) if error.is_refusal() && reports.len() > 1 => {
            // What is wrong with one of them is no fault of the others.
            for report in reports {
                Box::pin(write(writer, vec![report])).await;
            }
            return;
        }
        written => written.map(HashSet::<Id<Drain>>::from_iter),
    };
    if let Err(error) = &written {
        let drains = reports.len();
        tracing::warn!(drains, "how far drains have got cannot be written: {error}");
    }
    for (state, report) in reports {
        match &written {
            Ok(written) if written.contains(&report.lease.drain) => report.status.written(&state),
            Ok(_) => report.stop.cancel(),
            Err(_) => report.status.put_back(state),
        }
        // It may have given up.
        let _unheard = report.done.send(());
    }
}

fn row(state: &State, report: &Report) -> (Lease, DrainProgress) {
    let progress = DrainProgress {
        position: state.reached.as_ref().map(|reached| position(&reached.checkpoint)),
        delivered: signed(state.counts.delivered),
        delivered_bytes: signed(state.counts.bytes),
        redacted: signed(state.counts.redacted),
        repeated: signed(state.counts.repeated),
        minute: (state.minute != Counts::default()).then(|| DrainMinute {
            delivered: signed(state.minute.delivered),
            delivered_bytes: signed(state.minute.bytes),
            rejected: signed(state.minute.rejected),
            failures: signed(state.minute.failures),
        }),
        rejected: state.rejected.clone(),
        health: state.health.clone(),
        connection: state.connection.clone(),
        lag_records: report.lag.records,
        lag_bytes: report.lag.bytes,
        lag_seconds: report.lag.seconds,
    };
    (report.lease, progress)
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn position(checkpoint: &Checkpoint) -> DrainPosition {
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

async fn look_at_backlogs(store: Store, mut queue: mpsc::Receiver<BacklogWanted>) {
    let mut last = Instant::now();
    let never_urgent = Notify::new();
    while let Some(wanted) = gather(&mut queue, &mut last, &never_urgent).await {
        let drains: Vec<_> = wanted.iter().map(|one| one.drain).collect();
        match within_deadline(store.drain_backlogs(&drains, LOOKED_AT)).await {
            Ok(mut backlogs) => {
                for one in wanted {
                    // It may have given up.
                    let _unheard = one.answer.send(backlogs.remove(&one.drain).unwrap_or_default());
                }
            }
            Err(error) => {
                tracing::warn!(drains = drains.len(), "backlogs cannot be looked at: {error}");
            }
        }
    }
}
