//! What Spillway costs, beside what its rivals cost, in one run.
//!
//! Everything is measured in rounds, and in each round of every contestant, so that a machine that is
//! slow for a while is slow for all of them. Nothing is asserted: targets that were missed are said.

#![allow(clippy::print_stdout, reason = "this program talks to the person who runs it")]
#![allow(clippy::cast_precision_loss, reason = "figures are far below 2^52")]
#![allow(clippy::cast_possible_truncation, reason = "figures are far below 2^52")]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use e2e::docker::daemon::TestDocker;
use e2e::process::environment_variable;
use serde_json::json;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

mod cpu;
mod drain;
mod intake;
mod isolation;
mod log_text;
mod machine;
mod records;
mod report;
mod rivals;
mod scaling;
mod session;
mod soak;
mod stream;
mod tls_receiver;

use machine::Machine;
use report::Table;

/// Measures Spillway and its rivals.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// Only this part; may be repeated.
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// How many times everything is measured.
    #[arg(long, default_value_t = 5, value_name = "NUMBER")]
    rounds: usize,
    /// The most idle sessions whose memory is measured; 0 leaves it out, which saves minutes.
    #[arg(long, default_value_t = 500, value_name = "NUMBER")]
    idle: usize,
    /// Small sizes, to see that it works: the figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// Measure the programs that are there, without building them first.
    #[arg(long)]
    skip_build: bool,
    /// Gets everything, samples included.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Gets the tables.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Sessions, against OpenSSH's server.
    Session,
    /// The log stream on PostgreSQL.
    Stream,
    /// Delivery by log drains, against rsyslog and syslog-ng.
    Drain,
    /// Lines of apps and databases into the stream, against rsyslog and syslog-ng.
    Intake,
    /// What log drains lose when the receiver ends its connections, against the same. Runs once.
    Losses,
    /// What a record costs with more environments and drains.
    Scaling,
    /// What drains that do not work cost the others.
    Isolation,
    /// What memory a worker takes with a large backlog. Takes 15 minutes, so it runs only when it is named.
    Soak,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let mut terminate = signal(SignalKind::terminate())?;
    // Losing the run ends what it has started: everything does when it is dropped.
    tokio::select! {
        outcome = run(&options) => outcome,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("terminated"),
    }
}

async fn run(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "there is nothing to measure in 0 rounds");
    let wanted = |part: Part| options.only.is_empty() || options.only.contains(&part);
    service::install_crypto_provider();
    if !options.skip_build {
        build().await?;
    }
    for name in [
        "platform",
        "spillway-api",
        "spillway-ssh-edge",
        "spillway-drain-worker",
        "spillway-intake",
    ] {
        e2e::platform::binary(name)?;
    }
    let folder = tempfile::tempdir()?;
    let _docker = if wanted(Part::Session) {
        machine::need(&[("docker", "docker.io"), ("dockerd", "docker.io")])?;
        TestDocker::for_machine(&folder.path().join("docker")).await?
    } else {
        None
    };
    let machine = Machine::look(options.rounds).await?;
    let mut tables: Vec<Table> = Vec::new();
    if wanted(Part::Session) {
        tables.push(session::measure(options).await.context("sessions")?);
    }
    if wanted(Part::Stream) {
        tables.push(stream::measure(options).await.context("the stream")?);
    }
    if wanted(Part::Drain) {
        tables.push(drain::measure(options).await.context("drains")?);
    }
    if wanted(Part::Intake) {
        tables.push(intake::measure(options).await.context("the intake")?);
    }
    if wanted(Part::Losses) {
        tables.push(drain::losses(options).await.context("losses")?);
    }
    if wanted(Part::Scaling) {
        tables.push(scaling::measure(options).await.context("scaling")?);
    }
    if wanted(Part::Isolation) {
        tables.push(isolation::measure(options).await.context("isolation")?);
    }
    if options.only.contains(&Part::Soak) {
        tables.push(soak::measure(options).await.context("the soak")?);
    }
    let text = report::render(&machine.to_markdown(), &tables)?;
    println!("{text}");
    if let Some(file) = &options.markdown {
        std::fs::write(file, &text).with_context(|| format!("{}", file.display()))?;
    }
    if let Some(file) = &options.json {
        let tables: Vec<_> = tables.iter().map(Table::to_json).collect();
        let all = json!({ "machine": machine.to_json(), "tables": tables });
        std::fs::write(file, format!("{all:#}\n"))
            .with_context(|| format!("{}", file.display()))?;
    }
    let (met, all) =
        tables.iter().map(Table::met).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("bench: {met} of {all} targets met");
    Ok(())
}

/// Builds the programs that are measured, beside this one.
async fn build() -> Result<()> {
    let running = std::env::current_exe()?;
    let target = running.parent().and_then(Path::parent).context("a folder of cargo")?;
    ensure!(!cfg!(debug_assertions), "run it with --release");
    let cargo = environment_variable("CARGO").unwrap_or_else(|| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--locked", "--workspace", "--bins"]);
    command.arg("--target-dir").arg(target);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    progress("building what is measured");
    let status = command.stdin(Stdio::null()).status().await.context("cargo")?;
    ensure!(status.success(), "the programs could not be built");
    Ok(())
}

/// Says on standard error what is being done.
fn progress(what: &str) {
    use std::sync::OnceLock;
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    let seconds = BEGUN.get_or_init(Instant::now).elapsed().as_secs();
    eprintln!("[{:2}:{:02}] {what}", seconds / 60, seconds % 60);
}
