//! What the services' database roles can do with the stream.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use e2e::postgres::{TestDatabase, connect};
use log_stream::{AppendError, ConnectError, LogStream as _, Position};
use model::Id;

use super::{Appender, open, read};

#[tokio::test(flavor = "multi_thread")]
async fn edge_appends_and_reads_headers_only() -> Result<()> {
    let database = TestDatabase::create().await?;
    let stream = open(&database.edge_url()?).await?;
    let environment = Id::generate();
    let (mut appender, mut other) = (Appender::new(environment), Appender::new(environment));
    let began = SystemTime::now();
    assert_eq!(stream.tail_of(environment, appender.producer(), began).await?, None);

    let mut last = None;
    for bytes in [&b"one"[..], b"", b"three"] {
        let block = appender.block(bytes);
        stream.append(Arc::clone(&block)).await?;
        // The second time, too, without the right to read what is there.
        stream.append(Arc::clone(&block)).await?;
        last = Some(block);
        stream.append(other.block(b"another's")).await?;
    }
    let tail = stream.tail_of(environment, appender.producer(), began).await?.context("a tail")?;
    assert_eq!((tail.last_seq, tail.output_bytes), (2, 8));
    assert_eq!(Some(tail.last_at), last.map(|block| block.header().last_at));
    let later = began + Duration::from_hours(24);
    assert_eq!(stream.tail_of(environment, appender.producer(), later).await?, None);
    assert_eq!(stream.tail_of(Id::generate(), appender.producer(), began).await?, None);

    assert!(read(&stream, environment, Position::START, 1).await.is_err());
    let edge = connect(&database.edge_url()?).await?;
    for statement in [
        "select payload from stream.blocks",
        "insert into stream.blocks (id, made_at, environment_id, xid, header, payload) \
         values (gen_random_uuid(), now(), gen_random_uuid(), '1', '', '')",
        "update stream.blocks set header = ''",
        "delete from stream.blocks",
        "select stream.move_horizon(gen_random_uuid())",
        "select stream.delete_passed(gen_random_uuid(), 1)",
        "select stream.drop_passed_day()",
    ] {
        let error = edge.batch_execute(statement).await.expect_err(statement);
        assert_eq!(error.code(), Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_reads_and_appends_and_changes_nothing() -> Result<()> {
    let database = TestDatabase::create().await?;
    let environment = Id::generate();
    let block = Appender::new(environment).block(b"read me");
    open(&database.edge_url()?).await?.append(Arc::clone(&block)).await?;

    let stream = open(&database.worker_url()?).await?;
    let blocks = read(&stream, environment, Position::START, 1).await?;
    assert_eq!(blocks[0].1, *block);
    let mine = Appender::new(environment).block(b"mine");
    for _ in 0..2 {
        stream.append(Arc::clone(&mine)).await?;
    }
    assert_eq!(read(&stream, environment, Position::START, 2).await?[1].1, *mine);
    // It is fenced off like any appender, and fences nobody off.
    assert!(stream.fence(stream.appender()).await.is_err());
    open(database.admin_url()).await?.fence(stream.appender()).await?;
    let late = Appender::new(environment).block(b"late");
    // What is not known, because its connection is ended, is tried again.
    let refused = loop {
        let refused = stream.append(Arc::clone(&late)).await;
        if !matches!(refused, Err(AppendError::Unknown(_))) {
            break refused;
        }
    };
    assert!(matches!(refused, Err(AppendError::Fenced)), "{refused:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_tells_what_is_wrong() -> Result<()> {
    let database = TestDatabase::create().await?;
    let admin = database.connect().await?;
    admin.batch_execute("drop schema stream cascade").await?;
    let error = open(database.admin_url()).await.expect_err("no table");
    assert!(matches!(error.downcast_ref(), Some(ConnectError::NotMigrated)), "{error}");
    let error = open("postgres://x:hunter2@%2Fnowhere/x").await.expect_err("no server");
    assert!(matches!(error.downcast_ref(), Some(ConnectError::Unavailable(_))), "{error}");
    let error = open("hunter2").await.expect_err("no URL");
    assert!(matches!(error.downcast_ref(), Some(ConnectError::InvalidUrl(_))), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
    Ok(())
}
