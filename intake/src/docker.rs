//! The logs of containers on a Docker daemon.
//!
//! Containers say by labels whose lines they write; whoever may start containers there is trusted to say so. One
//! task follows each (`container`): it reads pieces (`frames`), makes lines of them (`lines`) and puts these
//! into the stream, together with how far it has got (`journal`).
//!
//! Invariants: every line that Docker has kept until it was read is in the stream once, whatever is killed in
//! between; of one daemon one intake follows the containers, and the one that came last is it; a container
//! whose lines cannot be made durable is not read.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use log_stream::PostgresStream;
use model::{Appender, Id, Timestamp};
use service::Shutdown;
use tokio::sync::mpsc;
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

use container::Follower;
use daemon::{Change, Daemon, DaemonError};
use journal::{Patience, Stopped};

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
}

/// The address is not that of a Docker daemon.
#[derive(Debug, thiserror::Error)]
#[error("--intake-docker-host: {0}")]
pub struct InvalidHost(#[source] DaemonError);

struct Followed {
    changes: mpsc::Sender<(u64, Change)>,
    task: tokio::task::JoinHandle<()>,
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
        })
    }

    /// Follows them until the shutdown is requested; what was read is durable then, or read again later.
    pub(crate) async fn run(self, shutdown: Shutdown, deadline: Duration) {
        let (mut followed, mut delay, mut is_lost) = (HashMap::new(), FIRST_RETRY, false);
        let mut since =
            Timestamp::from_nanos(Timestamp::now().nanos().saturating_sub(nanos(CHANGES_OF)));
        while !shutdown.is_requested() && !self.stop.is_cancelled() {
            // Losing the watch loses nothing: containers are looked at again, changes asked for again.
            let outcome = tokio::select! {
                () = shutdown.requested() => break,
                () = self.stop.cancelled() => break,
                outcome = self.watch(&mut followed, &mut since, &mut is_lost) => outcome,
            };
            let Err(error) = outcome;
            if !std::mem::replace(&mut is_lost, true) {
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
        self.stop.cancel();
        self.tasks.request();
        self.tasks.finished(deadline).await;
    }

    /// Until the daemon breaks off.
    async fn watch(
        &self,
        followed: &mut HashMap<String, Followed>,
        since: &mut Timestamp,
        is_lost: &mut bool,
    ) -> Result<std::convert::Infallible, DaemonError> {
        let mut changes = self.daemon.changes(*since).await?.boxed();
        let mut look_at = Instant::now();
        loop {
            // Losing the timer loses nothing; a change is lost only with the stream, and then asked for again.
            let change = tokio::select! {
                change = changes.next() => change,
                () = sleep_until(look_at) => {
                    self.look(followed).await?;
                    if std::mem::take(is_lost) {
                        tracing::info!("the Docker daemon answers; its containers are followed");
                    }
                    look_at = Instant::now() + LOOK_EVERY;
                    continue;
                }
            };
            let Some(change) = change else {
                return Err(DaemonError::Unreachable("it has ended the answer".to_owned()));
            };
            let (id, at, change) = change?;
            *since = (*since).max(Timestamp::from_nanos(at));
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
        let present = self.daemon.containers().await?;
        followed.retain(|_, known| !known.task.is_finished());
        for id in &present {
            if !followed.contains_key(id) {
                self.follow(followed, id.clone()).await?;
            }
        }
        let name = self.daemon.name().await?;
        match self.intake.store.forget_container_logs(name, &present, KEEP_FOR).await {
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

    /// Another process follows the containers.
    fn lost(&self) -> Stopped {
        if !self.stop.is_cancelled() {
            tracing::error!(
                "another intake has taken over the containers of this Docker daemon; this one follows them no more"
            );
            self.stop.cancel();
        }
        Stopped
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

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
