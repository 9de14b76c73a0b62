//! What the stream holds in memory, however slow the database is and however far behind a reader is.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::postgres::{TestCluster, TestDatabase};
use futures_util::future::join_all;
use futures_util::{FutureExt as _, StreamExt as _};
use log_stream::{Block, LogStream as _, Position, PostgresSettings, PostgresStream};
use model::{Id, Secret};
use rand::RngCore as _;
use tokio::time::timeout;

use super::{Appender, DEADLINE, open_new};

const MEBIBYTE: usize = 1 << 20;

fn noise() -> Vec<u8> {
    let mut noise = vec![0; MEBIBYTE];
    rand::rng().fill_bytes(&mut noise);
    noise
}

/// Callers give up and go; what they leave behind is bounded.
#[tokio::test(flavor = "multi_thread")]
async fn appends_to_a_hung_server_hold_bounded_memory() -> Result<()> {
    let mut database = TestDatabase::of_own_cluster(TestCluster::start().await?).await?;
    let mut settings = PostgresSettings::new(Secret::new(database.admin_url().to_owned()));
    settings.deadline = Duration::from_secs(2);
    let stream = PostgresStream::connect(settings).await?;
    let mut appender = Appender::new(Id::generate());
    stream.append(appender.block(b"before")).await?;
    let noise = noise();
    let blocks: Vec<Arc<Block>> = (0..150).map(|_| appender.block(&noise)).collect();

    let cluster = database.cluster().context("a cluster of its own")?;
    cluster.freeze()?;
    let outcomes = join_all(blocks.iter().map(|block| stream.append(Arc::clone(block)))).await;
    assert!(outcomes.iter().all(Result::is_err));
    let held = blocks.iter().filter(|block| Arc::strong_count(block) > 1);
    let held: usize = held.map(|block| block.stored_bytes()).sum();
    println!("{held} bytes are held");
    assert!(held <= 64 * MEBIBYTE, "{held} bytes");

    cluster.unfreeze()?;
    // Room comes back with what was given up.
    for block in &blocks {
        timeout(DEADLINE, async { while stream.append(Arc::clone(block)).await.is_err() {} })
            .await?;
    }
    Ok(())
}

/// What comes without asking the server again is what the reader held.
#[tokio::test(flavor = "multi_thread")]
async fn reader_holds_one_page() -> Result<()> {
    let (database, stream) = open_new().await?;
    let environment = Id::generate();
    let mut appender = Appender::new(environment);
    let noise = &noise()[..300_000];
    for _ in 0..20 {
        stream.append(appender.block(noise)).await?;
    }
    let mut reader = stream.read(environment, Position::START);
    let (_, first) = timeout(DEADLINE, reader.next()).await?.context("no block")??;
    let mut held = first.stored_bytes();
    database.connect().await?.batch_execute("truncate stream.blocks").await?;
    while let Some(Some(block)) = reader.next().now_or_never() {
        held += block?.1.stored_bytes();
    }
    println!("{held} bytes were held");
    assert!(held > 2 * 300_000 && held <= MEBIBYTE + 301_000, "{held} bytes");
    Ok(())
}
