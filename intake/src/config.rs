//! What can be set.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;

/// How the intake works.
#[derive(Debug, Clone, Args)]
// Without a name of its own, so that one command can take the settings of several services.
#[group(skip)]
pub struct Settings {
    /// Bytes that a log source may send in a second, where its own quota does not say.
    #[arg(long, env = "SPILLWAY_INTAKE_SOURCE_BYTES_PER_SECOND", value_name = "BYTES", default_value_t = nonzero(32 << 20))]
    pub intake_source_bytes_per_second: NonZeroU32,
    /// Bytes that a log source may send at once, after it has sent little.
    #[arg(long, env = "SPILLWAY_INTAKE_SOURCE_BURST_BYTES", value_name = "BYTES", default_value_t = nonzero(128 << 20))]
    pub intake_source_burst_bytes: NonZeroU32,
    /// Bytes that all log sources of an environment together may send in a second, where the environment's own
    /// quota does not say.
    #[arg(long, env = "SPILLWAY_INTAKE_ENVIRONMENT_BYTES_PER_SECOND", value_name = "BYTES", default_value_t = nonzero(128 << 20))]
    pub intake_environment_bytes_per_second: NonZeroU32,
    /// Bytes that they may send at once, after they have sent little.
    #[arg(long, env = "SPILLWAY_INTAKE_ENVIRONMENT_BURST_BYTES", value_name = "BYTES", default_value_t = nonzero(512 << 20))]
    pub intake_environment_burst_bytes: NonZeroU32,
    /// Connections to the database at most, without those that append to the stream.
    #[arg(long, env = "SPILLWAY_INTAKE_DATABASE_CONNECTIONS", value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=100))]
    pub intake_database_connections: u32,
    /// The address and port to take HTTP(S) on; port 0 takes a free one.
    #[arg(
        long,
        env = "SPILLWAY_INTAKE_HTTP_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:4318"
    )]
    pub intake_http_listen: SocketAddr,
    /// The certificate chain for HTTPS, in PEM. Give the key, too.
    #[arg(
        long,
        env = "SPILLWAY_INTAKE_HTTP_TLS_CERTIFICATE",
        value_name = "FILE",
        requires = "intake_http_tls_key"
    )]
    pub intake_http_tls_certificate: Option<PathBuf>,
    /// The certificate's private key, in PEM.
    #[arg(
        long,
        env = "SPILLWAY_INTAKE_HTTP_TLS_KEY",
        value_name = "FILE",
        requires = "intake_http_tls_certificate"
    )]
    pub intake_http_tls_key: Option<PathBuf>,
    /// Take HTTP without TLS on an address other than loopback. Tokens and lines then cross the network as
    /// they are: only for a network that ends at a TLS reverse proxy.
    #[arg(long, env = "SPILLWAY_INTAKE_ALLOW_PLAIN_HTTP")]
    pub intake_allow_plain_http: bool,
    /// Bytes of an HTTP request's body at most, as sent and after decompression.
    #[arg(
        long,
        env = "SPILLWAY_INTAKE_HTTP_BODY_BYTES",
        value_name = "BYTES",
        default_value_t = 8 << 20,
        value_parser = clap::value_parser!(u32).range(64 << 10..=64 << 20)
    )]
    pub intake_http_body_bytes: u32,
    /// A Docker daemon, such as `unix:///var/run/docker.sock`: the logs of its containers that have the labels
    /// spillway.environment and spillway.app or spillway.database are followed. Not given: none are.
    #[arg(long, env = "SPILLWAY_INTAKE_DOCKER_HOST", value_name = "URL")]
    pub intake_docker_host: Option<String>,
    /// How it takes syslog.
    #[command(flatten)]
    pub syslog: SyslogSettings,
}

/// How the intake takes syslog: in no way that is not asked for.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct SyslogSettings {
    /// Address that takes syslog over TLS.
    #[arg(long, env = "SPILLWAY_INTAKE_SYSLOG_TLS_LISTEN", value_name = "ADDRESS")]
    pub intake_syslog_tls_listen: Option<SocketAddr>,
    /// The server's certificate for it, with those of the authorities in between: a file, PEM.
    #[arg(long, env = "SPILLWAY_INTAKE_SYSLOG_TLS_CERTIFICATE", value_name = "FILE")]
    pub intake_syslog_tls_certificate: Option<PathBuf>,
    /// The certificate's private key: a file, PEM.
    #[arg(long, env = "SPILLWAY_INTAKE_SYSLOG_TLS_KEY", value_name = "FILE")]
    pub intake_syslog_tls_key: Option<PathBuf>,
    /// Address that takes syslog over plain TCP.
    #[arg(long, env = "SPILLWAY_INTAKE_SYSLOG_TCP_LISTEN", value_name = "ADDRESS")]
    pub intake_syslog_tcp_listen: Option<SocketAddr>,
    /// Allows plain TCP on an address that other machines reach: tokens cross the network in the clear.
    #[arg(long, env = "SPILLWAY_INTAKE_SYSLOG_ALLOW_PLAIN_TCP")]
    pub intake_syslog_allow_plain_tcp: bool,
    /// Address that takes syslog over UDP: messages may be lost, and tokens cross the network in the clear.
    #[arg(long, env = "SPILLWAY_INTAKE_SYSLOG_UDP_LISTEN", value_name = "ADDRESS")]
    pub intake_syslog_udp_listen: Option<SocketAddr>,
    /// Path of a socket that takes the datagrams of this machine's programs, as /dev/log does.
    #[arg(long, env = "SPILLWAY_INTAKE_SYSLOG_UNIX", value_name = "PATH")]
    pub intake_syslog_unix: Option<PathBuf>,
    /// Syslog connections at most; more are closed at once.
    #[arg(long, env = "SPILLWAY_INTAKE_SYSLOG_CONNECTIONS", value_name = "NUMBER", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub intake_syslog_connections: u32,
    /// Syslog connections from one IP address at most (of IPv6: from one /64); half of all, if not given. Behind
    /// a proxy or a NAT that all senders come through, give as many as of all.
    #[arg(long, env = "SPILLWAY_INTAKE_SYSLOG_CONNECTIONS_OF_ADDRESS", value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub intake_syslog_connections_of_address: Option<u32>,
}

/// What an intake connects to.
#[derive(Debug, Clone, Args)]
pub struct Connections {
    /// The database, as the intake's role.
    #[arg(long, env = "SPILLWAY_INTAKE_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub intake_database_url: String,
}

/// Everything that an intake is configured by.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// How the intake works.
    #[command(flatten)]
    pub settings: Settings,
    /// What an intake connects to.
    #[command(flatten)]
    pub connections: Connections,
}

const fn nonzero(bytes: u32) -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(bytes - 1)
}
