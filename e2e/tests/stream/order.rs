//! Every reader gets every block once, in one order.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use log_stream::{Block, LogStream as _, Position};
use model::{Environment, Id};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{Appender, assert_in_order, ids, open_new, read};

const APPENDERS: u64 = 16;
const TRANSACTIONS: usize = 30;

/// Appends blocks in transactions that begin, insert and commit with random pauses in between, and now and
/// then give up. Answers the ids that were committed.
pub(crate) async fn append_late(
    client: Client,
    environment: Id<Environment>,
    seed: u64,
) -> Result<Vec<Uuid>> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut appender = Appender::new(environment);
    let mut committed = Vec::new();
    for _ in 0..TRANSACTIONS {
        let mut pause = || sleep(Duration::from_millis(random.random_range(0..15)));
        let pauses = [pause(), pause(), pause()];
        let [before_insert, before_commit, before_next] = pauses;
        let block = appender.block(b"late");
        client.batch_execute("begin").await?;
        before_insert.await;
        insert(&client, environment, &block).await?;
        before_commit.await;
        if random.random_ratio(1, 10) {
            client.batch_execute("rollback").await?;
        } else {
            client.batch_execute("commit").await?;
            committed.push(block.id());
        }
        before_next.await;
    }
    Ok(committed)
}

pub(crate) async fn insert(
    client: &Client,
    environment: Id<Environment>,
    block: &Block,
) -> Result<()> {
    client
        .execute(
            "insert into stream.blocks (id, made_at, environment_id, header, payload) \
             values ($1, $2, $3, $4, $5)",
            &[
                &block.id(),
                &block.made_at(),
                &environment.uuid(),
                &block.header_bytes(),
                &block.payload_bytes(),
            ],
        )
        .await?;
    Ok(())
}

/// The reader that remembers the last number it has seen, as one would write it first. Whenever it
/// looks it wakes the tailing reader, too, so that both look in the midst of transactions.
async fn read_naively(client: Client, environment: Id<Environment>) -> Result<HashSet<Uuid>> {
    let (mut seen, mut last) = (HashSet::new(), 0_i64);
    let payload = environment.to_string();
    let environment = environment.uuid();
    loop {
        let statement =
            "select seq, id from stream.blocks where environment_id = $1 and seq > $2 order by seq";
        for row in client.query(statement, &[&environment, &last]).await? {
            last = row.get(0);
            // The test appends this to tell that there is nothing more.
            if !seen.insert(row.get(1)) || seen.contains(&Uuid::max()) {
                return Ok(seen);
            }
        }
        client.execute("select pg_notify('spillway_stream', $1::text)", &[&payload]).await?;
        sleep(Duration::from_millis(1)).await;
    }
}

/// Numbers are taken before the commit. Of two appenders the first may take 1 and the second 2, and
/// the second commits first: a reader that remembers the last number has then seen 2, asks for
/// what is above it, and never sees 1. Such a reader runs along, and must miss blocks, or else this
/// test would prove nothing.
#[tokio::test(flavor = "multi_thread")]
async fn tailing_reader_gets_each_block_once_though_transactions_commit_late() -> Result<()> {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let (database, stream) = open_new().await?;
    let admin = database.connect().await?;
    admin.batch_execute("select stream.ensure_partition(now())").await?;
    let environment = Id::generate();

    let mut reader = stream.read(environment, Position::START);
    let end = Appender::new(environment).block(b"end");
    let last = end.id();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut blocks = Vec::new();
        while let Some(block) = reader.next().await {
            blocks.push(block?);
            if blocks.last().is_some_and(|(_, block)| block.id() == last) {
                break;
            }
        }
        anyhow::Ok(blocks)
    });
    let mut naive = JoinSet::new();
    naive.spawn(read_naively(database.connect().await?, environment));

    let mut appenders = Vec::new();
    for appender in 0..APPENDERS {
        let client = database.connect().await?;
        appenders.push(append_late(client, environment, seed.wrapping_add(appender)));
    }
    let mut committed: HashSet<Uuid> =
        try_join_all(appenders).await?.into_iter().flatten().collect();
    // A row with the largest id ends the naive reader; it belongs to the stream, so it is awaited.
    stream.append(Arc::clone(&end)).await?;
    committed.insert(end.id());
    let tailed = super::timeout(super::DEADLINE, tasks.join_next()).await?.expect("a task")??;
    admin
        .execute(
            "insert into stream.blocks (id, made_at, environment_id, header, payload) \
             values ($1, now(), $2, '', '')",
            &[&Uuid::max(), &environment.uuid()],
        )
        .await?;
    let naive = super::timeout(super::DEADLINE, naive.join_next()).await?.expect("a task")??;

    assert_eq!(tailed.len(), committed.len(), "each block once");
    assert_eq!(ids(&tailed).into_iter().collect::<HashSet<_>>(), committed, "no block skipped");
    assert!(tailed.is_sorted_by(|(one, _), (other, _)| one < other), "positions rise");
    let missed = committed.difference(&naive).count();
    println!("{} blocks, of which the naive reader missed {missed}", committed.len());
    assert!(missed > 0, "the appenders did not commit out of order");

    let later = read(&stream, environment, Position::START, tailed.len()).await?;
    assert_eq!(later, tailed, "a reader that starts later sees the same order");
    let (middle, _) = tailed[tailed.len() / 2];
    let rest = read(&stream, environment, middle, tailed.len() - tailed.len() / 2 - 1).await?;
    assert_eq!(rest, tailed[tailed.len() / 2 + 1..], "so does one that starts in the middle");
    Ok(())
}

/// The first transaction has its id before that of the block, and ends after it is read.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_that_does_not_append_holds_nothing_back() -> Result<()> {
    let (database, stream) = open_new().await?;
    let other = database.connect().await?;
    let environment = Id::generate();
    let mut appender = Appender::new(environment);
    stream.append(appender.block(b"before")).await?;
    other
        .batch_execute(
            "begin; create table other (id int); insert into other select count(*) from stream.blocks",
        )
        .await?;

    stream.append(appender.block(b"during")).await?;
    assert_eq!(read(&stream, environment, Position::START, 2).await?.len(), 2);

    // Nor may it append then: what it wrote would stand before what was read.
    let block = appender.block(b"late");
    let refused = insert(&other, environment, &block).await.expect_err("an append");
    let refused = refused.downcast_ref::<tokio_postgres::Error>().and_then(|e| e.as_db_error());
    let reason = refused.context("the database's reason")?.message();
    assert!(reason.contains("must be the first thing"), "{reason}");
    other.batch_execute("rollback").await?;
    insert(&other, environment, &block).await?;
    assert_eq!(read(&stream, environment, Position::START, 3).await?.len(), 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_append_holds_back_what_stands_after_it() -> Result<()> {
    let (database, stream) = open_new().await?;
    let (other, unrelated) = (database.connect().await?, database.connect().await?);
    unrelated.batch_execute("begin; select pg_current_xact_id()").await?;
    let environment = Id::generate();
    let mut appender = Appender::new(environment);
    stream.append(appender.block(b"first")).await?;
    let (second, third) = (appender.block(b"second"), appender.block(b"third"));
    other.batch_execute("begin").await?;
    insert(&other, environment, &second).await?;
    stream.append(Arc::clone(&third)).await?;

    let mut reader = stream.read(environment, Position::START);
    assert!(super::timeout(super::DEADLINE, reader.next()).await?.is_some());
    let early = super::timeout(Duration::from_millis(500), reader.next()).await;
    assert!(early.is_err(), "the third is read before the second: {early:?}");
    other.batch_execute("commit").await?;
    for block in [second, third] {
        let (_, read) = super::timeout(super::DEADLINE, reader.next()).await?.expect("a block")?;
        assert_eq!(read.id(), block.id());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_appended_one_after_the_other_are_read_in_that_order() -> Result<()> {
    let (_database, stream) = open_new().await?;
    let environments: Vec<Id<Environment>> = (0..4).map(|_| Id::generate()).collect();
    let appenders = environments.iter().cycle().take(16).map(|environment| {
        let (stream, mut appender) = (stream.clone(), Appender::new(*environment));
        async move {
            for _ in 0..50 {
                stream.append(appender.block(b"next")).await?;
            }
            anyhow::Ok(())
        }
    });
    try_join_all(appenders).await?;
    for environment in environments {
        let blocks = read(&stream, environment, Position::START, 200).await?;
        assert_in_order(&blocks)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_that_wait_share_a_transaction_and_a_notification() -> Result<()> {
    let (database, stream) = open_new().await?;
    let admin = database.connect().await?;
    let environment = Id::generate();
    let mut appender = Appender::new(environment);
    let appends = (0..400).map(|_| stream.append(appender.block(b"together")));
    try_join_all(appends).await?;
    let row = admin
        .query_one("select count(*), count(distinct xid::text) from stream.blocks", &[])
        .await?;
    let (blocks, transactions): (i64, i64) = (row.get(0), row.get(1));
    assert_eq!(blocks, 400);
    assert!(transactions <= 100, "{transactions} transactions");
    Ok(())
}
