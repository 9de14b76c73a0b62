//! Delivery over TLS: Spillway's worker beside rsyslog and syslog-ng.
//!
//! The worker reads the stream on PostgreSQL, the rivals a TCP connection that is fed as fast as they
//! take it. All send to the same counting receiver, with octet counts. A rate is taken from the first
//! message to the last one.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::report::Table;
use crate::rivals::forwarder::Kind;
use crate::{Options, progress};

pub(crate) mod load;
mod loss;
pub(crate) mod ours;
mod records;
pub(crate) mod sink;
mod throughput;

use ours::World;
use sink::Sink;

const DEADLINE: Duration = Duration::from_mins(3);

/// With the tags that the rivals' messages have, too, and with all.
const OURS: usize = 0;
const EVERY_TAG: usize = 1;
const OURS_NAMES: [&str; 2] = ["Spillway, the same tags", "Spillway, every tag"];
/// In the columns after ours.
pub(crate) const RIVALS: [Kind; 3] = [Kind::RsyslogGnutls, Kind::RsyslogOpenssl, Kind::SyslogNg];
pub(crate) const RIVALS_NAMES: [&str; 3] = ["rsyslog, GnuTLS", "rsyslog, OpenSSL", "syslog-ng"];
/// The columns of rsyslog beside both of ours.
const RSYSLOG: [usize; 2] = [2, 3];

/// How fast messages are delivered, and at what cost, in all rounds.
pub(crate) async fn measure(options: &Options) -> Result<Table> {
    let packages = packages().await?;
    let messages = if options.quick { 50_000 } else { 2_000_000 };
    let mut table = Table::new("Drain", &[&OURS_NAMES[..], &RIVALS_NAMES].concat());
    progress("drain: filling the stream");
    let mut world = World::start().await?;
    let backlog = world.backlog(messages).await?;
    for round in 0..options.rounds {
        progress(&format!("drain: round {} of {}", round + 1, options.rounds));
        throughput::measure(&mut world, backlog, messages, &packages, &mut table).await?;
    }
    Ok(table)
}

/// What is lost and repeated when the receiver ends its connections. Once: the figures are counts.
pub(crate) async fn losses(options: &Options) -> Result<Table> {
    let packages = packages().await?;
    let messages = if options.quick { 20_000 } else { 500_000 };
    let columns = [&OURS_NAMES[..=OURS], &RIVALS_NAMES].concat();
    let mut table = Table::new("Connections that end", &columns);
    let world = World::start().await?;
    loss::measure(&world, messages, &packages, &mut table).await?;
    Ok(table)
}

/// Where syslog-ng is unpacked.
pub(crate) async fn packages() -> Result<PathBuf> {
    crate::machine::need(&[("rsyslogd", "rsyslog rsyslog-gnutls rsyslog-openssl")])?;
    let packages = e2e::syslog_ng::folder()?;
    e2e::syslog_ng::fetch(&packages).await?;
    Ok(packages)
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
