//! Attacks the platform while engineers work on it and programs log, and proves that nothing which was shown or
//! acknowledged is missing: not in the stream, and not at the customers' endpoints.
//!
//! A run has three parts: the attack (`load`, `senders` and `faults` on a `world` of its own), the collection
//! of the evidence into files (`evidence`), and the check of these files (`check`), which can be made
//! again with something taken away (`mutate`), to prove that the check can fail.

#![allow(clippy::print_stdout, reason = "this program reports to the person who runs it")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum as _};
use tokio::signal::unix::{SignalKind, signal};

use crate::evidence::Evidence;
use crate::mutate::Mutation;
use crate::plan::Kind;

mod bounds;
mod check;
mod collect;
mod evidence;
mod faults;
mod lines;
mod load;
mod mutate;
mod plan;
mod program;
mod receivers;
mod run;
mod senders;
mod table;
mod world;

/// Kills, stops and starves the platform's processes and its endpoints at random while sessions run,
/// then checks that every byte which a client received is in the stream and at every receiver, in order, and every line
/// that was acknowledged to a sender once.
/// Prints a table; its last line counts. The exit status is 1 if anything was lost or out of bounds.
#[derive(Debug, Parser)]
#[command(name = "chaos")]
struct Arguments {
    /// How long to attack.
    #[arg(long, default_value_t = 4.0, value_parser = minutes)]
    minutes: f64,
    /// Decides the faults and the load; without it, a random one. It is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Only these kinds of fault.
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Kind>,
    /// Sessions at a time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=100))]
    sessions: u64,
    /// Megabytes that a bulk session prints at most.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=256))]
    bulk: u32,
    /// Keep the evidence in this folder; without it, a temporary one that is removed.
    #[arg(long, value_name = "FOLDER")]
    evidence: Option<PathBuf>,
    /// Attack nothing: check the evidence that an earlier run has kept.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["minutes", "seed", "faults", "evidence"])]
    check: Option<PathBuf>,
    /// Prove that the check can fail: take this away first. The run must then fail and name it.
    #[arg(long, value_enum)]
    mutate: Option<Mutation>,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes: f64 = text.parse().map_err(|_| "a number of minutes".to_owned())?;
    if (0.05..=1440.0).contains(&minutes) {
        Ok(minutes)
    } else {
        Err("between 0.05 and 1440".to_owned())
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut stop = signal(SignalKind::terminate())?;
    // Losing the run drops it, and with it everything that it has started.
    tokio::select! {
        outcome = work(arguments) => outcome,
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(130)),
        _ = stop.recv() => Ok(ExitCode::from(143)),
    }
}

async fn work(arguments: Arguments) -> Result<ExitCode> {
    let temporary;
    let evidence = match (&arguments.check, &arguments.evidence) {
        (Some(folder), _) => Evidence::open(folder),
        (None, Some(folder)) => Evidence::create(folder)?,
        (None, None) => {
            temporary = tempfile::Builder::new().prefix("spillway-chaos-").tempdir()?;
            Evidence::create(temporary.path())?
        }
    };
    let mut mutation = arguments.mutate;
    if arguments.check.is_none() {
        let seed = arguments.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
        let kinds = if arguments.faults.is_empty() {
            Kind::value_variants().to_vec()
        } else {
            arguments.faults
        };
        let attack = run::Attack {
            seed,
            lasts: Duration::from_secs_f64(arguments.minutes * 60.0),
            kinds,
            sessions: arguments.sessions,
            bulk_bytes: arguments.bulk << 20,
            delete_a_block: mutation.and_then(Mutation::block),
        };
        println!("seed {seed}");
        run::run(&attack, &evidence).await.with_context(|| format!("the run with seed {seed}"))?;
        // It is gone in the database already.
        mutation = mutation.filter(|mutation| mutation.block().is_none());
    }
    let facts = evidence.facts()?;
    let verdict = check::check(&evidence, &facts, mutation)?;
    print!("{}", table::report(&facts, &verdict));
    let well = verdict.lost == 0 && verdict.findings.told.is_empty();
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
