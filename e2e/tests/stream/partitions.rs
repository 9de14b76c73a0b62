//! Days are partitions: made when a block needs one.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use e2e::wait;
use futures_util::StreamExt as _;
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
async fn days_are_made_when_needed() -> Result<()> {
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
    Ok(())
}

/// The days there are as far as `days` back, as if the stream had run that long.
async fn make_days(admin: &Client, days: i32) -> Result<()> {
    let statement = format!(
        "do $$ declare day date; begin
            for day in select (now() at time zone 'UTC')::date - n from generate_series(1, {days}) n loop
                execute format('create table stream.%I (like stream.blocks including all)',
                    'blocks_' || to_char(day, 'YYYYMMDD'));
                execute format('alter table stream.blocks attach partition stream.%I '
                    'for values from (%L) to (%L)', 'blocks_' || to_char(day, 'YYYYMMDD'),
                    day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
            end loop;
        end $$"
    );
    Ok(admin.batch_execute(&statement).await?)
}

/// The producer's clock is set back, and its first try's answer is lost: the block keeps its id and its
/// day. The stream keeps the order in which blocks were appended.
#[tokio::test(flavor = "multi_thread")]
async fn block_tried_again_across_midnight_is_in_the_stream_once() -> Result<()> {
    let (database, stream) = open_new().await?;
    let midnight = today()?;
    let milli = Duration::from_millis(1);
    let environment = Id::generate();
    let mut appender = Appender::new(environment);
    let times = [midnight - milli, midnight, midnight - DAY, midnight + milli, midnight - milli];
    let mut expected = Vec::new();
    for at in times {
        let block = made_at(&appender.block(b"step"), at)?;
        stream.append(Arc::clone(&block)).await?;
        expected.push(block);
        // Every one so far, by another process, in any order.
        let other = open(database.admin_url()).await?;
        for block in expected.iter().rev() {
            other.append(Arc::clone(block)).await?;
        }
    }
    let end = appender.block(b"end");
    stream.append(Arc::clone(&end)).await?;
    expected.push(end);
    let expected: Vec<_> = expected.iter().map(|block| block.id()).collect();
    assert_eq!(ids(&read(&stream, environment, Position::START, 6).await?), expected);
    let blocks: i64 = partitions(&database.connect().await?).await?.iter().map(|(_, n)| n).sum();
    assert_eq!(blocks, 6);
    Ok(())
}

/// Days are closed when a new one is made: nothing new comes into them, and what is there may be
/// appended again.
#[tokio::test(flavor = "multi_thread")]
async fn old_day_takes_no_new_block() -> Result<()> {
    let (database, stream) = open_new().await?;
    let admin = database.connect().await?;
    make_days(&admin, 30).await?;
    let (today, environment) = (today()?, Id::generate());
    let mut appender = Appender::new(environment);
    let open_since = "select extract(epoch from stream.open_since())::bigint";
    let open_since = async || -> Result<i64> { Ok(admin.query_one(open_since, &[]).await?.get(0)) };
    let day = |back: u32| -> Result<i64> {
        Ok(i64::try_from((today - back * DAY).duration_since(UNIX_EPOCH)?.as_secs())?)
    };
    let old = made_at(&appender.block(b"old"), today - 20 * DAY)?;
    stream.append(Arc::clone(&old)).await?;
    assert_eq!(open_since().await?, day(30)?, "all are open until there is a new one");

    // Who has written to a day holds up its closing, and no append.
    let late = database.connect().await?;
    late.batch_execute("begin; lock table stream.blocks in row exclusive mode").await?;
    stream.append(appender.block(b"today")).await?;
    assert_eq!(open_since().await?, day(30)?);
    late.batch_execute("rollback").await?;
    stream.append(made_at(&appender.block(b"tomorrow"), today + DAY)?).await?;
    assert_eq!(open_since().await?, day(4)?);

    let refused = stream.append(made_at(&appender.block(b"late"), today - 20 * DAY)?).await;
    let Err(AppendError::Refused(reason)) = refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("after its day was closed"), "{reason}");
    stream.append(Arc::clone(&old)).await?;
    stream.append(made_at(&appender.block(b"in time"), today - 4 * DAY)?).await?;
    let blocks = read(&stream, environment, Position::START, 4).await?;
    assert_eq!(blocks[0].1, *old);
    Ok(())
}

/// A reader that has come to the end looks at the open days: at 90 days the others cost ten times
/// what the rest of a look does.
#[tokio::test(flavor = "multi_thread")]
async fn reader_at_the_end_leaves_closed_days_alone() -> Result<()> {
    let (database, stream) = open_new().await?;
    let admin = database.connect().await?;
    make_days(&admin, 60).await?;
    let environment = Id::generate();
    let mut appender = Appender::new(environment);
    let mut reader = stream.read(environment, Position::START);
    let mut next = async |bytes: &[u8]| -> Result<()> {
        let block = appender.block(bytes);
        stream.append(Arc::clone(&block)).await?;
        let (_, read) =
            tokio::time::timeout(super::DEADLINE, reader.next()).await?.context("no block")??;
        assert_eq!(read, *block);
        Ok(())
    };
    next(b"first").await?;
    // The server counts a connection's looks once in a while.
    wait::until_true("looks to be counted", super::DEADLINE, async || {
        next(b"next").await?;
        let statement = "select max(idx_scan) filter (where relname >= $1), \
                max(idx_scan) filter (where relname < $1) from pg_stat_user_indexes \
            where schemaname = 'stream' and indexrelname like '%_environment_id_xid_seq_idx'";
        let open_since = "select 'blocks_' || to_char(stream.open_since(), 'YYYYMMDD')";
        let open_since: String = admin.query_one(open_since, &[]).await?.get(0);
        let row = admin.query_one(statement, &[&open_since]).await?;
        let (open, closed): (i64, i64) = (row.get(0), row.get(1));
        assert!(closed <= 5, "closed days were looked at {closed} times, open ones {open} times");
        Ok(open >= 20)
    })
    .await
}
