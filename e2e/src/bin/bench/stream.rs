//! The log stream alone, on a PostgreSQL that flushes every commit to disk.

use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::postgres::{TestCluster, TestDatabase};
use log_stream::{PostgresSettings, PostgresStream};
use model::Secret;

use crate::report::{Table, Target};
use crate::{Options, progress};

mod append;
mod read;

const DEADLINE: Duration = Duration::from_mins(2);

/// How much is measured in each round.
struct Sizes {
    /// How long appenders append.
    appending: Duration,
    /// The backlog of the reader that catches up.
    records: usize,
}

/// Runs all rounds.
pub(crate) async fn measure(options: &Options) -> Result<Table> {
    let sizes = if options.quick {
        Sizes { appending: Duration::from_millis(200), records: 100_000 }
    } else {
        Sizes { appending: Duration::from_secs(2), records: 10_000_000 }
    };
    let mut table = Table::new("Stream", &["Spillway"]);
    progress("stream: appending what a reader will catch up with");
    let backlog = read::Backlog::make(sizes.records).await?;
    for round in 0..options.rounds {
        progress(&format!("stream: round {} of {}", round + 1, options.rounds));
        append::measure(&sizes, &mut table).await.context("appending")?;
        backlog.measure(&mut table).await.context("catching up")?;
    }
    Ok(table)
}

/// A database in a new cluster, and its stream with the edge's settings.
async fn open() -> Result<(TestDatabase, PostgresStream)> {
    let database = TestDatabase::of_own_cluster(TestCluster::start().await?).await?;
    let url = Secret::new(database.admin_url().to_owned());
    let stream = PostgresStream::connect(PostgresSettings::new(url)).await?;
    Ok((database, stream))
}
