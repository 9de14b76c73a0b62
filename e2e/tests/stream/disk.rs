//! A full disk under the stream's database: appends fail, and are in the stream once when there is room.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::postgres::{TestCluster, TestDatabase};
use e2e::process;
use e2e::tmpfs::Tmpfs;
use futures_util::future::join_all;
use log_stream::{AppendError, Block, LogStream as _, Position};
use model::Id;
use rand::RngCore as _;
use tokio::process::Command;
use tokio::time::sleep;
use url::Url;

use super::{Appender, DEADLINE, assert_in_order, ids, open, read};

/// Moves the stopped cluster's data folder onto the disk.
async fn move_data(admin_url: &str, disk: &Tmpfs) -> Result<()> {
    let url = Url::parse(admin_url)?;
    let folder = url.host_str().context("a folder of sockets")?.replace("%2F", "/");
    let data = Path::new(&folder).join("data");
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(&data).arg(disk.path());
    process::succeed(copy, DEADLINE).await?;
    std::fs::remove_dir_all(&data)?;
    std::os::unix::fs::symlink(disk.path().join("data"), &data)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_costs_neither_a_block_nor_a_repetition() -> Result<()> {
    // Dropped after the server.
    let disk = Tmpfs::mount(192 << 20).await?;
    let mut database = TestDatabase::of_own_cluster(TestCluster::start().await?).await?;
    let url = database.admin_url().to_owned();
    let cluster = database.cluster().context("a cluster of its own")?;
    cluster.stop().await?;
    move_data(&url, &disk).await?;
    cluster.start_again().await?;

    let stream = open(&url).await?;
    let environment = Id::generate();
    let mut appender = Appender::new(environment);
    let mut noise = vec![0; 256 << 10];
    rand::rng().fill_bytes(&mut noise);
    let mut kept: Vec<Arc<Block>> = Vec::new();
    for _ in 0..4 {
        let block = appender.block(&noise);
        stream.append(Arc::clone(&block)).await?;
        kept.push(block);
    }

    // First the table cannot grow, which the server says; then its journal cannot, which ends it.
    disk.fill(0).await?;
    let block = appender.block(&noise);
    let outcome = stream.append(Arc::clone(&block)).await;
    let Err(AppendError::Refused(reason)) = outcome else { anyhow::bail!("{outcome:?}") };
    assert!(reason.contains("53100"), "{reason}");
    // Small enough for the room that a page has left, or not: its outcome may be anything.
    let small = appender.block(b"small");
    drop(stream.append(Arc::clone(&small)).await);
    let admin = database.connect().await?;
    for _ in 0..3 {
        let statement = "select pg_switch_wal(); select pg_current_xact_id(); checkpoint";
        drop(admin.batch_execute(statement).await);
    }
    assert!(admin.is_closed(), "the server does not survive a journal that cannot grow");
    let down = [block, small];
    let outcomes = join_all(down.iter().map(|block| stream.append(Arc::clone(block)))).await;
    println!("while the server is down: {outcomes:?}");
    // It starts anew by itself, and may have room for the small one then.
    assert!(outcomes.first().is_some_and(Result::is_err));

    disk.free().await?;
    let cluster = database.cluster().context("a cluster of its own")?;
    cluster.crash().await.ok();
    cluster.start_again().await?;
    for block in down {
        let mut outcome = stream.append(Arc::clone(&block)).await;
        for _ in 0..100 {
            if outcome.is_ok() {
                break;
            }
            sleep(Duration::from_millis(50)).await;
            outcome = stream.append(Arc::clone(&block)).await;
        }
        outcome?;
        // And once more, as who has missed the answer.
        stream.append(Arc::clone(&block)).await?;
        kept.push(block);
    }
    let end = appender.block(b"end");
    stream.append(Arc::clone(&end)).await?;
    kept.push(end);

    let blocks = read(&stream, environment, Position::START, kept.len()).await?;
    let expected: Vec<_> = kept.iter().map(|block| block.id()).collect();
    // The small one may have got in before the one that was refused.
    let (mut found, mut wanted) = (ids(&blocks), expected);
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted);
    for (_, block) in &blocks {
        assert_eq!(block.records()?.len(), 1);
    }
    let statement = "select count(*) from stream.blocks";
    let count: i64 = database.connect().await?.query_one(statement, &[]).await?.get(0);
    assert_eq!(count, i64::try_from(kept.len())?);
    assert!(assert_in_order(&blocks[..4]).is_ok());
    Ok(())
}
