//! A thousand drains with ten gigabytes behind them, of which three hundred have endpoints that do not work:
//! what memory the worker takes while it reads for ten minutes, and after a restart.
//!
//! All are of one environment, so each has everything to deliver.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use log_stream::LogStream as _;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::time::sleep;

use crate::cpu::resident_bytes;
use crate::drain::ours::World;
use crate::isolation::{Bad, MEMORY_MIB};
use crate::log_text::log_text;
use crate::records::Session;
use crate::report::{Table, Target};
use crate::tls_receiver::{Connection, TlsReceiver};
use crate::{Options, progress};

/// Bytes of output in a block, as the edge makes them of bulk output.
const BLOCK: usize = 1_000_000;
const EVERY: Duration = Duration::from_secs(5);

struct Sizes {
    blocks: usize,
    /// Drains that do not work, of each kind, and those that do.
    bad: usize,
    good: usize,
    /// When memory is taken to have become what it stays.
    settled: Duration,
    whole: Duration,
}

/// Runs it once: what it looks for takes long enough.
pub(crate) async fn measure(options: &Options) -> Result<Table> {
    let (minute, ten) = (Duration::from_mins(1), Duration::from_mins(10));
    let sizes = if options.quick {
        let (settled, whole) = (EVERY, 2 * EVERY);
        Sizes { blocks: 50, bad: 2, good: 10, settled, whole }
    } else {
        Sizes { blocks: 10_000, bad: 100, good: 700, settled: minute, whole: ten }
    };
    let mut table = Table::new("Soak", &["10 minutes", "a minute after a restart"]);
    let bound = [Target::AtMost(MEMORY_MIB)];
    let settled = table.row("memory of the worker after the first minute", "MiB", &bound);
    let last = table.row("at the end", "MiB", &bound);
    let most = table.row("at most", "MiB", &bound);
    let growth = table.row("the end, divided by the first minute", "times", &[Target::AtMost(1.1)]);
    let read = table.row("what endpoints took of it", "GB", &[]);

    let mut world = World::start().await?;
    let bad = Bad::start().await?;
    let taken = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&taken);
    let good =
        TlsReceiver::start(move |connection| discard(connection, Arc::clone(&count))).await?;
    let environment = world.environment().await?;
    progress("soak: ten gigabytes");
    let mut session = Session::new(environment)?;
    let text = Bytes::from(log_text(BLOCK));
    for _ in 0..sizes.blocks {
        world.stream.append(session.block([text.clone()])?).await?;
    }
    for _ in 0..sizes.bad {
        for (kind, destination) in bad.destinations() {
            world.drain_to(environment, kind, destination).await?;
        }
    }
    for _ in 0..sizes.good {
        let destination = json!({
            "host": "localhost", "port": good.port, "ca_certificates": good.authority,
        });
        world.drain_to(environment, "syslog_tls_tcp", destination).await?;
    }
    for (column, whole) in [(0, sizes.whole), (1, sizes.settled)] {
        progress(&format!("soak: {whole:?}"));
        taken.store(0, Ordering::Relaxed);
        let samples = run(&mut world, whole).await?;
        let first = samples.iter().find(|(at, _)| *at >= sizes.settled);
        let (Some((_, first)), Some((_, end))) = (first, samples.last()) else {
            anyhow::bail!("no samples")
        };
        let peak = samples.iter().map(|(_, mib)| *mib).fold(0.0, f64::max);
        let bytes = taken.load(Ordering::Relaxed);
        ensure!(bytes > 0, "nothing was delivered");
        for (row, figure) in [
            (settled, *first),
            (last, *end),
            (most, peak),
            (growth, end / first),
            (read, bytes as f64 / 1e9),
        ] {
            table.add(row, column, figure);
        }
    }
    world.remove_drains().await?;
    Ok(table)
}

/// The worker's memory in MiB, every few seconds.
async fn run(world: &mut World, whole: Duration) -> Result<Vec<(Duration, f64)>> {
    let mut worker = world.worker()?;
    let begun = Instant::now();
    let mut samples = Vec::new();
    while begun.elapsed() < whole {
        sleep(EVERY).await;
        let bytes = resident_bytes(worker.pid()?.as_raw_pid())?;
        samples.push((begun.elapsed(), bytes as f64 / f64::from(1 << 20)));
    }
    World::stop(&mut worker).await?;
    Ok(samples)
}

/// Takes everything and keeps nothing; counts the bytes.
async fn discard(mut connection: Connection, bytes: Arc<AtomicU64>) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = connection.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        bytes.fetch_add(count as u64, Ordering::Relaxed);
    }
}
