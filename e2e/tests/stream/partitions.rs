//! Days are partitions: made when a block needs one, dropped whole.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use futures_util::future::join;
use log_stream::{AppendError, Block, LogStream as _, Position};
use model::Id;
use tokio_postgres::Client;
use uuid::{NoContext, Uuid};

use super::{Appender, ids, open, open_new, read};

const DAY: Duration = Duration::from_hours(24);

/// The first moment of today, UTC.
fn today() -> Result<SystemTime> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(UNIX_EPOCH + Duration::from_secs(now / DAY.as_secs() * DAY.as_secs()))
}

/// The block as if it had been made at another time.
fn made_at(block: &Block, at: SystemTime) -> Result<Arc<Block>> {
    let at = at.duration_since(UNIX_EPOCH)?;
    let id = Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, at.as_secs(), at.subsec_nanos()));
    let parts = (block.header_bytes().to_vec(), block.payload_bytes().to_vec());
    Ok(Arc::new(Block::from_parts(id, parts.0, parts.1)?))
}

async fn partitions(admin: &Client) -> Result<Vec<(String, i64)>> {
    let rows = admin
        .query(
            "select c.relname::text, (select count(*) from stream.blocks b where b.tableoid = c.oid) \
             from pg_inherits i join pg_class c on c.oid = i.inhrelid \
             where inhparent = 'stream.blocks'::regclass order by 1",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn days_are_made_when_needed_and_dropped_whole() -> Result<()> {
    let (database, stream) = open_new().await?;
    let admin = database.connect().await?;
    // The server's time zone must not move the days.
    admin
        .batch_execute(&format!(
            "alter database {} set timezone to 'America/New_York'",
            admin.query_one("select current_database()", &[]).await?.get::<_, String>(0)
        ))
        .await?;
    let elsewhere = open(database.admin_url()).await?;
    let today = today()?;
    let milli = Duration::from_millis(1);
    let environment = Id::generate();
    let mut appender = Appender::new(environment);
    assert_eq!(partitions(&admin).await?.len(), 0);

    let times = [today - DAY, today - milli, today, today + DAY - milli];
    let mut expected = Vec::new();
    for at in times {
        let block = made_at(&appender.block(b"day"), at)?;
        assert_eq!(block.made_at(), at);
        elsewhere.append(Arc::clone(&block)).await?;
        expected.push(block.id());
    }
    let days: Vec<i64> = partitions(&admin).await?.into_iter().map(|(_, blocks)| blocks).collect();
    assert_eq!(days, [2, 2]);
    assert_eq!(ids(&read(&stream, environment, Position::START, 4).await?), expected);

    assert_eq!(elsewhere.trim(today - milli).await?, 0, "yesterday is not over by then");
    assert_eq!(elsewhere.trim(today).await?, 1);
    assert_eq!(elsewhere.trim(today + milli).await?, 0);
    assert_eq!(ids(&read(&stream, environment, Position::START, 2).await?), expected[2..]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn block_of_a_wrong_clock_is_refused_alone() -> Result<()> {
    let (database, stream) = open_new().await?;
    let mut appender = Appender::new(Id::generate());
    let wrong = made_at(&appender.block(b"wrong"), SystemTime::now() - 10 * DAY)?;
    // Many at once, so that the wrong one is in a group with right ones.
    let right = (0..40).map(|_| stream.append(appender.block(b"right")));
    let right = futures_util::future::try_join_all(right.collect::<Vec<_>>());
    let (refused, accepted) = join(stream.append(wrong), right).await;
    accepted?;
    let Err(AppendError::Refused(reason)) = refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("two days from the database's clock"), "{reason}");
    let admin = database.connect().await?;
    assert_eq!(partitions(&admin).await?.iter().map(|(_, blocks)| blocks).sum::<i64>(), 40);
    Ok(())
}

/// A transaction that reads holds a lock on the table until it ends.
#[tokio::test(flavor = "multi_thread")]
async fn open_transaction_does_not_delay_a_new_day() -> Result<()> {
    let (database, stream) = open_new().await?;
    let idle = database.connect().await?;
    idle.batch_execute("begin; select from stream.blocks").await?;
    stream.append(Appender::new(Id::generate()).block(b"first")).await?;
    assert!(stream.trim(SystemTime::now() + 2 * DAY).await.is_err(), "dropping has to wait");
    idle.batch_execute("rollback").await?;
    assert_eq!(stream.trim(SystemTime::now() + 2 * DAY).await?, 1);
    Ok(())
}
