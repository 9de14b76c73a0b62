//! A block is in the stream once, and durable when its append returns, whatever fails.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::postgres::{TestCluster, TestDatabase};
use futures_util::StreamExt as _;
use futures_util::future::{join_all, try_join_all};
use log_stream::{AppendError, Block, LogStream as _, Position, PostgresSettings, PostgresStream};
use model::{Environment, Id, Secret};
use tokio::time::{Instant, sleep, timeout};

use super::{Appender, DEADLINE, assert_in_order, ids, open, open_new, read};

const APPENDERS: usize = 8;
const BLOCKS: usize = 40;

/// Appends the same block again until it is in; answers how often the outcome was unknown.
async fn append(stream: &PostgresStream, block: Arc<Block>) -> Result<usize> {
    for unknown in 0..1_000 {
        match stream.append(Arc::clone(&block)).await {
            Ok(()) => return Ok(unknown),
            Err(AppendError::Unknown(_)) => sleep(Duration::from_millis(1)).await,
            Err(refused) => return Err(refused.into()),
        }
    }
    anyhow::bail!("the block cannot be appended");
}

#[tokio::test(flavor = "multi_thread")]
async fn block_appended_many_times_at_once_is_in_the_stream_once() -> Result<()> {
    let (database, stream) = open_new().await?;
    let other = open(database.admin_url()).await?;
    let environment = Id::generate();
    let mut appender = Appender::new(environment);
    for _ in 0..20 {
        let block = appender.block(b"once");
        let appends =
            (0..10).flat_map(|_| [&stream, &other]).map(|stream| stream.append(Arc::clone(&block)));
        try_join_all(appends).await?;
    }
    let end = appender.block(b"end");
    stream.append(Arc::clone(&end)).await?;
    let blocks = read(&stream, environment, Position::START, 21).await?;
    assert_in_order(&blocks)?;
    assert_eq!(blocks.last().map(|(_, block)| block.id()), Some(end.id()));
    Ok(())
}

/// Backends of appenders and readers are killed under load. Appenders append again, readers read
/// again from their last position.
#[tokio::test(flavor = "multi_thread")]
async fn killed_backends_cost_neither_a_block_nor_a_repetition() -> Result<()> {
    let (database, stream) = open_new().await?;
    let admin = database.connect().await?;
    let environment: Id<Environment> = Id::generate();
    let unknown = AtomicUsize::new(0);
    let failed_reads = AtomicUsize::new(0);

    let appenders = try_join_all((0..APPENDERS).map(async |_| {
        let mut appender = Appender::new(environment);
        for _ in 0..BLOCKS {
            let block = appender.block(&[7; 10_000]);
            unknown.fetch_add(append(&stream, block).await?, Ordering::Relaxed);
        }
        anyhow::Ok(())
    }));
    let reader = async {
        let mut blocks: Vec<(Position, Block)> = Vec::new();
        while blocks.len() < APPENDERS * BLOCKS {
            let from = blocks.last().map_or(Position::START, |(position, _)| *position);
            let mut reader = stream.read(environment, from);
            while let Some(Ok(block)) = reader.next().await {
                blocks.push(block);
                if blocks.len() == APPENDERS * BLOCKS {
                    return blocks;
                }
            }
            failed_reads.fetch_add(1, Ordering::Relaxed);
        }
        blocks
    };
    let killer = async {
        let statement = "select pg_terminate_backend(pid) from pg_stat_activity \
            where datname = current_database() and application_name = 'spillway stream' \
            and (state = 'active' and query like 'insert%' or random() < 0.3)";
        loop {
            // Appends wait for the lock, so that some are there to be killed.
            admin.batch_execute("begin; lock table stream.blocks in share mode").await?;
            sleep(Duration::from_millis(5)).await;
            admin.execute(statement, &[]).await?;
            admin.batch_execute("commit").await?;
            sleep(Duration::from_millis(10)).await;
        }
    };
    let work = async { tokio::join!(appenders, reader) };
    // The killer never ends by itself; dropping it only stops the killing.
    let (appended, blocks) = tokio::select! {
        done = timeout(DEADLINE, work) => done?,
        failed = killer => return failed,
    };
    appended?;
    println!("unknown outcomes: {unknown:?}, failed reads: {failed_reads:?}");
    assert!(unknown.into_inner() > 0, "no append was killed");
    assert_eq!(ids(&blocks).into_iter().collect::<HashSet<_>>().len(), APPENDERS * BLOCKS);
    assert_in_order(&blocks)?;
    let row = admin.query_one("select count(*) from stream.blocks", &[]).await?;
    assert_eq!(row.get::<_, i64>(0), i64::try_from(APPENDERS * BLOCKS)?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn append_to_a_hung_server_is_unknown_in_time_and_in_the_stream_once() -> Result<()> {
    let mut database = TestDatabase::of_own_cluster(TestCluster::start().await?).await?;
    let mut settings = PostgresSettings::new(Secret::new(database.admin_url().to_owned()));
    settings.deadline = Duration::from_secs(1);
    let stream = PostgresStream::connect(settings).await?;
    let environment = Id::generate();
    let mut appender = Appender::new(environment);
    stream.append(appender.block(b"before")).await?;

    let cluster = database.cluster().context("a cluster of its own")?;
    cluster.freeze()?;
    let began = Instant::now();
    // More than one group for each writer: who waits in the queue has the same deadline.
    let hung: Vec<Arc<Block>> = (0..50).map(|_| appender.block(b"hung")).collect();
    let outcomes = join_all(hung.iter().map(|block| stream.append(Arc::clone(block)))).await;
    let took = began.elapsed();
    cluster.unfreeze()?;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(AppendError::Unknown(_)))));
    assert!(took < Duration::from_secs(5), "{took:?}");
    for block in hung {
        append(&stream, block).await?;
    }
    stream.append(appender.block(b"after")).await?;
    let blocks = read(&stream, environment, Position::START, 52).await?;
    assert_eq!(ids(&blocks).into_iter().collect::<HashSet<_>>().len(), 52);
    Ok(())
}

/// The server's default is not to wait for the disk. What was acknowledged survives a crash all the
/// same, and stream and reader go on after it.
#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_block_survives_a_crash_of_the_server() -> Result<()> {
    let mut database = TestDatabase::of_own_cluster(TestCluster::start().await?).await?;
    let admin = database.connect().await?;
    admin.batch_execute("alter system set synchronous_commit = off").await?;
    admin.batch_execute("alter system set wal_writer_delay = '10s'").await?;
    admin.batch_execute("select pg_reload_conf()").await?;
    let stream = open(database.admin_url()).await?;
    let environment = Id::generate();
    let mut appender = Appender::new(environment);
    for round in 1..=3_i64 {
        append(&stream, appender.block(b"durable")).await?;
        let cluster = database.cluster().context("a cluster of its own")?;
        cluster.crash().await?;
        assert!(stream.append(appender.block(b"down")).await.is_err());
        appender.next_seq -= 1;
        cluster.start_again().await?;
        let statement = "select count(*) from stream.blocks";
        let kept = database.connect().await?.query_one(statement, &[]).await?;
        assert_eq!(kept.get::<_, i64>(0), round, "what was acknowledged is there");
        let blocks = read_again(&stream, environment, usize::try_from(round)?).await?;
        assert_in_order(&blocks)?;
    }
    Ok(())
}

/// Reads, and again where the connections have not come back yet.
async fn read_again(
    stream: &PostgresStream,
    environment: Id<Environment>,
    count: usize,
) -> Result<Vec<(Position, Block)>> {
    for _ in 0..100 {
        if let Ok(blocks) = read(stream, environment, Position::START, count).await {
            return Ok(blocks);
        }
        sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("the stream cannot be read");
}
