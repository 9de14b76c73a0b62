//! What can be set, and what must be.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

/// How the edge listens, where it runs sessions, and how much it takes on.
#[derive(Debug, Clone, Args)]
// Without a name of its own, so that one command can take the settings of several services.
#[group(skip)]
pub struct Settings {
    /// Where to listen for SSH: address and port. Port 0 takes a free one.
    #[arg(
        long,
        env = "SPILLWAY_SSH_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:7722"
    )]
    pub ssh_listen: SocketAddr,
    /// What clients are told to connect to; without it, the address that is listened on.
    #[arg(long, env = "SPILLWAY_SSH_ADVERTISE", value_name = "HOST:PORT")]
    pub ssh_advertise: Option<String>,
    /// The folder for the sessions' sockets and the guest's binary, of this edge alone. Containers
    /// run a file in it, so it must not be on a file system mounted noexec, which /run often is.
    #[arg(
        long,
        env = "SPILLWAY_SSH_RUNTIME_DIR",
        value_name = "FOLDER",
        default_value = "/var/lib/spillway/edge"
    )]
    pub ssh_runtime_dir: PathBuf,
    /// The unix socket of the Docker Engine on this machine.
    #[arg(
        long,
        env = "SPILLWAY_SSH_DOCKER_HOST",
        value_name = "unix:///PATH",
        default_value = "unix:///var/run/docker.sock",
        value_parser = unix_socket
    )]
    pub ssh_docker_host: String,
    /// The Docker network of the sessions' containers: a bridge, made when it is missing, in which
    /// they do not reach one another; or `none`.
    #[arg(
        long,
        env = "SPILLWAY_SSH_SESSION_NETWORK",
        value_name = "NAME",
        default_value = "spillway-sessions"
    )]
    pub ssh_session_network: String,
    /// The most connections at a time; more are closed at once.
    #[arg(
        long,
        env = "SPILLWAY_SSH_MAX_CONNECTIONS",
        value_name = "NUMBER",
        default_value_t = 1000
    )]
    pub ssh_max_connections: u32,
    /// The most sessions at a time; more are refused with a sentence.
    #[arg(long, env = "SPILLWAY_SSH_MAX_SESSIONS", value_name = "NUMBER", default_value_t = 500)]
    pub ssh_max_sessions: u32,
    /// How long a session's records may wait until they can be kept, in seconds. The session pauses
    /// meanwhile; after that it is ended.
    #[arg(
        long,
        env = "SPILLWAY_SSH_RECORD_PAUSE_LIMIT_SECONDS",
        value_name = "SECONDS",
        default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    pub ssh_record_pause_limit_seconds: u64,
    /// Milliseconds after which output that ends in no line end counts as a line.
    #[arg(
        long,
        env = "SPILLWAY_SSH_LINE_PAUSE_MS",
        value_name = "MILLISECONDS",
        default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(10..=60_000)
    )]
    pub ssh_line_pause_ms: u32,
    /// How long a client may take from its connection to its sign-in, in seconds.
    #[arg(
        long,
        env = "SPILLWAY_SSH_SIGN_IN_SECONDS",
        value_name = "SECONDS",
        default_value_t = 20,
        value_parser = clap::value_parser!(u64).range(1..=600)
    )]
    pub ssh_sign_in_seconds: u64,
    /// How many connections of one address may fail to sign in before its next ones are closed at
    /// once; one failure is forgiven every six seconds.
    #[arg(
        long,
        env = "SPILLWAY_SSH_MAX_FAILURES",
        value_name = "NUMBER",
        default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub ssh_max_failures: u32,
}

impl Settings {
    pub(crate) const fn record_pause_limit(&self) -> Duration {
        Duration::from_secs(self.ssh_record_pause_limit_seconds)
    }

    pub(crate) const fn line_pause(&self) -> Duration {
        Duration::from_millis(self.ssh_line_pause_ms as u64)
    }

    pub(crate) const fn sign_in_deadline(&self) -> Duration {
        Duration::from_secs(self.ssh_sign_in_seconds)
    }
}

/// What the edge cannot do without.
#[derive(Debug, Clone, Args)]
pub struct Connections {
    /// The database, as the role `spillway_edge`.
    #[arg(
        long,
        env = "SPILLWAY_SSH_DATABASE_URL",
        hide_env_values = true,
        value_name = "postgres://..."
    )]
    pub ssh_database_url: String,
    /// The host's private key, in OpenSSH's format.
    #[arg(long, env = "SPILLWAY_SSH_HOST_KEY", value_name = "FILE")]
    pub ssh_host_key: PathBuf,
    /// The host key's certificate, with the principal `spillway-edge`.
    #[arg(long, env = "SPILLWAY_SSH_HOST_CERTIFICATE", value_name = "FILE")]
    pub ssh_host_certificate: PathBuf,
    /// The public key of the authority that signs users' keys.
    #[arg(long, env = "SPILLWAY_SSH_USER_CA_PUBLIC", value_name = "FILE")]
    pub ssh_user_ca_public: PathBuf,
    /// The key that opens the apps' variables: 32 bytes in base64.
    #[arg(long, env = "SPILLWAY_SSH_OPENING_KEY", value_name = "FILE")]
    pub ssh_opening_key: PathBuf,
}

/// The edge's whole configuration.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// What has defaults.
    #[command(flatten)]
    pub settings: Settings,
    /// What has none.
    #[command(flatten)]
    pub connections: Connections,
}

fn unix_socket(text: &str) -> Result<String, String> {
    if text.starts_with("unix:///") {
        Ok(text.to_owned())
    } else {
        Err("it must be unix:///PATH: containers mount sockets of this machine".to_owned())
    }
}
