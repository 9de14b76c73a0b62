//! Where sessions' containers run.

mod docker;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use model::{Edge, Environment, EphemeralSession, Id, Secret};
use store::sign_in::Limits;

pub(crate) use docker::Docker;

/// A container could not be started, found or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuntimeError {
    /// The runtime does not answer.
    #[error("the container runtime cannot be reached: {0}")]
    Unreachable(String),
    /// It answered with a refusal.
    #[error("the container runtime refused: {0}")]
    Refused(String),
    /// It did not answer in time.
    #[error("the container runtime did not answer within {} seconds", .0.as_secs())]
    Silent(Duration),
}

/// The container of one session. Its first process is our guest.
#[derive(Debug)]
pub(crate) struct Container {
    /// The session; it names the container.
    pub(crate) session: Id<EphemeralSession>,
    /// The edge that has the session.
    pub(crate) edge: Id<Edge>,
    /// The session's environment.
    pub(crate) environment: Id<Environment>,
    /// The image.
    pub(crate) image: String,
    /// The host's name inside.
    pub(crate) hostname: String,
    /// What it may use.
    pub(crate) limits: Limits,
    /// The edge's socket for this session, on this machine.
    pub(crate) socket: PathBuf,
    /// The guest's binary, on this machine.
    pub(crate) guest: PathBuf,
    /// What the guest greets with.
    pub(crate) token: Secret<String>,
}

/// A container that some edge has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owned {
    /// The engine's id of it.
    pub(crate) id: String,
    /// The edge.
    pub(crate) edge: Id<Edge>,
    /// The session.
    pub(crate) session: Id<EphemeralSession>,
}

/// Starts and removes sessions' containers. Every call ends within a deadline of its own.
#[async_trait]
pub(crate) trait ContainerRuntime: Send + Sync + 'static {
    /// Whether the image is on this machine.
    async fn has_image(&self, image: &str) -> Result<bool, RuntimeError>;

    /// Makes and starts a container.
    async fn start(&self, container: &Container) -> Result<(), RuntimeError>;

    /// Removes a session's container, running or not; it may be gone already.
    async fn remove(&self, session: Id<EphemeralSession>) -> Result<(), RuntimeError>;

    /// Removes a container that was listed; it may be gone already.
    async fn remove_owned(&self, owned: &Owned) -> Result<(), RuntimeError>;

    /// Every container that an edge has made, running or not.
    async fn list(&self) -> Result<Vec<Owned>, RuntimeError>;

    /// Removes what was made for all sessions and is not in use.
    async fn tidy(&self);
}
