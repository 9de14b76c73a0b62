//! The same load spread over more environments, each with a drain: what a record costs.
//!
//! Blocks come at a fixed rate while drains follow, so what drains cost that have nothing to do is
//! in the figure. The time of whoever appends is not: it is the same in all cases.

use std::time::Duration;

use anyhow::{Result, ensure};
use log_stream::LogStream as _;
use tokio::time::{MissedTickBehavior, interval};

use crate::cpu::used;
use crate::drain::ours::{Form, World, lines};
use crate::drain::sink::{Protocol, Sink};
use crate::drain::wait_for;
use crate::records::Session;
use crate::report::{Table, Target};
use crate::{Options, progress};

const PATIENCE: Duration = Duration::from_secs(30);
const RECORDS: usize = 128;
const PERIOD: Duration = Duration::from_millis(10);
const COUNTS: [usize; 3] = [1, 10, 100];

/// Runs all rounds.
pub(crate) async fn measure(options: &Options) -> Result<Table> {
    let blocks = if options.quick { 100 } else { 800 };
    let mut table = Table::new("Scaling", &["100 environments", "10", "1"]);
    let flat = [Target::RatioAtMost(2, 1.3)];
    let row = table.row("CPU for a record, worker and PostgreSQL", "µs", &flat);
    let mut world = World::start().await?;
    for round in 0..options.rounds {
        progress(&format!("scaling: round {} of {}", round + 1, options.rounds));
        for (count, column) in COUNTS.into_iter().zip([2, 1, 0]) {
            let micros = run(&mut world, count, blocks).await?;
            table.add(row, column, micros);
        }
    }
    Ok(table)
}

async fn run(world: &mut World, count: usize, blocks: usize) -> Result<f64> {
    let sink = Sink::start(Protocol::Syslog, &[])?;
    let mut worker = world.worker()?;
    let mut sessions = Vec::with_capacity(count);
    for _ in 0..count {
        let environment = world.environment().await?;
        world.drain(environment, &sink, Form::Syslog, true).await?;
        sessions.push(Session::new(environment)?);
    }
    // A line through each of them: what starting costs is not measured.
    for (number, session) in sessions.iter_mut().enumerate() {
        world.stream.append(lines(session, number..number + 1)?).await?;
    }
    ensure!(wait_for(&sink, count, PATIENCE).await?, "not every drain has started");
    let parts = world.parts(&worker)?;
    let before = used(&parts)?;
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next = count;
    for block in 0..blocks {
        ticks.tick().await;
        if let Some(session) = sessions.get_mut(block % count) {
            world.stream.append(lines(session, next..next + RECORDS)?).await?;
        }
        next += RECORDS;
    }
    let complete = wait_for(&sink, next, PATIENCE).await?;
    ensure!(complete, "of {next} lines came {}", sink.distinct());
    // Positions are still to be written.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let cpu = used(&parts)?.saturating_sub(before);
    World::stop(&mut worker).await?;
    world.remove_drains().await?;
    Ok(cpu.as_secs_f64() * 1e6 / (blocks * RECORDS) as f64)
}
