//! The retention horizon: what it passes, what drains lose to it, and when that is deleted.

use anyhow::Result;
use bytes::Bytes;
use e2e::https_receiver::{Answer, HttpsReceiver};
use e2e::wait;
use model::{Drain, Id};
use rand::RngCore as _;
use rustix::process::Signal;
use store::Store;

use crate::{DEADLINE, World};

impl World {
    /// Makes the environment's blocks older.
    async fn age(&self, interval: &str) -> Result<()> {
        let environment = self.environment.id;
        let statement = format!(
            "do $$ declare
                 day date;
             begin
                 for day in select distinct ((made_at - interval '{interval}') at time zone 'UTC')::date
                     from stream.blocks where environment_id = '{environment}'
                 loop
                     if to_regclass('stream.blocks_' || to_char(day, 'YYYYMMDD')) is null then
                         execute format('create table stream.%I partition of stream.blocks
                             for values from (%L) to (%L)', 'blocks_' || to_char(day, 'YYYYMMDD'),
                             day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
                     end if;
                 end loop;
                 update stream.blocks set made_at = made_at - interval '{interval}'
                 where environment_id = '{environment}';
                 perform stream.close_days();
             end $$"
        );
        Ok(self.admin.batch_execute(&statement).await?)
    }

    async fn keep(&self, set: &str) -> Result<()> {
        let id = self.environment.id;
        let statement = format!("update environments set {set} where id = '{id}'");
        Ok(self.admin.batch_execute(&statement).await?)
    }

    async fn number(&self, statement: &str) -> Result<i64> {
        Ok(self.admin.query_one(statement, &[]).await?.get(0))
    }

    async fn blocks(&self) -> Result<i64> {
        let id = self.environment.id;
        self.number(&format!("select count(*) from stream.blocks where environment_id = '{id}'"))
            .await
    }

    async fn dropped(&self, drain: Id<Drain>) -> Result<i64> {
        let dropped = "select dropped_records from drain_positions where drain_id =";
        self.number(&format!("{dropped} '{drain}'")).await
    }

    /// As a worker, with what a worker may do.
    fn trimmer(&self) -> Result<Store> {
        Ok(Store::connect(&self.database.worker_url()?, 2)?)
    }

    /// Moves the horizon until all blocks are counted: transactions of other databases, too, hold that up.
    async fn move_horizon(&self, store: &Store) -> Result<()> {
        let id = self.environment.id;
        let counted = format!(
            "select count(*) from stream.horizons h where environment_id = '{id}'
                 and not exists (select from stream.blocks b where b.environment_id = '{id}'
                     and (b.xid, b.seq) > (h.counted_xid, h.counted_seq))"
        );
        wait::until_true("all blocks to be counted", DEADLINE, async || {
            while store.move_horizon(id).await? {}
            Ok(self.number(&counted).await? == 1)
        })
        .await
    }

    async fn delete_passed(&self, store: &Store) -> Result<i32> {
        Ok(store.delete_passed(self.environment.id, 1000).await?)
    }
}

#[tokio::test]
async fn what_a_drain_loses_to_the_horizon_is_counted_told_and_then_deleted() -> Result<()> {
    let world = World::new().await?;
    world.keep("retention_seconds = 86400").await?;
    let (healthy, broken) = (HttpsReceiver::start().await?, HttpsReceiver::start().await?);
    broken.answer_by(|_| Answer::status(503));
    let delivered = world.https(&healthy).await?;
    let (failing, paused) = (world.https(&broken).await?, world.https(&broken).await?);
    let mut worker = world.worker()?;
    let mut session = world.session();
    for part in 0..3 {
        world.append(&[session.numbered(part * 10..part * 10 + 10)]).await?;
    }
    world.state_until(delivered, "all", |state| state.delivered == 30).await?;
    world.state_until(failing, "a failure", |state| state.failing).await?;
    world.change(paused, "paused_at = now()").await?;
    worker.stop(Signal::INT, DEADLINE).await?;

    world.age("4 days").await?;
    let _worker = world.worker()?;
    let looked = "select count(*) from stream.horizons where looked_at > now() - interval '1 hour'";
    wait::until_true("the worker to look", DEADLINE, async || Ok(world.number(looked).await? == 1))
        .await?;
    let trimmer = world.trimmer()?;
    world.move_horizon(&trimmer).await?;
    wait::until_true("what was not delivered to be counted", DEADLINE, async || {
        Ok(world.dropped(failing).await? == 3 && world.dropped(paused).await? == 3)
    })
    .await?;
    assert_eq!(world.dropped(delivered).await?, 0);
    // The worker looks again in some minutes.
    wait::until_true("it to be deleted", DEADLINE, async || {
        world.delete_passed(&trimmer).await?;
        Ok(world.blocks().await? == 0)
    })
    .await?;
    let told =
        "select count(*) from activity where action = 'log_drain.dropped' and actor = 'platform'
        and target_id in";
    assert_eq!(world.number(&format!("{told} ('{failing}', '{paused}')")).await?, 2);
    assert_eq!(world.number(&format!("{told} ('{delivered}')")).await?, 0);

    // What comes now is kept for all of them.
    broken.answer_by(|_| Answer::status(200));
    world.append(&[session.numbered(30..40)]).await?;
    world.state_until(failing, "what came then", |state| state.delivered == 10).await?;
    world.change(paused, "paused_at = null").await?;
    world.state_until(paused, "what came then", |state| state.delivered == 10).await?;
    assert_eq!((world.dropped(failing).await?, world.dropped(paused).await?), (3, 3));
    let first = broken.accepted_lines()?.into_iter().find(|line| line["event"] == "output");
    assert_eq!(first.map(|line| line["message"].clone()), Some("line 30 of the session".into()));

    // Told once a day.
    world.change(failing, "paused_at = now()").await?;
    let held = "select count(*) from drain_leases where expires_at > now() and drain_id =";
    let held = format!("{held} '{failing}'");
    wait::until_true("the pause", DEADLINE, async || Ok(world.number(&held).await? == 0)).await?;
    world.append(&[session.numbered(40..50)]).await?;
    world.state_until(delivered, "the last", |state| state.delivered == 50).await?;
    world.age("4 days").await?;
    world.move_horizon(&trimmer).await?;
    wait::until_true("more to be counted", DEADLINE, async || {
        Ok(world.dropped(failing).await? == 4)
    })
    .await?;
    assert_eq!(world.number(&format!("{told} ('{failing}')")).await?, 1);
    Ok(())
}

#[tokio::test]
async fn what_a_drain_has_not_passed_stays_and_days_that_all_have_passed_go_whole() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    let drain = world.https(&receiver).await?;
    world.append(&[world.session().numbered(0..10)]).await?;
    world.append(&[world.session().numbered(0..10)]).await?;
    world.age("10 days").await?;
    let trimmer = world.trimmer()?;
    world.move_horizon(&trimmer).await?;
    let passed = "select count(*) from stream.horizons where passed_at is not null";
    assert_eq!(world.number(passed).await?, 0, "they are kept for 30 days");

    world.keep("retention_seconds = 86400").await?;
    world.move_horizon(&trimmer).await?;
    assert_eq!(world.number(passed).await?, 1);
    assert_eq!(world.number("select kept_bytes from stream.horizons").await?, 0);
    assert_eq!(
        (world.delete_passed(&trimmer).await?, trimmer.drop_passed_day().await?),
        (0, false)
    );
    assert_eq!(world.blocks().await?, 2, "no worker has counted them for the drain");

    // Between the two.
    let statement = format!(
        "update drain_positions set (low_xid, low_seq) = (select xid::text::bigint, seq
             from stream.blocks order by xid, seq limit 1) where drain_id = '{drain}'"
    );
    world.admin.batch_execute(&statement).await?;
    assert_eq!(
        (trimmer.drop_passed_day().await?, world.delete_passed(&trimmer).await?),
        (false, 1)
    );
    world.admin.batch_execute("delete from log_drains").await?;
    assert!(trimmer.drop_passed_day().await? && !trimmer.drop_passed_day().await?);
    assert_eq!(world.blocks().await?, 0);
    let days = "select count(*) from stream.days where closed";
    assert_eq!(world.number(days).await?, 0);
    Ok(())
}

#[tokio::test]
async fn oldest_blocks_go_for_their_bytes_and_none_of_the_last_hour() -> Result<()> {
    let world = World::new().await?;
    world.keep("retention_seconds = null, retention_bytes = 1048576").await?;
    let mut session = world.session();
    for _ in 0..6 {
        let mut bytes = vec![0; 300_000];
        rand::rng().fill_bytes(&mut bytes);
        world.append(&[session.output(Bytes::from(bytes))]).await?;
    }
    let trimmer = world.trimmer()?;
    world.move_horizon(&trimmer).await?;
    let kept = "select kept_bytes from stream.horizons";
    assert!(world.number(kept).await? > 6 * 300_000);
    assert_eq!(world.delete_passed(&trimmer).await?, 0, "none is an hour old");
    world.age("2 hours").await?;
    world.move_horizon(&trimmer).await?;
    assert_eq!((world.delete_passed(&trimmer).await?, world.blocks().await?), (3, 3));
    let stored =
        "select sum(octet_length(header) + octet_length(payload))::bigint from stream.blocks";
    let stored = world.number(stored).await?;
    assert_eq!(world.number(kept).await?, stored);
    assert!(stored < 1_048_576);
    Ok(())
}

#[tokio::test]
async fn age_takes_nothing_since_the_beginning_of_a_session_that_goes_on() -> Result<()> {
    let world = World::new().await?;
    world.keep("retention_seconds = 86400").await?;
    world.append(&[world.session().numbered(0..10)]).await?;
    world.age("4 days").await?;
    let (environment, organization) = (world.environment.id, world.environment.organization);
    let session = format!(
        "insert into apps (id, environment_id, handle, image) values ('{app}', '{environment}', 'web', 'a');
         insert into users (id, email, name, password_hash) values ('{app}', 'a', 'a', '');
         insert into ephemeral_sessions (id, organization_id, environment_id, app_id, user_id, state,
             requested_at)
         values ('{app}', '{organization}', '{environment}', '{app}', '{app}', 'active',
             now() - interval '5 days')",
        app = world.app.id
    );
    world.admin.batch_execute(&session).await?;
    let trimmer = world.trimmer()?;
    world.move_horizon(&trimmer).await?;
    assert_eq!((world.delete_passed(&trimmer).await?, world.blocks().await?), (0, 1));
    world.admin.batch_execute("update ephemeral_sessions set state = 'ended'").await?;
    world.move_horizon(&trimmer).await?;
    assert_eq!((world.delete_passed(&trimmer).await?, world.blocks().await?), (1, 0));
    Ok(())
}

#[tokio::test]
async fn refused_lines_are_not_kept_for_longer_than_records() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    let drain = world.https(&receiver).await?;
    let refused = |days: u32| {
        format!(
            "insert into rejected_lines (id, drain_id, line_id, line, reason, rejected_at)
             values (gen_random_uuid(), '{drain}', '{days}', '{{}}', 'refused', now() - interval '{days} days')"
        )
    };
    for days in [29, 31, 32] {
        world.admin.batch_execute(&refused(days)).await?;
    }
    let _worker = world.worker()?;
    wait::until_true("the count", DEADLINE, async || Ok(world.dropped(drain).await? == 2)).await?;
    let kept = world.admin.query("select line_id from rejected_lines", &[]).await?;
    assert_eq!(kept.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), ["29"]);
    Ok(())
}
