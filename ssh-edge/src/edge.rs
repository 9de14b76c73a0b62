//! What all connections and sessions of one edge share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use log_stream::PostgresStream;
use model::{Appender, EphemeralSession, Id, OpeningKey};
use russh::keys::ssh_key::Fingerprint;
use service::Shutdown;
use store::{Store, StoreError};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::gate::Gate;
use crate::lockout::Lockout;
use crate::runtime::ContainerRuntime;
use crate::runtime_dir::RuntimeDirectory;

/// With the rest of an opening, below the five seconds in which a refusal is promised.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);

/// One edge process.
pub(crate) struct Edge {
    pub(crate) store: Store,
    pub(crate) appending: Mutex<Appending>,
    pub(crate) record_pause_limit: Duration,
    pub(crate) line_pause: Duration,
    pub(crate) runtime: Arc<dyn ContainerRuntime>,
    pub(crate) directory: RuntimeDirectory,
    pub(crate) opening_key: OpeningKey,
    /// The authority that signs users' keys.
    pub(crate) authority: Fingerprint,
    pub(crate) lockout: Lockout,
    pub(crate) live: Arc<Live>,
    pub(crate) sessions: Arc<Semaphore>,
    pub(crate) sign_in_deadline: Duration,
    pub(crate) tasks: Shutdown,
}

/// The stream, and the gate in front of it: both of one appender.
#[derive(Clone)]
pub(crate) struct Appending {
    pub(crate) stream: Arc<PostgresStream>,
    pub(crate) gate: Gate,
}

impl Appending {
    pub(crate) fn appender(&self) -> Id<Appender> {
        self.stream.appender()
    }
}

impl Edge {
    /// How this process appends at the moment. It gets another appender when it is fenced off; a
    /// session keeps the one that it began with.
    pub(crate) fn appending(&self) -> Appending {
        let mut appending = self.appending.lock().unwrap_or_else(PoisonError::into_inner);
        if appending.gate.is_fenced() {
            let stream = Arc::new(appending.stream.renewed());
            let gate = appending.gate.renewed(stream.clone());
            *appending = Appending { stream, gate };
        }
        appending.clone()
    }

    pub(crate) const fn id(&self) -> Id<model::Edge> {
        self.directory.edge()
    }

    /// Waits until this process gives up what is not durable yet.
    pub(crate) async fn abandoned(&self) {
        let gate = self.appending().gate;
        gate.abandoned().await;
    }

    /// Removes a session's container. If that fails, the reaper does it later.
    pub(crate) async fn remove_container(&self, session: Id<EphemeralSession>) {
        if let Err(error) = self.runtime.remove(session).await {
            tracing::warn!(%session, %error, "a container is left for the reaper");
        }
    }
}

/// An answer of the control data, or a failure after a while: a database that hangs does not answer.
pub(crate) async fn answered<T>(
    answer: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(ANSWER_DEADLINE, answer).await.unwrap_or(Err(StoreError::Silent))
}

/// The sessions that this process has; what else bears this edge's name is left over.
#[derive(Debug, Default)]
pub(crate) struct Live(Mutex<HashMap<Id<EphemeralSession>, CancellationToken>>);

/// A session's place among the live ones, until dropped.
pub(crate) struct Entered {
    live: Arc<Live>,
    session: Id<EphemeralSession>,
    lost: CancellationToken,
}

impl Entered {
    /// Cancelled when another edge has taken the session over, because this one seemed dead.
    pub(crate) const fn lost(&self) -> &CancellationToken {
        &self.lost
    }
}

impl Live {
    /// Enters a session; `None` if it is live already.
    pub(crate) fn enter(self: &Arc<Self>, session: Id<EphemeralSession>) -> Option<Entered> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.contains_key(&session) {
            return None;
        }
        let lost = CancellationToken::new();
        sessions.insert(session, lost.clone());
        Some(Entered { live: self.clone(), session, lost })
    }

    pub(crate) fn contains(&self, session: Id<EphemeralSession>) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&session)
    }

    /// Tells a session that another edge has it.
    pub(crate) fn lose(&self, session: Id<EphemeralSession>) {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lost) = sessions.get(&session) {
            lost.cancel();
        }
    }

    pub(crate) fn all(&self) -> Vec<Id<EphemeralSession>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut sessions = self.live.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.remove(&self.session);
    }
}
