//! Reading: sizes, waiting, connections, damage.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::wait;
use futures_util::future::try_join_all;
use futures_util::{FutureExt as _, StreamExt as _};
use log_stream::{Block, LogStream as _, Position, ReadError};
use model::{Environment, Id};
use rand::RngCore as _;
use tokio::time::{Instant, timeout};

use super::{Appender, DEADLINE, ids, open_new, read};

#[tokio::test(flavor = "multi_thread")]
async fn large_block_and_one_of_many_records_come_back_exactly() -> Result<()> {
    let (_database, stream) = open_new().await?;
    let environment = Id::generate();
    let mut appender = Appender::new(environment);
    let mut noise = vec![0; 1 << 20];
    rand::rng().fill_bytes(&mut noise);
    let large = appender.block(&noise);
    assert!(large.stored_bytes() > noise.len());
    let records: Vec<_> =
        (0..10_000).map(|n: i32| appender.record(n.to_string().as_bytes())).collect();
    let many = Arc::new(Block::encode(environment, &records)?);
    assert!(many.stored_bytes() < 100_000, "{} bytes", many.stored_bytes());
    stream.append(Arc::clone(&large)).await?;
    stream.append(Arc::clone(&many)).await?;
    let blocks = read(&stream, environment, Position::START, 2).await?;
    assert_eq!([&blocks[0].1, &blocks[1].1], [&*large, &*many]);
    assert_eq!(blocks[1].1.records()?, records);
    Ok(())
}

/// Pages end by bytes and by count; none of either is left out or comes twice.
#[tokio::test(flavor = "multi_thread")]
async fn pages_join_without_a_seam() -> Result<()> {
    let (_database, stream) = open_new().await?;
    let environment = Id::generate();
    let mut appender = Appender::new(environment);
    let mut noise = vec![0; 300_000];
    rand::rng().fill_bytes(&mut noise);
    let mut expected = Vec::new();
    for number in 0..200 {
        let block = appender.block(if number < 20 { &noise } else { b"small" });
        stream.append(Arc::clone(&block)).await?;
        expected.push(block.id());
    }
    assert_eq!(ids(&read(&stream, environment, Position::START, 200).await?), expected);
    Ok(())
}

/// Blocks come together and later, and all of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_in_no_hurry_misses_nothing() -> Result<()> {
    let (_database, stream) = open_new().await?;
    let environment = Id::generate();
    let mut appender = Appender::new(environment);
    let leisure = Arc::new(AtomicBool::new(true));
    let mut reader = stream.read_at_leisure(environment, Position::START, leisure.clone());
    let mut next = async || Ok::<_, anyhow::Error>(timeout(DEADLINE, reader.next()).await?);
    let mut expected = Vec::new();
    let mut got = Vec::new();
    let began = Instant::now();
    for round in 0..20 {
        leisure.store(round % 2 == 0, Ordering::Relaxed);
        for _ in 0..3 {
            let block = appender.block(b"next");
            stream.append(Arc::clone(&block)).await?;
            expected.push(block.id());
        }
        while got.len() < expected.len() {
            got.push(next().await?.context("it ended")??.1.id());
        }
    }
    assert_eq!(got, expected);
    let took = began.elapsed();
    // Ten rounds of half a second on average, or of a second at most.
    assert!((1..=15).contains(&took.as_secs()), "{took:?}");
    Ok(())
}

/// The poll alone would take 20 s on average.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_reader_is_told_of_a_new_block() -> Result<()> {
    let (_database, stream) = open_new().await?;
    let environment = Id::generate();
    let mut appender = Appender::new(environment);
    let mut reader = stream.read(environment, Position::START);
    // The first look, and the connection that listens.
    stream.append(appender.block(b"first")).await?;
    timeout(DEADLINE, reader.next()).await?.context("no block")??;
    let began = Instant::now();
    for _ in 0..40 {
        assert!(reader.next().now_or_never().is_none(), "there is nothing to read yet");
        stream.append(appender.block(b"next")).await?;
        timeout(DEADLINE, reader.next()).await?.context("no block")??;
    }
    let took = began.elapsed();
    println!("40 blocks appended and read one by one in {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_readers_share_few_connections() -> Result<()> {
    let (database, stream) = open_new().await?;
    let environments: Vec<Id<Environment>> = (0..300).map(|_| Id::generate()).collect();
    let readers =
        environments.iter().map(|environment| read(&stream, *environment, Position::START, 1));
    let appends = async {
        for environment in &environments {
            stream.append(Appender::new(*environment).block(b"one each")).await?;
        }
        anyhow::Ok(())
    };
    let (read, appended) = tokio::join!(try_join_all(readers), appends);
    appended?;
    assert_eq!(read?.len(), 300);
    let connections = database
        .connect()
        .await?
        .query_one(
            "select count(*) from pg_stat_activity where datname = current_database() \
             and application_name = 'spillway stream'",
            &[],
        )
        .await?;
    // 2 write, 1 notifies, 1 listens, 4 read.
    assert!(connections.get::<_, i64>(0) <= 8);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_block_is_named_and_can_be_passed() -> Result<()> {
    let (database, stream) = open_new().await?;
    let environment = Id::generate();
    let mut appender = Appender::new(environment);
    let blocks = [appender.block(b"one"), appender.block(b"two"), appender.block(b"three")];
    for block in &blocks {
        stream.append(Arc::clone(block)).await?;
    }
    let statement = "update stream.blocks set header = 'garbage' where id = $1";
    database.connect().await?.execute(statement, &[&blocks[1].id()]).await?;
    let mut reader = stream.read(environment, Position::START);
    let first = timeout(DEADLINE, reader.next()).await?.context("no block")??;
    assert_eq!(first.1, *blocks[0]);
    let second = timeout(DEADLINE, reader.next()).await?.context("no block")?;
    let Err(ReadError::Damaged { position, .. }) = second else {
        panic!("{second:?}");
    };
    assert!(reader.next().await.is_none(), "after an error it is over");
    let rest = read(&stream, environment, position, 1).await?;
    assert_eq!(rest[0].1, *blocks[2]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn reader_whose_backend_is_killed_goes_on_from_its_position() -> Result<()> {
    let (database, stream) = open_new().await?;
    let admin = database.connect().await?;
    let killer = database.connect().await?;
    let environment = Id::generate();
    let mut appender = Appender::new(environment);
    let mut last = Position::START;
    for _ in 0..5 {
        let block = appender.block(b"next");
        stream.append(Arc::clone(&block)).await?;
        let mut reader = stream.read(environment, last);
        // The reader's query waits for this lock, so it is killed in its midst.
        admin.batch_execute("begin; lock table stream.blocks").await?;
        let failed = async { timeout(DEADLINE, reader.next()).await };
        let kill = wait::until_true("the reader's backend", DEADLINE, async || {
            let statement = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                where datname = current_database() and application_name = 'spillway stream' \
                and wait_event_type = 'Lock' and query like '%settled%'";
            Ok(killer.query_one(statement, &[]).await?.get::<_, i64>(0) > 0)
        });
        let (failed, done) = tokio::join!(failed, kill);
        done?;
        assert!(matches!(failed?, Some(Err(ReadError::Unavailable(_)))));
        assert!(reader.next().await.is_none(), "after an error it is over");
        admin.batch_execute("rollback").await?;
        let blocks = read(&stream, environment, last, 1).await?;
        assert_eq!(blocks[0].1, *block);
        last = blocks[0].0;
    }
    Ok(())
}

/// As after a restore from a dump: transactions are counted anew, and what is appended would stand
/// before the position.
#[tokio::test(flavor = "multi_thread")]
async fn position_of_another_database_is_refused() -> Result<()> {
    let (_database, stream) = open_new().await?;
    let environment = Id::generate();
    stream.append(Appender::new(environment).block(b"here")).await?;
    let position = read(&stream, environment, Position::START, 1).await?[0].0;
    let ahead = Position { xid: position.xid + 1_000_000_000, seq: 0 };
    let refused = timeout(DEADLINE, stream.read(environment, ahead).next()).await?;
    let Some(Err(ReadError::Unavailable(reason))) = refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("restored from a dump"), "{reason}");
    Ok(())
}
