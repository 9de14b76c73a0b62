//! One container, followed until it is gone: what its labels name, and trouble on the way.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::Docker;
use super::daemon::{Change, Container, DaemonError};
use super::frames::FrameError;
use super::journal::{Journal, Over};
use super::labels::{self, Refused};
use super::life::Changes;
use super::log::Log;
use crate::sources::Source;

/// How often names that are unknown are looked up again.
const LOOK_UP_EVERY: Duration = Duration::from_secs(10);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
const REFUSED_RETRY: Duration = Duration::from_mins(1);

/// Follows a container.
pub(super) struct Follower {
    docker: Docker,
    id: String,
    daemon: String,
    changes: Changes,
    /// Known once the labels name something.
    log: Option<Log>,
}

/// Why a container is not followed at the moment.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// For good: the process stops.
    #[error("it stops")]
    Stopped,
    /// For good: it does not exist any more, or is forgotten.
    #[error("the container is gone")]
    Gone,
    /// Its labels name nothing any more.
    #[error("the container's labels name nothing any more")]
    Unnamed,
    /// Docker's fault.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// Docker's, too.
    #[error(transparent)]
    Frames(#[from] FrameError),
}

impl Follower {
    pub(super) fn new(
        docker: Docker,
        id: String,
        daemon: String,
        changes: mpsc::Receiver<(u64, Change)>,
    ) -> Self {
        Self { docker, id, daemon, changes: Changes::new(changes), log: None }
    }

    /// Follows it until it is gone, or the stop.
    pub(super) async fn run(mut self) {
        let (mut delay, mut is_said) = (FIRST_RETRY, false);
        loop {
            let before = self.progress();
            let Err(trouble) = self.go_on().await;
            if self.progress() != before {
                (delay, is_said) = (FIRST_RETRY, false);
            }
            match &trouble {
                Trouble::Stopped | Trouble::Gone => return,
                Trouble::Unnamed => {
                    tracing::warn!(container = self.id, "{trouble}");
                    self.log = None;
                }
                // That the daemon is away is said for all containers at once.
                Trouble::Daemon(DaemonError::Unreachable(_) | DaemonError::Silent) => {
                    tracing::debug!(container = self.id, "{trouble}");
                }
                Trouble::Daemon(_) | Trouble::Frames(_) => {
                    if !std::mem::replace(&mut is_said, true) {
                        tracing::warn!(
                            container = self.id,
                            "the container's log cannot be read: {trouble}"
                        );
                    }
                    delay = REFUSED_RETRY;
                }
            }
            // Losing either arm loses nothing.
            tokio::select! {
                () = self.docker.stop.cancelled() => return,
                () = sleep(delay) => {}
            }
            delay = (delay * 2).min(LONGEST_RETRY);
        }
    }

    fn progress(&self) -> Option<u64> {
        self.log.as_ref().map(Log::progress)
    }

    async fn go_on(&mut self) -> Result<std::convert::Infallible, Trouble> {
        let log = match &mut self.log {
            Some(log) => log,
            none => {
                let container = match self.docker.daemon.container(&self.id).await {
                    Err(DaemonError::Unknown) => return Err(Trouble::Gone),
                    found => found?,
                };
                let source = named(&self.docker, &mut self.changes, &container).await?;
                let journal = Journal::open(&self.docker, &self.id, &self.daemon, &source).await?;
                tracing::debug!(container = self.id, name = container.name, "follows a container");
                none.insert(Log::new(self.docker.clone(), container, source, journal))
            }
        };
        log.follow(&mut self.changes).await
    }
}

/// What a container's labels name, as soon as they name something.
async fn named(
    docker: &Docker,
    changes: &mut Changes,
    container: &Container,
) -> Result<Arc<Source>, Trouble> {
    let mut is_refused = false;
    loop {
        match look_up(docker, container).await {
            Ok(Ok(source)) => return Ok(source),
            Ok(Err(why)) => {
                if !std::mem::replace(&mut is_refused, true) {
                    docker.refuse(&container.id, &container.name, &why);
                }
            }
            Err(error) => docker.say_once("labels of containers cannot be looked up", &error),
        }
        let wait = sleep(LOOK_UP_EVERY);
        tokio::pin!(wait);
        loop {
            // Losing an arm loses nothing.
            tokio::select! {
                () = docker.stop.cancelled() => return Err(Trouble::Stopped),
                () = &mut wait => break,
                () = changes.hear() => {}
            }
            if changes.is_destroyed() {
                return Err(Trouble::Gone);
            }
        }
    }
}

/// What a container's labels name now.
pub(super) async fn look_up(
    docker: &Docker,
    container: &Container,
) -> Result<Result<Arc<Source>, Refused>, store::StoreError> {
    let names = match labels::parse(&container.labels) {
        Ok(names) => names,
        Err(why) => return Ok(Err(why)),
    };
    let mut found = docker.intake.store.container_sources(&names).await?;
    Ok(match (found.pop(), found.is_empty()) {
        (Some(row), true) => Ok(Arc::new(Source::new(row))),
        (None, _) => Err(Refused::Unknown(labels::describe(&names))),
        (Some(_), false) => Err(Refused::Ambiguous(labels::describe(&names))),
    })
}

impl From<Over> for Trouble {
    fn from(over: Over) -> Self {
        match over {
            Over::Stopped => Self::Stopped,
            Over::Forgotten => Self::Gone,
        }
    }
}
