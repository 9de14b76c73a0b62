//! Telling readers that an environment has new blocks.
//!
//! NOTIFY takes a lock on the whole database when it commits, so it is sent apart from the append:
//! one statement at a time, then a short pause, and what is appended meanwhile goes together into the
//! next. Nobody waits for it, and what could not be sent is sent with the next.

use std::collections::HashSet;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::{Environment, Id};
use tokio::sync::Notify;
use uuid::Uuid;

use super::session::{Dialer, Failure, Session};

/// After a statement: under load, 200 of them in a second are enough.
const PAUSE: Duration = Duration::from_millis(5);
/// After a failure.
const RETRY: Duration = Duration::from_secs(1);

const NOTIFY: &str =
    "select pg_notify('spillway_stream', environment::text) from unnest($1::uuid[]) environment";

/// The environments whose readers are to be told.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    appended: Mutex<HashSet<Uuid>>,
    some: Notify,
}

impl Notifier {
    /// An environment has new blocks.
    pub(super) fn appended(&self, environment: Id<Environment>) {
        self.set(|appended| appended.insert(environment.uuid()));
        self.some.notify_one();
    }

    pub(super) async fn run(self: Arc<Self>, dialer: Dialer) {
        let mut session = None;
        loop {
            self.some.notified().await;
            let environments: Vec<Uuid> = self.set(mem::take).into_iter().collect();
            if let Err(failure) = notify(&dialer, &mut session, &environments).await {
                tracing::warn!(%failure, "readers of the log stream could not be notified; tried again");
                session = None;
                self.set(|appended| appended.extend(environments));
                self.some.notify_one();
                tokio::time::sleep(RETRY).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn set<T>(&self, change: impl FnOnce(&mut HashSet<Uuid>) -> T) -> T {
        change(&mut self.appended.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn notify(
    dialer: &Dialer,
    session: &mut Option<Session>,
    environments: &Vec<Uuid>,
) -> Result<(), Failure> {
    let session = match session {
        Some(session) if !session.is_closed() => session,
        _ => session.insert(dialer.dial().await?),
    };
    session.execute(NOTIFY, &[environments]).await
}
