//! The logs of containers on a Docker daemon.
//!
//! Containers say by labels whose lines they write; whoever may start containers there is trusted to say so. One
//! task follows each (`container`): it reads pieces (`frames`), makes lines of them (`lines`) and puts these
//! into the stream, together with how far it has got (`journal`).
//!
//! Invariants: every line that Docker has kept until it was read is in the stream once, whatever is killed in
//! between; of one daemon one intake follows the containers (`turn`); a container whose lines cannot be made
//! durable is not read; so many containers at a time have bytes that are read and not in the stream yet.
//! What of a line has come without its end, and what a format waits with, is bounded for each container alone.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use log_stream::PostgresStream;
use model::{Appender, Id, Timestamp};
use service::Shutdown;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::Intake;

mod container;
mod daemon;
mod frames;
mod journal;
mod labels;
mod life;
mod lines;
mod log;
mod position;
mod reading;
mod turn;

use container::Follower;
use daemon::{Change, Daemon, DaemonError};
use journal::{Patience, Stopped};
use turn::BEAT_EVERY;

/// Docker remembers the last 256 changes: these are asked for at first.
const CHANGES_OF: Duration = Duration::from_hours(24);
/// Between looks at all containers, which find what no change has told of.
const LOOK_EVERY: Duration = Duration::from_mins(1);
/// What is kept of a container that is gone.
const KEEP_FOR: Duration = Duration::from_mins(10);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// Changes of one container that wait; of more it learns when it looks at the container.
const CHANGES: usize = 64;
/// Containers with bytes that are read and not in the stream yet, at a time: about 1 MiB each.
const BUFFERS: usize = 64;
/// The same trouble is said again after this.
const SAY_AGAIN: Duration = Duration::from_mins(5);

/// The containers of a daemon. Clones share them.
#[derive(Clone)]
pub(crate) struct Docker {
    intake: Intake,
    /// With an appender of its own.
    stream: PostgresStream,
    daemon: Arc<Daemon>,
    tasks: Shutdown,
    stop: CancellationToken,
    fenced: Arc<tokio::sync::Mutex<HashSet<Id<Appender>>>>,
    said: Arc<Mutex<HashMap<String, Instant>>>,
    refused: Arc<AtomicU64>,
    buffers: Arc<Semaphore>,
}

/// The address is not that of a Docker daemon.
#[derive(Debug, thiserror::Error)]
#[error("--intake-docker-host: {0}")]
pub struct InvalidHost(#[source] DaemonError);

struct Followed {
    changes: mpsc::Sender<(u64, Change)>,
    task: tokio::task::JoinHandle<()>,
}

/// What one turn of following a daemon's containers knows.
struct Watch {
    followed: HashMap<String, Followed>,
    /// From when on changes are asked for.
    since: Timestamp,
    /// The daemon does not answer.
    is_away: bool,
    /// This intake is the one that follows the containers.
    is_held: bool,
    /// After so long without a word, another that follows them is taken for gone.
    unseen_for: Duration,
}

impl Docker {
    /// The containers of the daemon at `unix:///path`, which need not answer yet.
    pub(crate) fn new(
        intake: Intake,
        stream: &PostgresStream,
        host: &str,
    ) -> Result<Self, InvalidHost> {
        Ok(Self {
            intake,
            stream: stream.renewed(),
            daemon: Arc::new(Daemon::new(host).map_err(InvalidHost)?),
            tasks: Shutdown::new(),
            stop: CancellationToken::new(),
            fenced: Arc::default(),
            said: Arc::default(),
            refused: Arc::default(),
            buffers: Arc::new(Semaphore::new(BUFFERS)),
        })
    }

    /// Follows them until the shutdown is requested; what was read is durable then, or read again later.
    pub(crate) async fn run(mut self, shutdown: Shutdown, deadline: Duration) {
        let mut watch = Watch::first();
        loop {
            self.take_turn(&mut watch, &shutdown).await;
            self.stop.cancel();
            self.tasks.request();
            self.tasks.finished(deadline).await;
            if shutdown.is_requested() {
                break;
            }
            // The old appender is fenced off, or may be.
            self = self.renewed();
            watch = Watch::later();
        }
        if watch.is_held {
            self.release().await;
        }
    }

    /// Until the shutdown is requested, or another follows the containers.
    async fn take_turn(&self, watch: &mut Watch, shutdown: &Shutdown) {
        let mut delay = FIRST_RETRY;
        while !shutdown.is_requested() && !self.stop.is_cancelled() {
            // Losing the watch loses nothing: containers are looked at again, changes asked for again.
            let outcome = tokio::select! {
                () = shutdown.requested() => break,
                () = self.stop.cancelled() => break,
                outcome = self.watch(watch) => outcome,
            };
            let Err(error) = outcome;
            if !std::mem::replace(&mut watch.is_away, true) {
                tracing::warn!(
                    "containers are not followed at present, and caught up with later: {error}"
                );
                delay = FIRST_RETRY;
            }
            tokio::select! {
                () = shutdown.requested() => {}
                () = self.stop.cancelled() => {}
                () = sleep(delay) => {}
            }
            delay = (delay * 2).min(LONGEST_RETRY);
        }
    }

    /// Until the daemon breaks off.
    async fn watch(&self, watch: &mut Watch) -> Result<std::convert::Infallible, DaemonError> {
        while !self.beat(watch).await? {
            sleep(BEAT_EVERY).await;
        }
        let mut changes = self.daemon.changes(watch.since).await?.boxed();
        let mut look_at = Instant::now();
        let mut beat_at = Instant::now() + BEAT_EVERY;
        loop {
            // Losing a timer loses nothing; a change is lost only with the stream, and then asked for again.
            let change = tokio::select! {
                change = changes.next() => change,
                () = sleep_until(look_at) => {
                    self.look(&mut watch.followed).await?;
                    if std::mem::take(&mut watch.is_away) {
                        tracing::info!("the Docker daemon answers; its containers are followed");
                    }
                    look_at = Instant::now() + LOOK_EVERY;
                    continue;
                }
                () = sleep_until(beat_at) => {
                    self.beat(watch).await?;
                    beat_at = Instant::now() + BEAT_EVERY;
                    continue;
                }
            };
            let Some(change) = change else {
                return Err(DaemonError::Unreachable("it has ended the answer".to_owned()));
            };
            let (id, at, change) = change?;
            watch.since = watch.since.max(Timestamp::from_nanos(at));
            let followed = &mut watch.followed;
            let is_known = followed.get(&id).is_some_and(|known| !known.changes.is_closed());
            if change == Change::Started && !is_known {
                self.follow(followed, id.clone()).await?;
            }
            if let Some(known) = followed.get(&id) {
                // Where there are too many it looks for itself.
                known.changes.try_send((at, change)).ok();
            }
        }
    }

    /// Looks which containers there are.
    async fn look(&self, followed: &mut HashMap<String, Followed>) -> Result<(), DaemonError> {
        let mut kept = self.daemon.containers().await?;
        followed.retain(|_, known| !known.task.is_finished());
        for id in &kept {
            if !followed.contains_key(id) {
                self.follow(followed, id.clone()).await?;
            }
        }
        // One that is gone may have its end still to be recorded.
        kept.extend(followed.keys().cloned());
        let (name, appender) = (self.daemon.name().await?, self.stream.appender());
        match self.intake.store.forget_container_logs(name, appender, &kept, KEEP_FOR).await {
            Ok(_) => {}
            Err(error) => self.say_once("containers that are gone cannot be forgotten", &error),
        }
        Ok(())
    }

    async fn follow(
        &self,
        followed: &mut HashMap<String, Followed>,
        id: String,
    ) -> Result<(), DaemonError> {
        let daemon = self.daemon.name().await?.to_owned();
        let (changes, heard) = mpsc::channel(CHANGES);
        let task = Follower::new(self.clone(), id.clone(), daemon, heard).run();
        let task = self.tasks.spawn(task);
        followed.insert(id, Followed { changes, task });
        Ok(())
    }

    /// Makes sure that an earlier process, or another, appends nothing any more.
    async fn fence(&self, appender: Id<Appender>) -> Result<(), Stopped> {
        // Held while it is fenced off: the others need to wait for that, too.
        let mut fenced = self.fenced.lock().await;
        if !fenced.contains(&appender) {
            let what = "the process that followed the containers before cannot be fenced off";
            let mut patience = Patience::new(self, what);
            while let Err(error) = self.stream.fence(appender).await {
                patience.wait(&error).await?;
            }
            fenced.insert(appender);
        }
        Ok(())
    }

    /// A trouble that all containers may have at a time.
    fn say_once(&self, what: &str, error: &dyn fmt::Display) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = said.get(what).is_none_or(|at| at.elapsed() >= SAY_AGAIN);
        if is_new {
            said.insert(what.to_owned(), Instant::now());
            tracing::warn!("{what}: {error}");
        }
    }

    /// A container's labels name nothing.
    fn refuse(&self, container: &str, name: &str, why: &dyn fmt::Display) {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::warn!(container, name, refused, "the container's log is not followed: {why}");
    }
}

impl Watch {
    /// The one that came last follows the containers.
    fn first() -> Self {
        let since = Timestamp::now().nanos().saturating_sub(nanos(CHANGES_OF));
        Self {
            followed: HashMap::new(),
            since: Timestamp::from_nanos(since),
            is_away: false,
            is_held: false,
            unseen_for: Duration::ZERO,
        }
    }

    /// Whoever has lost them waits until the other is gone.
    fn later() -> Self {
        Self { unseen_for: turn::UNSEEN_FOR, ..Self::first() }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
