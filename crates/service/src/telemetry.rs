//! Logs of the process itself, and the process-wide cryptography provider.

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// What the process logs about itself, to standard error.
#[derive(Debug, Clone, Args)]
pub struct TelemetrySettings {
    /// Which log lines to write: a level (error, warn, info, debug, trace) or directives such as
    /// `info,ssh_edge=debug`.
    #[arg(long, env = "SPILLWAY_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
    /// How log lines look.
    #[arg(
        long,
        env = "SPILLWAY_LOG_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value = "json"
    )]
    pub log_format: LogFormat,
}

/// Starts logging to standard error. Call once, first.
pub fn start_telemetry(settings: &TelemetrySettings) -> Result<(), ParseError> {
    let filter = EnvFilter::builder().parse(&settings.log)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    // A second call in one process (a test) keeps the first subscriber.
    let started = match settings.log_format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.try_init(),
    };
    drop(started);
    Ok(())
}

/// Makes aws-lc-rs the provider of every TLS configuration of the process. Call before any TLS.
pub fn install_crypto_provider() {
    // An error means that a provider is installed already, which is what is wanted.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}
