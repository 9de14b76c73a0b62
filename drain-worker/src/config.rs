//! What can be set.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{StringValueParser, TypedValueParser as _};
use ipnet::IpNet;
use model::Secret;

/// How drains work.
#[derive(Debug, Clone, Args)]
// Without a name of its own, so that one command can take the settings of several services.
#[group(skip)]
pub struct Settings {
    /// A network that drains may send to although it is not public, such as 10.1.0.0/16. Repeatable.
    #[arg(
        long = "drain-allow-network",
        env = "SPILLWAY_DRAIN_ALLOW_NETWORK",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    pub drain_allow_network: Vec<IpNet>,
    /// Seconds after which the drains of a worker that does not answer are free; others take them within half as
    /// many more.
    #[arg(long, env = "SPILLWAY_DRAIN_LEASE_SECONDS", value_name = "SECONDS", default_value_t = 8, value_parser = clap::value_parser!(u16).range(3..=300))]
    pub drain_lease_seconds: u16,
    /// Bytes after which a line without an end is delivered in pieces.
    #[arg(long, env = "SPILLWAY_DRAIN_LINE_BYTES", value_name = "BYTES", default_value_t = 64 * 1024, value_parser = clap::value_parser!(u32).range(1024..=128 * 1024))]
    pub drain_line_bytes: u32,
    /// Bytes, before compression, after which a batch is full.
    #[arg(long, env = "SPILLWAY_DRAIN_BATCH_BYTES", value_name = "BYTES", default_value_t = 1024 * 1024, value_parser = clap::value_parser!(u32).range(1024..=4 * 1024 * 1024))]
    pub drain_batch_bytes: u32,
    /// Lines after which a batch is full.
    #[arg(long, env = "SPILLWAY_DRAIN_BATCH_LINES", value_name = "LINES", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub drain_batch_lines: u32,
    /// Milliseconds for which a syslog connection must live on after the receiver's TCP has
    /// acknowledged lines, before they count as delivered without another sign that they were read.
    #[arg(long, env = "SPILLWAY_DRAIN_REDELIVERY_WINDOW_MS", value_name = "MILLISECONDS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=60_000))]
    pub drain_redelivery_window_ms: u32,
    /// Bytes that a syslog drain keeps in memory to send again. With half of it unconfirmed, 1.25 MiB or
    /// less, it sends more slowly; with all of it, nothing.
    #[arg(long, env = "SPILLWAY_DRAIN_REDELIVERY_BYTES", value_name = "BYTES", default_value_t = 8 * 1024 * 1024, value_parser = clap::value_parser!(u32).range(64 * 1024..=8 * 1024 * 1024))]
    pub drain_redelivery_bytes: u32,
    /// Seconds for which a drain must fail before that is activity of its environment, and told to whom the
    /// environment says. What follows it, too, is told once: that the drain has recovered.
    #[arg(long, env = "SPILLWAY_DRAIN_FAILING_AFTER_SECONDS", value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub drain_failing_after_seconds: u32,
    /// The SMTP server that sends notices to e-mail addresses: `smtps://USER:PASSWORD@HOST:465`, or
    /// `smtp://...` with `?tls=required` (STARTTLS), or without it in plain text. On a command line others
    /// on this machine see it: use the variable, or the file of --config.
    #[arg(long, env = "SPILLWAY_SMTP_URL", value_name = "URL", hide_env_values = true, requires = "smtp_from", value_parser = StringValueParser::new().map(Secret::new))]
    pub smtp_url: Option<Secret<String>>,
    /// The sender of those e-mails: an address, or `Name <address>`.
    #[arg(long, env = "SPILLWAY_SMTP_FROM", value_name = "ADDRESS")]
    pub smtp_from: Option<String>,
    /// Connections to the database at most, without those that read the stream.
    #[arg(long, env = "SPILLWAY_DRAIN_DATABASE_CONNECTIONS", value_name = "NUMBER", default_value_t = 6, value_parser = clap::value_parser!(u32).range(3..=100))]
    pub drain_database_connections: u32,
}

impl Settings {
    pub(crate) const fn lease(&self) -> Duration {
        Duration::from_secs(self.drain_lease_seconds as u64)
    }

    pub(crate) const fn failing_after(&self) -> Duration {
        Duration::from_secs(self.drain_failing_after_seconds as u64)
    }
}

/// What a worker connects to.
#[derive(Debug, Clone, Args)]
pub struct Connections {
    /// The database, as the worker's role.
    #[arg(long, env = "SPILLWAY_DRAIN_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub drain_database_url: String,
    /// The file of the key that opens drains' credentials.
    #[arg(long, env = "SPILLWAY_DRAIN_OPENING_KEY", value_name = "FILE")]
    pub drain_opening_key: PathBuf,
}

/// Everything that a worker is configured by.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// How drains work.
    #[command(flatten)]
    pub settings: Settings,
    /// What a worker connects to.
    #[command(flatten)]
    pub connections: Connections,
}
