//! What users and the platform did, from its table into the stream and to drains.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use e2e::https_receiver::HttpsReceiver;
use e2e::wait;
use futures_util::StreamExt as _;
use log_stream::{LogStream as _, Position};
use model::{Event, Id, Source, Timestamp};
use store::Store;
use tokio::time::timeout;
use uuid::{NoContext, Uuid};

use crate::content::received;
use crate::{DEADLINE, World, kill};

fn nanos(at: SystemTime) -> Result<u64> {
    Ok(at.duration_since(UNIX_EPOCH)?.as_nanos().try_into()?)
}

impl World {
    /// Writes down that something was done; gives the row's id.
    async fn do_something(&self, id: Uuid, detail: &str) -> Result<Uuid> {
        let statement = "insert into activity (id, block_id, environment_id, actor, action,
                 target_kind, target_id, target_handle, detail)
             values ($1, $1, $2, 'platform', 'log_drain.failing', 'log_drain', $3, 'logs', $4)";
        let target = Uuid::now_v7();
        let environment = self.environment.id.uuid();
        self.admin.execute(statement, &[&id, &environment, &target, &detail]).await?;
        Ok(id)
    }

    async fn all_appended(&self) -> Result<()> {
        wait::until_true("all activity to be appended", DEADLINE, async || {
            let left = "select count(*) from activity where appended_at is null";
            Ok(self.admin.query_one(left, &[]).await?.get::<_, i64>(0) == 0)
        })
        .await
    }

    /// The activity in the stream, in its order: producers, and what is said.
    async fn recorded(&self) -> Result<Vec<(Uuid, String)>> {
        let count = "select count(*) from stream.blocks where environment_id = $1";
        let environment = self.environment.id;
        let count: i64 = self.admin.query_one(count, &[&environment.uuid()]).await?.get(0);
        let blocks = self.stream.read(environment, Position::START).take(count.try_into()?);
        let mut found = Vec::new();
        for block in timeout(DEADLINE, blocks.collect::<Vec<_>>()).await? {
            for record in block?.1.records()? {
                assert_eq!((record.origin.source, record.seq), (Source::Activity, 0));
                let Event::Activity { detail, .. } = record.event else { continue };
                found.push((record.origin.producer.uuid(), detail));
            }
        }
        Ok(found)
    }
}

#[tokio::test]
async fn activity_reaches_a_drain_that_takes_it_and_no_other() -> Result<()> {
    let world = World::new().await?;
    let (taking, other) = (HttpsReceiver::start().await?, HttpsReceiver::start().await?);
    let drain = world.https(&taking).await?;
    world.change(drain, "drain_activity = true, handle = 'taking'").await?;
    let without = world.https(&other).await?;
    let user = Uuid::now_v7();
    let insert = "insert into users (id, email, name, password_hash)
        values ($1, 'ada@example.com', 'Ada', '')";
    world.admin.execute(insert, &[&user]).await?;
    let _worker = world.worker()?;

    let store = Store::connect(&world.database.api_url()?, 1)?;
    assert!(store.pause_log_drain(without, true, Id::from_uuid(user)).await?.is_some());
    assert!(store.pause_log_drain(without, false, Id::from_uuid(user)).await?.is_some());
    wait::until_true("two lines", DEADLINE, async || Ok(received(&taking)?.len() >= 2)).await?;
    let mut session = world.session();
    world.append(&[session.numbered(0..1)]).await?;
    wait::until_true("the session", DEADLINE, async || Ok(received(&other)?.len() == 1)).await?;

    let lines = received(&taking)?;
    let rows = world.admin.query("select id, at from activity order by id", &[]).await?;
    let said = [
        format!("log_drain.paused: log drain drain-{without}, by ada@example.com"),
        format!("log_drain.resumed: log drain drain-{without}, by ada@example.com"),
    ];
    for ((line, row), said) in lines.iter().zip(&rows).zip(said) {
        let id: Uuid = row.get(0);
        assert_eq!(line.field("id"), format!("{id}:0"));
        assert_eq!((line.field("event"), line.field("source")), ("activity", "activity"));
        assert_eq!(line.field("environment"), "production");
        assert_eq!(line.text(), said);
        let at = Timestamp::from_nanos(nanos(row.get(1))?);
        assert!(line.field("time").starts_with(at.to_string().trim_end_matches('Z')));
    }
    Ok(())
}

#[tokio::test]
async fn workers_append_each_row_once_and_in_order_though_they_are_killed() -> Result<()> {
    let world = World::new().await?;
    let mut ids = Vec::new();
    for number in 0..300 {
        ids.push(world.do_something(Uuid::now_v7(), &number.to_string()).await?);
    }
    // Claims of the killed run out after half a minute: not in this test.
    let release = "update activity set claimed_until = '-infinity' where appended_at is null";
    let appended = "select count(*) from activity where appended_at is not null";
    let mut workers = vec![world.worker()?, world.worker()?];
    for round in 1..=5 {
        wait::until_true("some rows", DEADLINE, async || {
            Ok(world.admin.query_one(appended, &[]).await?.get::<_, i64>(0) >= round * 40)
        })
        .await?;
        kill(&mut workers.remove(0)).await?;
        world.admin.batch_execute(release).await?;
        workers.push(world.worker()?);
    }
    world.all_appended().await?;
    let recorded = world.recorded().await?;
    let expected: Vec<_> = ids.iter().zip(0..).map(|(id, n)| (*id, n.to_string())).collect();
    assert_eq!(recorded, expected);

    // Whoever appends one again, not knowing that it was, adds nothing.
    let forget = "update activity set appended_at = null, claimed_until = '-infinity'";
    world.admin.batch_execute(forget).await?;
    world.all_appended().await?;
    assert_eq!(world.recorded().await?.len(), ids.len());
    Ok(())
}

#[tokio::test]
async fn a_row_that_waited_until_its_day_was_over_is_appended_once_all_the_same() -> Result<()> {
    let world = World::new().await?;
    let long_ago = SystemTime::now() - Duration::from_hours(24 * 10);
    let at = long_ago.duration_since(UNIX_EPOCH)?;
    let id = Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, at.as_secs(), 0));
    world.do_something(id, "old").await?;
    let next = world.do_something(Uuid::now_v7(), "new").await?;
    let _workers = [world.worker()?, world.worker()?];
    world.all_appended().await?;
    let expected = [(id, "old".to_owned()), (next, "new".to_owned())];
    assert_eq!(world.recorded().await?, expected);
    let blocks = "select block_id from activity order by id";
    let blocks: Vec<Uuid> =
        world.admin.query(blocks, &[]).await?.iter().map(|row| row.get(0)).collect();
    assert!(blocks[0] != id && blocks[1] == next, "{blocks:?}");
    Ok(())
}
