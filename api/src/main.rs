//! The API as a process of its own.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser;

/// Spillway's REST API.
#[derive(Debug, Parser)]
#[command(
    name = "spillway-api",
    version,
    after_help = "spillway-api openapi\n  Prints the API's description in the OpenAPI format."
)]
struct Cli {
    #[command(flatten)]
    service: api::Config,
    #[command(flatten)]
    telemetry: service::TelemetrySettings,
    /// A TOML file whose keys are these flags without the dashes in front.
    #[arg(long, env = "SPILLWAY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Needs no configuration, so it comes before that is demanded.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "openapi") {
        return Ok(std::io::stdout().write_all(api::openapi_yaml()?.as_bytes())?);
    }
    let cli: Cli = service::config::load();
    service::start_telemetry(&cli.telemetry).context("--log")?;
    service::install_crypto_provider();
    if let Some(file) = &cli.config {
        tracing::info!(file = %file.display(), "configured");
    }
    let shutdown = service::Shutdown::new();
    shutdown.on_signals()?;
    let bound = api::bind(cli.service).await?;
    bound.run(shutdown.clone()).await?;
    if !shutdown.finished(Duration::from_secs(10)).await {
        bail!("some tasks did not stop in time");
    }
    Ok(())
}
