//! The orderly end of a process.
//!
//! Invariant: every task of a service is spawned through [`Shutdown::spawn`], so that none outlives
//! [`Shutdown::finished`].

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The wish to stop, and the tasks that must see it. Clones share both.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    requested: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// A shutdown that nobody has requested.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests the shutdown at the first SIGINT or SIGTERM; at the second, ends the process with
    /// status 130.
    pub fn on_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let requested = self.requested.clone();
        // Not tracked: it waits for a second signal until the process is gone.
        #[allow(clippy::disallowed_methods, reason = "must outlive the tracked tasks")]
        tokio::spawn(async move {
            for _ in 0..2 {
                // Either signal may win: both mean stop.
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if requested.is_cancelled() {
                    std::process::exit(130);
                }
                requested.cancel();
            }
        });
        Ok(())
    }

    /// Asks every task to stop.
    pub fn request(&self) {
        self.requested.cancel();
    }

    /// Whether the stop was requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.requested.is_cancelled()
    }

    /// Waits for the request.
    pub async fn requested(&self) {
        self.requested.cancelled().await;
    }

    /// The request as a token, for libraries that take one and for children.
    #[must_use]
    pub const fn token(&self) -> &CancellationToken {
        &self.requested
    }

    /// Runs a task that ends soon after the request.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        #[allow(clippy::disallowed_methods, reason = "this is the tracker that the rule asks for")]
        self.tasks.spawn(task)
    }

    /// Waits until every task has ended; false if some had not by the deadline.
    pub async fn finished(&self, deadline: Duration) -> bool {
        self.tasks.close();
        tokio::time::timeout(deadline, self.tasks.wait()).await.is_ok()
    }
}
