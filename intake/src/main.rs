//! The intake as a process of its own.

use std::path::PathBuf;

use clap::Parser;
use service::{Shutdown, TelemetrySettings};

/// Takes in the logs of apps and databases.
#[derive(Parser)]
#[command(name = "spillway-intake", version)]
struct Cli {
    /// A file with settings: TOML, with the long flags as keys.
    #[arg(long, env = "SPILLWAY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    intake: intake::Config,
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
    intake::bind(cli.intake).await?.run(shutdown).await?;
    Ok(())
}
