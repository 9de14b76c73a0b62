//! Ways in for the logs of apps and databases.
//!
//! The walk of a line: a way in (`http`, `syslog`, `docker`) finds the sender's log source (`sources`), takes its
//! bytes from the quota (`quota`), reads lines of them, and puts them into their environment's lane (`lanes`), which
//! appends them to the log stream. Only then is a sender that can be answered told that they are there.

use std::sync::Arc;
use std::time::Duration;

use log_stream::{ConnectError, PostgresSettings, PostgresStream};
use model::Secret;
use service::Shutdown;
use store::{Store, StoreError};
use tokio::time::{Instant, sleep};

mod config;
mod counts;
mod docker;
mod formats;
mod lanes;
mod quota;
mod sources;

pub use config::{Config, Connections, Settings};
pub use docker::InvalidHost;

use counts::Counts;
use docker::Docker;
use lanes::Lanes;
use quota::Quotas;
use sources::Sources;

/// How long lines that were taken have to become durable when the process stops.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// An intake cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The control data is not to be had.
    #[error("the intake cannot use the database (--intake-database-url): {0}")]
    Store(#[from] StoreError),
    /// The stream is not to be had.
    #[error("the intake cannot use the log stream (--intake-database-url): {0}")]
    Stream(#[from] ConnectError),
    /// The Docker daemon's address is none.
    #[error(transparent)]
    Docker(#[from] InvalidHost),
}

/// An intake ended otherwise than by request.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Their senders were not told that they are durable.
    #[error("some lines were not durable {0:?} after the stop was requested")]
    NotDurable(Duration),
}

/// What the ways in share.
#[derive(Clone)]
pub(crate) struct Intake {
    pub(crate) store: Store,
    pub(crate) sources: Sources,
    pub(crate) lanes: Lanes,
    pub(crate) quotas: Quotas,
    pub(crate) counts: Counts,
}

/// An intake that listens and has not taken anything yet.
pub struct Bound {
    intake: Intake,
    docker: Option<Docker>,
    /// Ends after the ways in have.
    tasks: Shutdown,
}

/// Connects and listens.
pub async fn bind(config: Config) -> Result<Bound, StartError> {
    let Config { settings, connections } = config;
    let url = connections.intake_database_url;
    let store = Store::connect(&url, settings.intake_database_connections)?;
    let (counts, tasks) = (Counts::default(), Shutdown::new());
    let sources = Sources::new(store.clone(), counts.clone());
    sources.look().await?;
    let stream = PostgresStream::connect(PostgresSettings::new(Secret::new(url))).await?;
    let lanes = Lanes::new(Arc::new(stream.clone()), counts.clone(), tasks.clone());
    let quotas = Quotas::new(&settings, counts.clone());
    let intake = Intake { store, sources, lanes, quotas, counts };
    let docker = connections.intake_docker_host.as_deref();
    let docker = docker.map(|host| Docker::new(intake.clone(), &stream, host)).transpose()?;
    Ok(Bound { intake, docker, tasks })
}

impl Bound {
    /// Takes lines until the shutdown is requested; those that were taken become durable then.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), RunError> {
        let Self { intake, docker, tasks } = self;
        let counting = tasks.spawn(intake.counts.clone().run(intake.store.clone(), tasks.clone()));
        let following = async {
            if let Some(docker) = docker {
                docker.run(shutdown.clone(), STOP_DEADLINE).await;
            }
        };
        tokio::join!(intake.sources.clone().run(shutdown.clone()), following, shutdown.requested());
        let until = Instant::now() + STOP_DEADLINE;
        while !intake.lanes.is_empty() && Instant::now() < until {
            sleep(Duration::from_millis(10)).await;
        }
        let is_durable = intake.lanes.is_empty();
        intake.lanes.abandon();
        tasks.request();
        counting.await.ok();
        intake.store.close().await;
        if is_durable { Ok(()) } else { Err(RunError::NotDurable(STOP_DEADLINE)) }
    }
}
