//! How fast, and at what cost.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use model::{Environment, Id};

use super::ours::World;
use super::sink::{Protocol, Sink};
use super::{OURS, RIVALS, Table, load, wait_for};
use crate::cpu::{Part, used};
use crate::progress;
use crate::rivals::forwarder::Forwarder;

const PATIENCE: Duration = Duration::from_secs(20);
/// What a forwarder does after its last message belongs to it.
const SETTLE: Duration = Duration::from_millis(1500);

/// Sends all messages once by every contestant.
pub(super) async fn measure(
    world: &mut World,
    backlog: Id<Environment>,
    messages: usize,
    packages: &Path,
    table: &mut Table,
) -> Result<()> {
    for (column, protocol) in [(OURS, Protocol::Syslog), (OURS + 1, Protocol::Https)] {
        let sink = Sink::start(protocol, &[])?;
        let mut worker = world.worker()?;
        // Its start is not measured.
        tokio::time::sleep(SETTLE).await;
        let parts = world.parts(&worker)?;
        let before = used(&parts)?;
        world.drain(backlog, &sink, protocol).await?;
        let complete = wait_for(&sink, messages, PATIENCE).await?;
        ensure!(complete, "of {messages} messages came {}", sink.distinct());
        tokio::time::sleep(SETTLE).await;
        let cpu = used(&parts)?.saturating_sub(before);
        World::stop(&mut worker).await?;
        world.remove_drains().await?;
        add(table, column, &sink, cpu)?;
    }
    for (column, kind) in RIVALS {
        let sink = Sink::start(Protocol::Syslog, &[])?;
        let forwarder = Forwarder::start(kind, sink.port(), sink.certificate(), packages).await?;
        let parts = [Part::Tree(forwarder.pid()?)];
        let before = used(&parts)?;
        let port = forwarder.port();
        let feeder = tokio::task::spawn_blocking(move || load::feed(port, 0..messages, None));
        let complete = wait_for(&sink, messages, PATIENCE).await?;
        if !complete {
            progress(&format!("{kind:?} delivered {} of {messages}", sink.distinct()));
        }
        feeder.await??;
        tokio::time::sleep(SETTLE).await;
        add(table, column, &sink, used(&parts)?.saturating_sub(before))?;
    }
    Ok(())
}

fn add(table: &mut Table, column: usize, sink: &Sink, cpu: Duration) -> Result<()> {
    let tally = sink.tally();
    let (first, last) = tally.first.zip(tally.last).context("something came")?;
    let seconds = (last - first).as_secs_f64();
    let messages = tally.messages as f64;
    let bytes = tally.bytes as f64;
    for (what, unit, value) in [
        ("delivered", "messages/s", messages / seconds),
        ("the same", "MB/s", bytes / 1e6 / seconds),
        (
            "forwarder CPU, PostgreSQL's included",
            "s per million",
            cpu.as_secs_f64() / messages * 1e6,
        ),
        ("a message", "bytes", bytes / messages),
    ] {
        let row = table.row(what, unit, &[]);
        table.add(row, column, value);
    }
    Ok(())
}
