//! Appending: how many blocks, how many bytes, and how long until one is durable.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::StreamExt as _;
use log_stream::{LogStream as _, Position, PostgresStream};
use model::{Environment, Id};
use rand::RngCore as _;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{DEADLINE, Sizes, Table, open};
use crate::records::Session;
use crate::report::percentile;

/// What an echoed key or a short line takes.
const SMALL: usize = 512;
/// What bulk output comes in.
const LARGE: usize = 65_536;

/// Measures 1, 8 and 64 appenders, each with an environment of its own, in a new cluster: the disk
/// would fill up otherwise.
pub(super) async fn measure(sizes: &Sizes, table: &mut Table) -> Result<()> {
    let (_database, stream) = open().await?;
    // The day's partition is made by the first append.
    append(&stream, 1, SMALL, Duration::from_millis(100)).await?;
    for appenders in [1, 8, 64] {
        let millis = append(&stream, appenders, SMALL, sizes.appending).await?;
        let rate = millis.len() as f64 / sizes.appending.as_secs_f64();
        let row = table.row(format!("appends of {SMALL} bytes, {appenders} at a time"), "1/s", &[]);
        table.add(row, 0, rate);
        for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
            let what = format!("until one is durable, {appenders} at a time, {name}");
            let row = table.row(what, "ms", &[]);
            table.add(row, 0, percentile(&millis, share).context("something was appended")?);
        }
        let millis = append(&stream, appenders, LARGE, sizes.appending).await?;
        let bytes = millis.len() * LARGE;
        let what = format!("appends of 64 KiB that do not compress, {appenders} at a time");
        let row = table.row(what, "MB/s", &[]);
        table.add(row, 0, bytes as f64 / 1e6 / sizes.appending.as_secs_f64());
    }
    tail(&stream, sizes, table).await
}

/// Appends for so long; gives how many milliseconds each append took.
async fn append(
    stream: &PostgresStream,
    appenders: usize,
    bytes: usize,
    time: Duration,
) -> Result<Vec<f64>> {
    let end = Instant::now() + time;
    let mut tasks = JoinSet::new();
    for _ in 0..appenders {
        tasks.spawn(append_until(stream.clone(), Id::generate(), bytes, end));
    }
    let mut millis = Vec::new();
    while let Some(appended) = timeout(DEADLINE, tasks.join_next()).await? {
        millis.extend(appended??);
    }
    Ok(millis)
}

async fn append_until(
    stream: PostgresStream,
    environment: Id<Environment>,
    bytes: usize,
    end: Instant,
) -> Result<Vec<f64>> {
    let mut noise = vec![0; bytes];
    rand::rng().fill_bytes(&mut noise);
    let noise = Bytes::from(noise);
    let mut session = Session::new(environment)?;
    let mut millis = Vec::new();
    while Instant::now() < end {
        let block = session.block([noise.clone()])?;
        let begun = Instant::now();
        stream.append(block).await?;
        millis.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    Ok(millis)
}

/// One reader that follows one appender of large blocks; until it has the last one.
async fn tail(stream: &PostgresStream, sizes: &Sizes, table: &mut Table) -> Result<()> {
    let environment = Id::generate();
    let mut blocks = stream.read(environment, Position::START);
    let begun = Instant::now();
    let mut appender = JoinSet::new();
    appender.spawn(append_until(stream.clone(), environment, LARGE, begun + sizes.appending));
    let mut total = None;
    let mut read = 0;
    while total.is_none_or(|total| read < total) {
        // Losing the read loses nothing: the stream of blocks keeps its place.
        tokio::select! {
            block = timeout(DEADLINE, blocks.next()) => {
                read += block?.context("it never ends")??.1.records()?.len();
            }
            outcome = appender.join_next(), if total.is_none() => {
                total = Some(outcome.context("the appender")???.len());
            }
        }
    }
    let row = table.row("a reader follows an appender of 64 KiB", "MB/s", &[]);
    table.add(row, 0, (read * LARGE) as f64 / 1e6 / begun.elapsed().as_secs_f64());
    Ok(())
}
