//! Ways in for the logs of apps and databases.
//!
//! The walk of a line: a way in (`http`, `syslog`, `docker`) finds the sender's log source (`sources`), takes its
//! bytes from the quota (`quota`), reads lines of them, and puts them into their environment's lane (`lanes`), which
//! appends them to the log stream. Only then is a sender that can be answered told that they are there.

use std::io;
use std::net::SocketAddr;
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
#[cfg(test)]
mod fixture;
mod formats;
mod http;
mod lanes;
mod loops;
mod quota;
mod sources;
mod syslog;

pub use config::{Config, Connections, Settings, SyslogSettings};
pub use docker::InvalidHost;
pub use http::HttpStartError;
pub use syslog::{ListenError, TlsError};

use counts::Counts;
use docker::Docker;
use lanes::Lanes;
use loops::Loops;
use quota::Quotas;
use sources::Sources;
use syslog::Syslog;

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
    /// HTTP(S) cannot be taken.
    #[error("the intake cannot take HTTP: {0}")]
    Http(#[from] HttpStartError),
    /// A syslog address cannot be listened on.
    #[error(transparent)]
    Syslog(#[from] ListenError),
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
    /// The server for HTTP(S) ended by itself.
    #[error("the intake's HTTP server failed: {0}")]
    Http(#[from] io::Error),
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
    http: http::Listening,
    syslog: Syslog,
    docker: Option<Docker>,
    /// Ends after the ways in have.
    tasks: Shutdown,
}

/// Connects and listens.
pub async fn bind(config: Config) -> Result<Bound, StartError> {
    let Config { settings, connections } = config;
    let http = http::listen(&settings)?;
    let url = connections.intake_database_url;
    let store = Store::connect(&url, settings.intake_database_connections)?;
    let (counts, tasks) = (Counts::default(), Shutdown::new());
    let loops = Loops::new(counts.clone());
    let sources = Sources::new(store.clone(), counts.clone(), loops.clone());
    sources.look().await?;
    let stream = PostgresStream::connect(PostgresSettings::new(Secret::new(url))).await?;
    let lanes = Lanes::new(Arc::new(stream.clone()), counts.clone(), loops, tasks.clone());
    let quotas = Quotas::new(&settings, counts.clone());
    let syslog = Syslog::bind(&settings.syslog).await?;
    let intake = Intake { store, sources, lanes, quotas, counts };
    let docker = settings.intake_docker_host.as_deref();
    let docker = docker.map(|host| Docker::new(intake.clone(), &stream, host)).transpose()?;
    Ok(Bound { intake, http, syslog, docker, tasks })
}

impl Bound {
    /// Where it takes HTTP(S).
    #[must_use]
    pub const fn http_address(&self) -> SocketAddr {
        self.http.address()
    }

    /// Takes lines until the shutdown is requested; those that were taken become durable then.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), RunError> {
        let Self { intake, http, syslog, docker, tasks } = self;
        let counting = tasks.spawn(intake.counts.clone().run(
            intake.store.clone(),
            intake.lanes.loops().clone(),
            tasks.clone(),
        ));
        let following = async {
            if let Some(docker) = docker {
                docker.run(shutdown.clone(), STOP_DEADLINE).await;
            }
        };
        let (served, (), (), ()) = tokio::join!(
            http.run(intake.clone(), tasks.clone(), shutdown.clone()),
            syslog.run(intake.clone(), shutdown.clone()),
            intake.sources.clone().run(shutdown.clone()),
            following,
        );
        let until = Instant::now() + STOP_DEADLINE;
        while !intake.lanes.is_empty() && Instant::now() < until {
            sleep(Duration::from_millis(10)).await;
        }
        let is_durable = intake.lanes.is_empty();
        intake.lanes.abandon();
        tasks.request();
        counting.await.ok();
        intake.store.close().await;
        served?;
        if is_durable { Ok(()) } else { Err(RunError::NotDurable(STOP_DEADLINE)) }
    }
}
