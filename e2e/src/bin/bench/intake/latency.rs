//! How long a line takes from its sender to a drain's receiver while nothing else happens.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::BytesMut;
use e2e::tls_sink::take_message;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::ours::{Intake, token};
use super::sender::{connect, message};
use crate::drain::ours::World;
use crate::report::{Table, Target, percentile};
use crate::tls_receiver::{Connection, TlsReceiver};

const PATIENCE: Duration = Duration::from_secs(30);
/// Lines before those that are measured: connections are made, and programs warm.
const BEFORE: usize = 10;

/// One line after the other: each is sent after the one before has come.
pub(super) async fn measure(world: &mut World, lines: usize, table: &mut Table) -> Result<()> {
    let token = token();
    let environment = world.log_source(&token).await?;
    let (came, mut arrivals) = mpsc::channel(16);
    let receiver = TlsReceiver::start(move |connection| receive(connection, came.clone())).await?;
    let destination = json!({
        "host": "localhost", "port": receiver.port, "ca_certificates": receiver.authority,
    });
    world.drain_to(environment, "syslog_tls_tcp", destination).await?;
    let mut worker = world.worker()?;
    let mut intake = Intake::start(world).await?;
    let mut stream = connect(intake.syslog_port, &intake.certificate).await?;
    let mut delays = Vec::with_capacity(lines);
    for number in 0..BEFORE + lines {
        let message = message(number, &token);
        let sent = Instant::now();
        stream.write_all(&message).await?;
        stream.flush().await?;
        let came = timeout(PATIENCE, arrivals.recv()).await.context("a line does not come")?;
        let (found, at) = came.context("the receiver has ended")?;
        ensure!(found == number, "line {number} was sent and {found} came");
        if number >= BEFORE {
            delays.push(at.duration_since(sent).as_secs_f64() * 1e3);
        }
    }
    World::stop(&mut worker).await?;
    World::stop(&mut intake.process).await?;
    world.remove_drains().await?;
    world.remove_log_sources().await?;
    for (share, name, bound) in [(0.5, "p50", 20.0), (0.99, "p99", 100.0)] {
        let what = format!("from the sender to a drain's receiver, {name}");
        let row = table.row(what, "ms", &[Target::AtMost(bound)]);
        table.add(row, super::OURS, percentile(&delays, share).context("nothing came")?);
    }
    Ok(())
}

async fn receive(mut stream: Connection, came: mpsc::Sender<(usize, Instant)>) -> Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        while let Some(message) = take_message(&mut buffer)? {
            let digits = message.last_chunk::<7>().context("a number")?;
            came.send((str::from_utf8(digits)?.parse()?, Instant::now())).await?;
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}
