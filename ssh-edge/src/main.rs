//! The SSH edge as a process of its own.

use std::time::Duration;

use clap::Parser;
use service::{Shutdown, TelemetrySettings};

/// Spillway's SSH edge: recorded sessions in containers.
#[derive(Debug, Parser)]
#[command(name = "spillway-ssh-edge", version)]
struct Cli {
    /// A TOML file whose keys are these flags without the dashes in front.
    #[arg(long, env = "SPILLWAY_CONFIG", value_name = "FILE")]
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
    let bound = ssh_edge::bind(cli.edge).await?;
    tracing::info!(address = %bound.address(), "listening");
    bound.run(shutdown.clone()).await?;
    shutdown.finished(Duration::from_secs(1)).await;
    Ok(())
}
