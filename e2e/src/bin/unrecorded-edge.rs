//! Spillway's edge without records: what recording costs is only to be seen beside it.

use std::time::Duration;

use clap::Parser;
use service::{Shutdown, TelemetrySettings};

/// An SSH edge that records nothing, to measure against.
#[derive(Debug, Parser)]
struct Cli {
    /// A TOML file whose keys are these flags without the dashes in front.
    #[arg(long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    #[command(flatten)]
    edge: ssh_edge::Config,
    #[command(flatten)]
    telemetry: TelemetrySettings,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli: Cli = service::config::load();
    service::start_telemetry(&cli.telemetry)?;
    service::install_crypto_provider();
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    ssh_edge::bind_unrecorded(cli.edge).await?.run(shutdown.clone()).await?;
    shutdown.finished(Duration::from_secs(1)).await;
    Ok(())
}
