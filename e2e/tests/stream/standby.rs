//! Readers of a hot standby: they get every block once and in order, a little later.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::postgres::{TestCluster, TestDatabase};
use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use log_stream::{Block, LogStream as _, Position};
use model::Id;
use tokio::time::{sleep, timeout};
use url::Url;

use super::order::{append_late, insert};
use super::{Appender, DEADLINE, ids, open, read};

/// A standby tells nobody of new blocks, so a reader that is at the end looks once a second: many readers are
/// needed to look in the midst of transactions.
const READERS: u32 = 16;
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A database, and its stream as a standby has it.
async fn with_standby() -> Result<(TestDatabase, TestCluster, String)> {
    let mut database = TestDatabase::of_own_cluster(TestCluster::start().await?).await?;
    let standby = database.cluster().context("it has its own")?.standby().await?;
    let mut url = Url::parse(&standby.admin_url())?;
    url.set_path(Url::parse(database.admin_url())?.path());
    Ok((database, standby, url.into()))
}

#[tokio::test(flavor = "multi_thread")]
async fn reader_of_a_standby_gets_each_block_once_though_transactions_commit_late() -> Result<()> {
    let (database, _standby, url) = with_standby().await?;
    let stream = open(&url).await?;
    let primary = open(database.admin_url()).await?;
    database.connect().await?.batch_execute("select stream.ensure_partition(now())").await?;
    let environment = Id::generate();
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let end = Appender::new(environment).block(b"end");

    let appending = async {
        let mut committed = HashSet::new();
        for round in 0..4 {
            let mut appenders = Vec::new();
            for appender in 0..8 {
                let client = database.connect().await?;
                let seed = seed.wrapping_add(8 * round + appender);
                appenders.push(append_late(client, environment, seed));
            }
            committed.extend(try_join_all(appenders).await?.into_iter().flatten());
        }
        primary.append(Arc::clone(&end)).await?;
        committed.insert(end.id());
        anyhow::Ok(committed)
    };
    let readings = (0..READERS).map(|number| {
        let (stream, last) = (&stream, end.id());
        async move {
            sleep(LOOK_EVERY * number / READERS).await;
            let mut reader = stream.read(environment, Position::START);
            let mut got: Vec<(Position, Block)> = Vec::new();
            while got.last().is_none_or(|(_, block)| block.id() != last) {
                let block = timeout(DEADLINE, reader.next()).await;
                got.push(block.context("the standby has no more")?.context("it has no end")??);
            }
            anyhow::Ok(got)
        }
    });
    let (committed, readings) = tokio::try_join!(appending, try_join_all(readings))?;

    for got in &readings {
        assert_eq!(got.len(), committed.len(), "each block once");
        assert_eq!(ids(got).into_iter().collect::<HashSet<_>>(), committed, "no block skipped");
        assert!(got.is_sorted_by(|(one, _), (other, _)| one < other), "positions rise");
    }
    let got = &readings[0];
    let later = read(&primary, environment, Position::START, got.len()).await?;
    assert_eq!(&later, got, "its positions are those of the primary");
    Ok(())
}

/// Whatever is open on the primary, a standby cannot tell whether it appends.
#[tokio::test(flavor = "multi_thread")]
async fn every_open_transaction_holds_back_readers_of_a_standby() -> Result<()> {
    let (database, mut standby, url) = with_standby().await?;
    let (stream, primary) = (open(&url).await?, open(database.admin_url()).await?);
    let (other, append) = (database.connect().await?, database.connect().await?);
    let environment = Id::generate();
    let mut appender = Appender::new(environment);
    primary.append(appender.block(b"first")).await?;
    let mut reader = stream.read(environment, Position::START);
    timeout(DEADLINE, reader.next()).await?.context("no block")??;

    let (second, third) = (appender.block(b"second"), appender.block(b"third"));
    other.batch_execute("begin; create table other (id int)").await?;
    append.batch_execute("begin").await?;
    insert(&append, environment, &second).await?;
    primary.append(Arc::clone(&third)).await?;
    // The primary's readers wait for the open append, the standby's for both.
    let early = timeout(Duration::from_secs(2), reader.next()).await;
    assert!(early.is_err(), "the third is read before the second: {early:?}");
    append.batch_execute("commit").await?;
    assert_eq!(read(&primary, environment, Position::START, 3).await?.len(), 3);
    let early = timeout(Duration::from_secs(2), reader.next()).await;
    assert!(early.is_err(), "a standby does not know that the other appends nothing: {early:?}");
    other.batch_execute("rollback").await?;
    for block in [second, third] {
        let (_, read) = timeout(DEADLINE, reader.next()).await?.context("no block")??;
        assert_eq!(read.id(), block.id());
    }

    // Appends are for the primary.
    let block = appender.block(b"fourth");
    let refused = timeout(DEADLINE, stream.append(Arc::clone(&block))).await?;
    let refused = refused.expect_err("a standby takes no append").to_string();
    assert!(refused.contains("read-only"), "{refused}");

    // One that takes the primary's place goes on from the same positions.
    standby.promote().await?;
    timeout(DEADLINE, async {
        while stream.append(Arc::clone(&block)).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await?;
    let (_, read) = timeout(DEADLINE, reader.next()).await?.context("no block")??;
    assert_eq!(read.id(), block.id());
    Ok(())
}
