//! What is lost and repeated when the receiver ends its connections.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use e2e::tls_sink::{Ending, Plan};

use super::ours::{Form, World, lines};
use super::sink::{Protocol, Sink, Tally};
use super::{OURS, RIVALS, Table, load, wait_for};
use crate::progress;
use crate::records::Session;
use crate::report::Target;
use crate::rivals::forwarder::Forwarder;

/// What is not there after so long without any message is lost.
const PATIENCE: Duration = Duration::from_secs(15);
const ENDINGS: usize = 8;
/// For a receiver that ends its connection after every few messages.
const FEW: usize = 5;
const SINGLE: usize = 60;
const PAUSE: Duration = Duration::from_millis(50);
const MIB: f64 = 1024.0 * 1024.0;

/// Tries every ending on every contestant.
pub(super) async fn measure(
    world: &World,
    messages: usize,
    packages: &Path,
    table: &mut Table,
) -> Result<()> {
    for (ending, name) in
        [(Ending::CloseNotify, "close_notify"), (Ending::Fin, "FIN"), (Ending::Reset, "RST")]
    {
        progress(&format!("losses: what is lost at {name}"));
        let plan = Plan { messages: messages / (ENDINGS + 1), ending };
        let tallies = all(world, messages, &[plan; ENDINGS], None, packages).await?;
        for (column, tally) in tallies {
            let lost = (messages as u64).saturating_sub(tally.distinct()) as f64;
            let what = format!("{messages} messages, {ENDINGS} times {name}: lost");
            let row = table.row(what, "messages", &[Target::AtMost(0.0)]);
            table.add(row, column, lost);
            let row = table.row(format!("repeated after {name}"), "messages", &[]);
            table.add(row, column, tally.repeated as f64);
            let what = format!("repeated after {name}, for each");
            let row = table.row(what, "MiB", &[Target::AtMost(1.0)]);
            table.add(row, column, tally.repeated_bytes as f64 / MIB / ENDINGS as f64);
        }
    }
    progress("losses: a receiver that ends its connection after every 5 messages");
    let plan = Plan { messages: FEW, ending: Ending::CloseNotify };
    for (column, tally) in all(world, SINGLE, &[plan; 2 * SINGLE], Some(PAUSE), packages).await? {
        let what =
            format!("of {SINGLE} messages to a receiver that closes after every {FEW}: delivered");
        let row = table.row(what, "messages", &[Target::AtLeast(SINGLE as f64)]);
        table.add(row, column, tally.distinct() as f64);
    }
    Ok(())
}

async fn all(
    world: &World,
    messages: usize,
    plans: &[Plan],
    pause: Option<Duration>,
    packages: &Path,
) -> Result<Vec<(usize, Tally)>> {
    let mut tallies = vec![(OURS, ours(world, messages, plans, pause).await?)];
    for (column, kind) in (OURS + 1..).zip(RIVALS) {
        let sink = Sink::start(Protocol::Syslog, plans)?;
        let forwarder = Forwarder::start(kind, sink.port(), sink.certificate(), packages).await?;
        let port = forwarder.port();
        let feeder = tokio::task::spawn_blocking(move || load::feed(port, 0..messages, pause));
        wait_for(&sink, messages, PATIENCE).await?;
        feeder.await??;
        tallies.push((column, sink.tally()));
    }
    Ok(tallies)
}

async fn ours(
    world: &World,
    messages: usize,
    plans: &[Plan],
    pause: Option<Duration>,
) -> Result<Tally> {
    let sink = Sink::start(Protocol::Syslog, plans)?;
    let mut worker = world.worker()?;
    if let Some(pause) = pause {
        let environment = world.environment().await?;
        world.drain(environment, &sink, Form::Syslog, false).await?;
        let mut session = Session::new(environment)?;
        for number in 0..messages {
            use log_stream::LogStream as _;
            world.stream.append(lines(&mut session, number..number + 1)?).await?;
            tokio::time::sleep(pause).await;
        }
    } else {
        let environment = world.backlog(messages).await?;
        world.drain(environment, &sink, Form::Syslog, false).await?;
    }
    wait_for(&sink, messages, PATIENCE).await?;
    // What was in flight at an ending comes again, though nothing is missing.
    tokio::time::sleep(Duration::from_secs(2)).await;
    World::stop(&mut worker).await?;
    world.remove_drains().await?;
    Ok(sink.tally())
}
