//! Hearing of new blocks: one connection listens for all readers of this process.
//!
//! A reader subscribes before it looks, so a block that is announced while it looks wakes it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::{Environment, Id};
use tokio::sync::watch;
use uuid::Uuid;

use super::session::{Dialer, Failure};

/// Between attempts to listen.
const RETRY: Duration = Duration::from_secs(1);

/// The readers that wait, by their environment.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    listening: AtomicBool,
    environments: Mutex<HashMap<Uuid, watch::Sender<()>>>,
}

impl Wakes {
    /// A receiver that changes when the environment has new blocks.
    pub(super) fn subscribe(&self, environment: Id<Environment>) -> watch::Receiver<()> {
        self.with(|environments| {
            environments.retain(|_, readers| readers.receiver_count() > 0);
            let readers = environments.entry(environment.uuid());
            readers.or_insert_with(|| watch::Sender::new(())).subscribe()
        })
    }

    /// Whether new blocks are heard of.
    pub(super) fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Relaxed)
    }

    pub(super) async fn run(self: Arc<Self>, dialer: Dialer) {
        loop {
            let ended = self.listen(&dialer).await;
            self.listening.store(false, Ordering::Relaxed);
            if let Err(failure) = ended {
                tracing::warn!(%failure, "cannot listen for new blocks of the log stream; readers find them by themselves, later");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Listens until the connection ends.
    async fn listen(self: &Arc<Self>, dialer: &Dialer) -> Result<(), Failure> {
        let wakes = Arc::clone(self);
        let hear = move |notification: tokio_postgres::Notification| {
            if let Ok(environment) = notification.payload().parse() {
                wakes.wake(environment);
            }
        };
        let session = dialer.dial_and_hear(hear).await?;
        session.batch("listen spillway_stream").await?;
        self.listening.store(true, Ordering::Relaxed);
        // Nobody heard what was announced until now.
        self.with(|environments| {
            for readers in environments.values() {
                readers.send_replace(());
            }
        });
        session.closed().await;
        Ok(())
    }

    fn wake(&self, environment: Uuid) {
        self.with(|environments| {
            if let Some(readers) = environments.get(&environment) {
                readers.send_replace(());
            }
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<Uuid, watch::Sender<()>>) -> T) -> T {
        change(&mut self.environments.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
