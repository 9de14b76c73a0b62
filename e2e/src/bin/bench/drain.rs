//! Delivery over TLS: Spillway's worker beside rsyslog and syslog-ng.
//!
//! The worker reads the stream on PostgreSQL, the rivals a TCP connection that is fed as fast as they
//! take it. All send to the same counting receiver, with octet counts. A rate is taken from the first
//! message to the last one.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::report::Table;
use crate::rivals::forwarder::{self, Kind};
use crate::{Options, progress};

pub(crate) mod load;
mod loss;
pub(crate) mod ours;
pub(crate) mod sink;
mod throughput;

use ours::World;
use sink::Sink;

const DEADLINE: Duration = Duration::from_mins(3);

/// With the tags that the rivals' messages have, too, and with all.
const OURS: usize = 0;
const EVERY_TAG: usize = 1;
const COLUMNS: [&str; 5] = [
    "Spillway, the same tags",
    "Spillway, every tag",
    "rsyslog, GnuTLS",
    "rsyslog, OpenSSL",
    "syslog-ng",
];
/// The rivals and their columns.
const RIVALS: [(usize, Kind); 3] =
    [(2, Kind::RsyslogGnutls), (3, Kind::RsyslogOpenssl), (4, Kind::SyslogNg)];

/// Of these, those that are rsyslog.
const RSYSLOG: [usize; 2] = [2, 3];

/// How much is sent.
struct Sizes {
    messages: usize,
    /// Of those that the receiver's endings are tried with.
    interrupted: usize,
}

/// Runs all rounds.
pub(crate) async fn measure(options: &Options) -> Result<Table> {
    crate::machine::need(&[("rsyslogd", "rsyslog rsyslog-gnutls rsyslog-openssl")])?;
    let sizes = if options.quick {
        Sizes { messages: 50_000, interrupted: 20_000 }
    } else {
        Sizes { messages: 2_000_000, interrupted: 500_000 }
    };
    let packages = packages()?;
    forwarder::fetch_syslog_ng(&packages).await?;
    let mut table = Table::new("Drain", &COLUMNS);
    progress("drain: filling the stream");
    let mut world = World::start().await?;
    let backlog = world.backlog(sizes.messages).await?;
    for round in 0..options.rounds {
        progress(&format!("drain: round {} of {}", round + 1, options.rounds));
        throughput::measure(&mut world, backlog, sizes.messages, &packages, &mut table)
            .await
            .context("throughput")?;
    }
    loss::measure(&world, sizes.interrupted, &packages, &mut table).await.context("losses")?;
    Ok(table)
}

/// Where syslog-ng is unpacked: beside this program.
fn packages() -> Result<PathBuf> {
    let running = std::env::current_exe()?;
    Ok(running.parent().context("a folder of cargo")?.join("bench-rivals"))
}

/// Waits until so many different messages have come; false if none has for this long before.
pub(crate) async fn wait_for(sink: &Sink, messages: usize, patience: Duration) -> Result<bool> {
    let begun = Instant::now();
    loop {
        if sink.distinct() >= messages as u64 {
            return Ok(true);
        }
        if sink.last().unwrap_or(begun).elapsed() > patience {
            return Ok(false);
        }
        anyhow::ensure!(begun.elapsed() < DEADLINE, "it takes longer than {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
