//! The SSH edge: signs engineers in, runs each session in a container of its own, and shows nothing
//! that is not in the log stream.
//!
//! The walk of a byte: program -> guest -> unix socket -> `session::running` -> `recorder` -> `gate`
//! -> log stream, and back out of the gate -> `session::reveal` -> SSH channel.

mod admission;
mod auth;
mod config;
mod connection;
mod edge;
mod gate;
mod listener;
mod lockout;
mod presence;
mod recorder;
mod runtime;
mod runtime_dir;
mod session;
mod socket;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use log_stream::{ConnectError, PostgresSettings, PostgresStream};
use model::{OpeningKey, Secret};
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::{Certificate, HashAlg};
use russh::keys::{PrivateKey, PublicKey};
use service::Shutdown;
use store::{Store, StoreError};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

pub use config::{Config, Connections, Settings};
pub use runtime_dir::DirectoryError;

use edge::{Appending, Edge};
use gate::Gate;
use lockout::Lockout;
use runtime::Docker;
use runtime_dir::RuntimeDirectory;

const DATABASE_CONNECTIONS: u32 = 10;
/// How long sessions have to end in order, and then the gate to give up.
const STOP_DEADLINE: Duration = Duration::from_secs(15);
const ABANDON_DEADLINE: Duration = Duration::from_secs(2);

/// The edge cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A key file cannot be used.
    #[error("cannot use the {what} {}: {why} ({flag})", path.display())]
    Key {
        /// What is in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The flag that names it.
        flag: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The runtime folder cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The control data cannot be reached.
    #[error("cannot use the control data (--ssh-database-url): {0}")]
    Store(#[from] StoreError),
    /// The log stream cannot be reached.
    #[error("cannot use the log stream (--ssh-database-url): {0}")]
    Stream(#[from] ConnectError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address} (--ssh-listen): {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// The edge failed while it ran.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Some sessions did not end in time; their containers are left for the reaper.
    #[error("some sessions had not ended {} seconds after the stop was requested", STOP_DEADLINE.as_secs())]
    Unfinished,
}

/// An edge that listens and has not taken a connection yet.
pub struct Bound {
    edge: Arc<Edge>,
    listener: TcpListener,
    address: SocketAddr,
    server: Arc<russh::server::Config>,
    settings: Settings,
}

/// Reads the keys, takes the runtime folder, connects and listens.
pub async fn bind(config: Config) -> Result<Bound, StartError> {
    bind_with(config, |stream, tasks| Gate::new(stream, tasks)).await
}

/// The same for an edge that records nothing: it exists only to measure what recording costs. No
/// program of the product calls it.
pub async fn bind_unrecorded(config: Config) -> Result<Bound, StartError> {
    bind_with(config, |_, tasks| Gate::open(tasks)).await
}

async fn bind_with(
    config: Config,
    gate: impl FnOnce(Arc<PostgresStream>, Shutdown) -> Gate,
) -> Result<Bound, StartError> {
    let Config { settings, connections } = config;
    let keys = Keys::load(&connections)?;
    let directory = RuntimeDirectory::open(&settings.ssh_runtime_dir)?;
    let store = Store::connect(&connections.ssh_database_url, DATABASE_CONNECTIONS)?;
    store.ping().await?;
    let database_url = Secret::new(connections.ssh_database_url);
    let stream = PostgresStream::connect(PostgresSettings::new(database_url)).await?;
    let stream = Arc::new(stream);
    let address = settings.ssh_listen;
    let listening = TcpListener::bind(address).await;
    let listener = listening.map_err(|source| StartError::Listen { address, source })?;
    let address = listener.local_addr().map_err(|source| StartError::Listen { address, source })?;
    let tasks = Shutdown::new();
    let gate = gate(stream.clone(), tasks.clone());
    let edge = Edge {
        store,
        appending: Mutex::new(Appending { stream, gate }),
        record_pause_limit: settings.record_pause_limit(),
        line_pause: settings.line_pause(),
        runtime: Arc::new(Docker::new(
            settings.ssh_docker_host.clone(),
            settings.ssh_session_network.clone(),
        )),
        directory,
        opening_key: keys.opening_key,
        authority: keys.authority.fingerprint(HashAlg::Sha256),
        lockout: Lockout::new(settings.ssh_max_failures),
        live: Arc::default(),
        sessions: Arc::new(Semaphore::new(settings.ssh_max_sessions as usize)),
        sign_in_deadline: settings.sign_in_deadline(),
        tasks,
    };
    let advertised = settings.ssh_advertise.clone().unwrap_or_else(|| address.to_string());
    let name = settings.ssh_runtime_dir.display().to_string();
    edge.store.register_edge(edge.id(), &name, &advertised).await?;
    let server = Arc::new(listener::server_config(keys.host_key, keys.host_certificate));
    Ok(Bound { edge: Arc::new(edge), listener, address, server, settings })
}

impl Bound {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the shutdown is requested, then ends the sessions in order.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), RunError> {
        let Self { edge, listener, server, settings, .. } = self;
        let (answering, watching) = watch::channel(None);
        let tasks = edge.tasks.clone();
        tasks.spawn(presence::heartbeat(edge.clone(), answering));
        tasks.spawn(presence::reaper(edge.clone(), watching));
        tasks.spawn(listener::accept(listener, edge.clone(), server, settings.ssh_max_connections));
        shutdown.requested().await;
        tasks.request();
        let finished = tasks.finished(STOP_DEADLINE).await;
        if !finished {
            edge.appending().gate.abandon();
            tasks.finished(ABANDON_DEADLINE).await;
        }
        edge.runtime.tidy().await;
        if let Err(error) = edge.store.stop_edge(edge.id()).await {
            tracing::warn!(%error, "the edge's stop was not written");
        }
        edge.store.close().await;
        if finished { Ok(()) } else { Err(RunError::Unfinished) }
    }
}

struct Keys {
    host_key: PrivateKey,
    host_certificate: Certificate,
    authority: PublicKey,
    opening_key: OpeningKey,
}

impl Keys {
    fn load(connections: &Connections) -> Result<Self, StartError> {
        let path = &connections.ssh_host_key;
        let host_key =
            key("host key", path, "--ssh-host-key", russh::keys::load_secret_key(path, None))?;
        let path = &connections.ssh_host_certificate;
        let (what, flag) = ("host certificate", "--ssh-host-certificate");
        let host_certificate = key(what, path, flag, russh::keys::load_openssh_certificate(path))?;
        let fits = host_certificate.cert_type() == CertType::Host
            && host_certificate.public_key() == host_key.public_key().key_data();
        key(what, path, flag, fits.then_some(()).ok_or("it is not one of the host key"))?;
        let path = &connections.ssh_user_ca_public;
        let (what, flag) = ("users' authority", "--ssh-user-ca-public");
        let authority = key(what, path, flag, russh::keys::load_public_key(path))?;
        let path = &connections.ssh_opening_key;
        let (what, flag) = ("opening key", "--ssh-opening-key");
        let text = key(what, path, flag, std::fs::read_to_string(path))?;
        let text = Secret::new(text);
        let opening_key = key(what, path, flag, text.expose().parse::<OpeningKey>())?;
        Ok(Self { host_key, host_certificate, authority, opening_key })
    }
}

fn key<T, E: std::fmt::Display>(
    what: &'static str,
    path: &Path,
    flag: &'static str,
    outcome: Result<T, E>,
) -> Result<T, StartError> {
    outcome.map_err(|why| StartError::Key {
        what,
        path: path.to_owned(),
        flag,
        why: why.to_string(),
    })
}
