//! Which drains should run, which do.
//!
//! It looks at everything each time, so it does not matter which news was missed. A worker takes
//! drains that are free, up to its share of all; what it has above its share, when another worker
//! has come, it gives back.
//!
//! Invariant: a drain has at most one pipeline here, and only under a lease.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use model::{Drain, Id, Source, Worker};
use service::Shutdown;
use store::leases::{DrainNews, DrainOutline};
use store::{Store, StoreError};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::lease::Leases;
use crate::pipeline::{self, Context, PassOver, lag_of};
use crate::{RunError, drain, drain_resend, drain_test};

const LOOK_EVERY: Duration = Duration::from_secs(2);
const PAUSED_EVERY: Duration = Duration::from_secs(5);
const FORGET_EVERY: Duration = Duration::from_mins(10);
/// Between two looks, however much news there is.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(50);
/// Between two tries to send again what an endpoint does not take.
const RESEND_AGAIN: Duration = Duration::from_secs(30);
const STOP_DEADLINE: Duration = Duration::from_secs(8);

/// Runs the pipelines of a worker.
pub(crate) struct Supervisor {
    context: Context,
    leases: Leases,
    running: HashMap<Id<Drain>, Running>,
    pipelines: JoinSet<Id<Drain>>,
    testing: HashMap<Uuid, Id<Drain>>,
    tests: JoinSet<Uuid>,
    /// Sends refused lines of a drain again; answers the drain where that failed.
    resends: JoinSet<Option<Id<Drain>>>,
    resending: HashMap<Id<Drain>, AbortHandle>,
    resend_failed: HashMap<Id<Drain>, Instant>,
    /// How far paused drains are behind.
    paused: JoinSet<()>,
    paused_reported: Option<Instant>,
    forgotten: Option<Instant>,
}

struct Running {
    revision: i64,
    generation: i64,
    pass_over: PassOver,
    stop: CancellationToken,
    task: AbortHandle,
    /// Its drain is another worker's to take, once it has stopped.
    given_up: bool,
}

impl Supervisor {
    pub(crate) fn new(context: Context, worker: Id<Worker>, lease: Duration) -> Self {
        Self {
            leases: Leases::new(context.store.clone(), worker, lease),
            context,
            running: HashMap::new(),
            pipelines: JoinSet::new(),
            testing: HashMap::new(),
            tests: JoinSet::new(),
            resends: JoinSet::new(),
            resending: HashMap::new(),
            resend_failed: HashMap::new(),
            paused: JoinSet::new(),
            paused_reported: None,
            forgotten: None,
        }
    }

    /// Supervises until the shutdown is requested.
    pub(crate) async fn run(mut self, shutdown: Shutdown) -> Result<(), RunError> {
        let mut news = None;
        let mut trouble = false;
        while !shutdown.is_requested() {
            self.leases.renew().await;
            self.stop_lost();
            match self.look(&mut news).await {
                Ok(()) => trouble = false,
                // Said once, not every two seconds.
                Err(error) if !trouble => {
                    trouble = true;
                    tracing::warn!("drains cannot be looked at: {error}");
                }
                Err(_) => {}
            }
            // Losing an arm is safe: each only says that it is time to look again.
            tokio::select! {
                () = shutdown.requested() => break,
                () = wait_for(&mut news) => {
                    // Whoever changes a drain is written down.
                    self.context.activity.notify_one();
                    sleep(LOOK_AT_MOST_EVERY).await;
                }
                () = sleep(LOOK_EVERY) => {}
                Some(ended) = self.pipelines.join_next() => self.ended(ended.ok()).await,
                Some(tested) = self.tests.join_next() => self.tested(tested.ok()).await,
                Some(ended) = self.resends.join_next() => {
                    let failed = ended.ok().flatten();
                    self.resend_failed.extend(failed.map(|drain| (drain, Instant::now())));
                }
            }
        }
        // It holds a connection, for which the store would wait.
        drop(news);
        self.stop().await
    }

    /// Stops what runs without a lease; also while the database cannot be asked for anything else.
    fn stop_lost(&self) {
        for (drain, running) in &self.running {
            let held = self.leases.get(*drain).map(|lease| lease.generation);
            if held != Some(running.generation) {
                running.stop.cancel();
            }
        }
    }

    async fn look(&mut self, news: &mut Option<DrainNews>) -> Result<(), StoreError> {
        match news {
            // This look serves for all that has come by now.
            Some(listener) => while let Some(Ok(())) = listener.next().now_or_never() {},
            None => *news = Some(self.context.store.drain_news().await?),
        }
        let drains = self.context.store.drain_outlines().await?;
        let rows: HashMap<_, _> = drains.iter().map(|row| (row.id, row)).collect();
        for (drain, running) in &self.running {
            let wanted = rows.get(drain).is_some_and(|row| {
                let falls_behind = PassOver::of(row).drop_to > running.pass_over.drop_to;
                has_work(row) && row.revision == running.revision && !falls_behind
            });
            if !wanted {
                running.stop.cancel();
            }
        }
        let unwanted: Vec<_> = self
            .leases
            .drains()
            .into_iter()
            .filter(|drain| rows.get(drain).is_none_or(|row| !has_work(row)))
            .filter(|drain| !self.running.contains_key(drain) && !self.is_tested(*drain))
            .collect();
        self.leases.release(&unwanted).await;
        let share = self.leases.share(drains.iter().filter(|row| has_work(row)).count());
        self.give_up_above(share);
        for row in drains.iter().filter(|row| has_work(row)) {
            let held = self.leases.get(row.id).is_some();
            if !self.running.contains_key(&row.id) && (held || self.leases.count() < share) {
                // There may be many to start.
                self.leases.renew().await;
                self.start(row).await?;
            }
        }
        self.test().await?;
        self.test_configurations().await?;
        self.resend().await?;
        self.report_paused(&drains);
        if self.forgotten.is_none_or(|at| at.elapsed() >= FORGET_EVERY) {
            self.forgotten = Some(Instant::now());
            self.context.store.forget_drain_history().await?;
        }
        Ok(())
    }

    /// Lets go of drains above the share, in the order of their ids: each worker its own way would
    /// do as well.
    fn give_up_above(&mut self, share: usize) {
        let mut kept: Vec<_> =
            self.running.iter_mut().filter(|(_, running)| !running.given_up).collect();
        if kept.len() <= share {
            return;
        }
        kept.sort_unstable_by_key(|(drain, _)| **drain);
        for (drain, running) in kept.into_iter().skip(share) {
            tracing::info!(%drain, "drain given up to another worker");
            running.given_up = true;
            running.stop.cancel();
        }
    }

    /// A paused drain's backlog grows although nobody works on it. There may be many, and leases are to be
    /// renewed meanwhile.
    fn report_paused(&mut self, drains: &[DrainOutline]) {
        while self.paused.try_join_next().is_some() {}
        let is_early = self.paused_reported.is_some_and(|at| at.elapsed() < PAUSED_EVERY);
        if is_early || !self.paused.is_empty() {
            return;
        }
        self.paused_reported = Some(Instant::now());
        let paused = drains.iter().filter(|row| row.paused);
        let paused: Vec<_> = paused.map(|row| (row.id, drain::sources(row))).collect();
        let store = self.context.store.clone();
        self.paused.spawn(async move {
            if let Err(error) = report_paused(&store, paused).await {
                tracing::debug!("how far paused drains are behind cannot be told: {error}");
            }
        });
    }

    async fn start(&mut self, outline: &DrainOutline) -> Result<(), StoreError> {
        let drain = outline.id;
        let Some(lease) = self.leases.take(drain).await? else { return Ok(()) };
        let row = self.context.store.workable_drain(drain).await?;
        // What was changed since then is seen at the next look.
        let Some(row) = row.filter(|row| row.revision == outline.revision) else { return Ok(()) };
        let stop = CancellationToken::new();
        let (context, outline, token) = (self.context.clone(), outline.clone(), stop.clone());
        let (revision, generation) = (outline.revision, lease.generation);
        let (pass_over, until) = (PassOver::of(&outline), self.leases.until());
        let task = self.pipelines.spawn(async move {
            pipeline::run(context, outline, row, lease, until, token).await;
            drain
        });
        let running = Running { revision, generation, pass_over, stop, task, given_up: false };
        self.running.insert(drain, running);
        Ok(())
    }

    /// A pipeline has ended; None if it panicked.
    async fn ended(&mut self, drain: Option<Id<Drain>>) {
        let Some(drain) = drain else {
            tracing::error!("a drain's pipeline has panicked; it is started anew");
            return self.running.retain(|_, running| !running.task.is_finished());
        };
        if self.running.remove(&drain).is_some_and(|running| running.given_up) {
            self.leases.release(&[drain]).await;
        }
    }

    fn is_tested(&self, drain: Id<Drain>) -> bool {
        self.testing.values().any(|tested| *tested == drain)
    }

    async fn test(&mut self) -> Result<(), StoreError> {
        for wish in self.context.store.open_drain_tests().await? {
            // The lease decides which worker sends the line; a paused drain is taken for the test.
            if self.testing.contains_key(&wish.id) || self.leases.take(wish.drain).await?.is_none()
            {
                continue;
            }
            let Some(row) = self.context.store.workable_drain(wish.drain).await? else { continue };
            self.testing.insert(wish.id, wish.drain);
            let context = self.context.clone();
            self.tests.spawn(async move {
                drain_test::run(&context, &row, wish.id).await;
                wish.id
            });
        }
        Ok(())
    }

    /// Tests configurations that are not kept: any worker does.
    async fn test_configurations(&mut self) -> Result<(), StoreError> {
        for (test, row) in self.context.store.claim_configuration_tests().await? {
            let context = self.context.clone();
            self.tests.spawn(async move {
                drain_test::run(&context, &row, test).await;
                test
            });
        }
        Ok(())
    }

    /// Sends refused lines again, of drains that are this worker's.
    async fn resend(&mut self) -> Result<(), StoreError> {
        self.resending.retain(|drain, task| {
            // It goes with the drain's pipeline, and so with its lease.
            if !self.running.contains_key(drain) {
                task.abort();
            }
            !task.is_finished()
        });
        self.resend_failed.retain(|_, at| at.elapsed() < RESEND_AGAIN);
        for drain in self.context.store.drains_to_resend().await? {
            let Some(lease) = self.leases.get(drain) else { continue };
            let waits =
                self.resending.contains_key(&drain) || self.resend_failed.contains_key(&drain);
            if waits || !self.running.contains_key(&drain) {
                continue;
            }
            let Some(row) = self.context.store.workable_drain(drain).await? else { continue };
            let context = self.context.clone();
            let task = self.resends.spawn(async move {
                let failed = drain_resend::run(&context, &row, lease).await.inspect_err(|error| {
                    tracing::warn!(%drain, "{error}");
                });
                failed.is_err().then_some(drain)
            });
            self.resending.insert(drain, task);
        }
        Ok(())
    }

    /// A test has ended; None if it panicked.
    async fn tested(&mut self, test: Option<Uuid>) {
        let Some(test) = test else { return self.testing.clear() };
        let Some(drain) = self.testing.remove(&test) else { return };
        if !self.running.contains_key(&drain) && !self.is_tested(drain) {
            self.leases.release(&[drain]).await;
        }
    }

    async fn stop(mut self) -> Result<(), RunError> {
        for running in self.running.values() {
            running.stop.cancel();
        }
        self.tests.abort_all();
        self.resends.abort_all();
        let ended = async { while self.pipelines.join_next().await.is_some() {} };
        let stopped = timeout(STOP_DEADLINE, ended).await.is_ok();
        self.pipelines.shutdown().await;
        self.leases.leave().await;
        if stopped { Ok(()) } else { Err(RunError::NotStopped(STOP_DEADLINE)) }
    }
}

async fn report_paused(
    store: &Store,
    paused: Vec<(Id<Drain>, Vec<Source>)>,
) -> Result<(), StoreError> {
    for (drain, sources) in paused {
        let lag = lag_of(store, drain, &sources).await?;
        store.report_paused_lag(drain, (lag.records, lag.bytes, lag.seconds)).await?;
    }
    Ok(())
}

/// Whether a drain needs a pipeline. A paused one does where the retention horizon has overtaken it.
fn has_work(row: &DrainOutline) -> bool {
    !row.paused || row.drop_to_xid.is_some()
}

/// Waits for news; for ever if nobody listens.
async fn wait_for(news: &mut Option<DrainNews>) {
    match news {
        Some(listener) => {
            if listener.next().await.is_err() {
                *news = None;
            }
        }
        None => std::future::pending().await,
    }
}
