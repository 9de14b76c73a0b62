//! Who was taken for dead appends nothing more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use e2e::postgres::{TestDatabase, connect};
use futures_util::future::join_all;
use log_stream::{AppendError, LogStream as _};
use model::Id;
use tokio::time::sleep;

use super::{Appender, open};

/// The fenced process is alive and in full swing, and tries again as long as it may.
#[tokio::test(flavor = "multi_thread")]
async fn fenced_appender_appends_nothing_after_its_tail_was_looked_up() -> Result<()> {
    let database = TestDatabase::create().await?;
    let admin = database.connect().await?;
    let other = open(&database.edge_url()?).await?;
    let environment = Id::generate();
    let mut stream = Arc::new(open(&database.edge_url()?).await?);
    for round in 0..10 {
        let began = SystemTime::now();
        let known = AtomicU64::new(0);
        let appenders = join_all((0..4).map(async |_| {
            let mut appender = Appender::new(environment);
            let producer = appender.producer();
            loop {
                let block = appender.block(b"still here");
                let outcome = loop {
                    match stream.append(Arc::clone(&block)).await {
                        Err(AppendError::Unknown(_)) => {}
                        outcome => break outcome,
                    }
                };
                match outcome {
                    Ok(()) => known.fetch_add(1, Ordering::Relaxed),
                    Err(AppendError::Fenced) => return Ok((producer, appender.next_seq - 1)),
                    Err(error) => return Err(error),
                };
            }
        }));
        let fenced = async {
            while known.load(Ordering::Relaxed) < 40 {
                sleep(Duration::from_millis(1)).await;
            }
            other.fence(stream.appender()).await?;
            let statement = "select count(*) from stream.blocks";
            anyhow::Ok(admin.query_one(statement, &[]).await?.get::<_, i64>(0))
        };
        let (appenders, at_fence) = tokio::join!(appenders, fenced);
        for outcome in appenders {
            let (producer, known) = outcome?;
            let tail = other.tail_of(environment, producer, began).await?;
            // One more may be in the stream whose answer was lost with its connection.
            let in_stream = tail.map_or(0, |tail| tail.last_seq + 1);
            assert!(known <= in_stream && in_stream <= known + 1, "{known} {in_stream}");
        }
        let statement = "select count(*) from stream.blocks";
        let now = admin.query_one(statement, &[]).await?.get::<_, i64>(0);
        assert_eq!(now, at_fence?, "round {round}: something was appended past the fence");

        stream = Arc::new(stream.renewed());
        stream.append(Appender::new(environment).block(b"anew")).await?;
    }
    Ok(())
}

/// A connection that was frozen between its lock and its look at the fences is ended, too.
#[tokio::test(flavor = "multi_thread")]
async fn fence_waits_for_every_connection_that_might_still_append() -> Result<()> {
    let database = TestDatabase::create().await?;
    let (stream, other) = (open(&database.edge_url()?).await?, open(&database.edge_url()?).await?);
    let frozen = connect(&database.edge_url()?).await?;
    let lock = "select pg_advisory_lock_shared(hashtextextended($1::text, 0))";
    frozen.execute(lock, &[&stream.appender().to_string()]).await?;
    other.fence(stream.appender()).await?;
    assert!(frozen.execute("select 1", &[]).await.is_err(), "its connection lives");
    let refused = stream.append(Appender::new(Id::generate()).block(b"late")).await;
    assert!(matches!(refused, Err(AppendError::Fenced)), "{refused:?}");
    // Again, and by another: the fence stays.
    open(&database.edge_url()?).await?.fence(stream.appender()).await?;
    other.append(Appender::new(Id::generate()).block(b"not fenced")).await?;
    Ok(())
}
