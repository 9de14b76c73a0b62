//! Which of several intakes follows the containers of a daemon.
//!
//! The one that came last; the others wait until it stops, or has said nothing for a while. This only spares
//! them from fighting: that a line is recorded once is up to the claims on containers (`journal`), which only the
//! one whose turn it is can make.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::daemon::DaemonError;
use super::journal::Stopped;
use super::{Docker, Shutdown, Watch};

/// Between words that this intake still follows the containers, or looks whether the other one does.
pub(super) const BEAT_EVERY: Duration = Duration::from_secs(5);
/// An intake that has said nothing for so long is taken for gone.
pub(super) const UNSEEN_FOR: Duration = Duration::from_mins(1);
/// Else the others wait for [`UNSEEN_FOR`].
const RELEASE_DEADLINE: Duration = Duration::from_secs(2);

impl Docker {
    /// Takes the turn, or says that it is still this intake's; false while it is not.
    pub(super) async fn beat(&self, watch: &mut Watch) -> Result<bool, DaemonError> {
        let (name, appender) = (self.daemon.name().await?, self.stream.appender());
        match self.intake.store.hold_docker_daemon(name, appender, watch.unseen_for).await {
            Ok(true) => {
                if !std::mem::replace(&mut watch.is_held, true) && watch.unseen_for == UNSEEN_FOR {
                    tracing::info!("the other intake is gone; this one follows the containers");
                }
                watch.unseen_for = UNSEEN_FOR;
            }
            Ok(false) if watch.is_held => {
                watch.is_held = false;
                self.lost();
            }
            Ok(false) => {}
            Err(error) => {
                self.say_once("it cannot be seen which intake follows the containers", &error);
            }
        }
        Ok(watch.is_held)
    }

    /// Another process follows the containers.
    pub(super) fn lost(&self) -> Stopped {
        if !self.stop.is_cancelled() {
            tracing::warn!(
                "another intake has taken over the containers of this Docker daemon; this one waits until it is gone"
            );
            self.stop.cancel();
        }
        Stopped
    }

    /// The same daemon for the next turn, without what the last one has left.
    pub(super) fn renewed(&self) -> Self {
        Self {
            stream: self.stream.renewed(),
            tasks: Shutdown::new(),
            stop: CancellationToken::new(),
            ..self.clone()
        }
    }

    /// Leaves the turn to others.
    pub(super) async fn release(&self) {
        let Ok(name) = self.daemon.name().await else { return };
        let released = self.intake.store.release_docker_daemon(name, self.stream.appender());
        if let Ok(Err(error)) = timeout(RELEASE_DEADLINE, released).await {
            tracing::debug!("other intakes are not told that this one stops: {error}");
        }
    }
}
