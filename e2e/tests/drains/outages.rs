//! A drain that fails for long is announced once, and its recovery, too.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use e2e::https_receiver::{Answer, HttpsReceiver};
use e2e::process::Process;
use e2e::wait;
use model::{Drain, Id};
use tokio::time::sleep;

use crate::{DEADLINE, World, kill};

/// Long enough that a worker can be killed before.
const FAILING_AFTER: Duration = Duration::from_secs(6);

impl World {
    fn watching_worker(&self) -> Result<Process> {
        self.worker_with(&[
            "--drain-allow-network",
            "127.0.0.0/8,::1/128",
            "--drain-failing-after-seconds",
            &FAILING_AFTER.as_secs().to_string(),
        ])
    }

    /// What the platform has said of a drain, in order, and when.
    pub(crate) async fn announced(&self, drain: Id<Drain>) -> Result<Vec<(String, String)>> {
        let said = "select action, detail from activity
            where target_id = $1 and actor = 'platform' order by id";
        let rows = self.admin.query(said, &[&drain.uuid()]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    pub(crate) async fn announced_until(&self, drain: Id<Drain>, count: usize) -> Result<()> {
        wait::until_true("the announcement", DEADLINE, async || {
            Ok(self.announced(drain).await?.len() >= count)
        })
        .await
    }

    async fn failing_since(&self, drain: Id<Drain>) -> Result<Option<SystemTime>> {
        let since = "select failing_since from drain_positions where drain_id = $1";
        Ok(self.admin.query_one(since, &[&drain.uuid()]).await?.get(0))
    }
}

#[tokio::test]
async fn each_outage_is_announced_once_with_its_end_whoever_is_killed() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    let drain = world.https(&receiver).await?;
    let mut session = world.session();
    let mut actions = Vec::new();
    let mut workers = vec![world.watching_worker()?];
    for outage in 1..=2 {
        receiver.answer_by(|_| Answer::status(503));
        world.append(&[session.numbered(0..10)]).await?;
        world.state_until(drain, "the failure", |state| state.failing).await?;
        let since = world.failing_since(drain).await?;
        // A successor does not count anew, although the drain is nobody's for some seconds.
        kill(&mut workers.remove(0)).await?;
        workers.push(world.watching_worker()?);
        assert!(world.announced(drain).await?.len() == actions.len(), "it is announced too early");
        world.announced_until(drain, actions.len() + 1).await?;
        assert_eq!(world.failing_since(drain).await?, since);
        let at = "select max(at) from activity where target_id = $1";
        let at: SystemTime = world.admin.query_one(at, &[&drain.uuid()]).await?.get(0);
        let after = at.duration_since(since.expect("it fails"))?;
        assert!(after >= FAILING_AFTER && after < FAILING_AFTER * 3, "{after:?}");

        // Nor is it announced again by whoever takes it, several times.
        for _ in 0..2 {
            kill(&mut workers.remove(0)).await?;
            workers.push(world.watching_worker()?);
            sleep(FAILING_AFTER).await;
        }
        let (action, detail) = world.announced(drain).await?.pop().expect("an announcement");
        assert_eq!(action, "log_drain.failing");
        assert!(detail.starts_with("since 20") && detail.contains("503"), "{detail}");

        kill(&mut workers.remove(0)).await?;
        receiver.answer_by(|_| Answer::status(200));
        workers.push(world.watching_worker()?);
        workers.push(world.watching_worker()?);
        world.announced_until(drain, actions.len() + 2).await?;
        sleep(Duration::from_secs(2)).await;
        actions.extend(["log_drain.failing", "log_drain.recovered"]);
        let announced = world.announced(drain).await?;
        let said: Vec<_> = announced.iter().map(|(action, _)| action.as_str()).collect();
        assert_eq!(said, actions, "outage {outage}");
        assert!(!world.state(drain).await?.failing);
        kill(&mut workers.remove(0)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_short_failure_is_not_announced() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    let drain = world.https(&receiver).await?;
    let _worker = world.watching_worker()?;
    let mut session = world.session();
    // Longer in all than is announced.
    for round in 1..=3 {
        receiver.answer_by(|_| Answer::status(503));
        world.append(&[session.numbered(0..10)]).await?;
        world.state_until(drain, "the failure", |state| state.failing).await?;
        sleep(FAILING_AFTER / 2).await;
        receiver.answer_by(|_| Answer::status(200));
        world.state_until(drain, "the recovery", |state| state.delivered == round * 10).await?;
        world.state_until(drain, "the recovery", |state| !state.failing).await?;
    }
    assert!(world.announced(drain).await?.is_empty());
    Ok(())
}

/// Nothing is tried, and so nothing changes, once its configuration is found to be of no use.
#[tokio::test]
async fn a_drain_that_cannot_work_as_it_is_configured_is_announced() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    let drain = world.https(&receiver).await?;
    world.change(drain, "kind = 'carrier_pigeon'").await?;
    let _worker = world.watching_worker()?;
    world.announced_until(drain, 1).await?;
    let (action, detail) = world.announced(drain).await?.remove(0);
    assert_eq!(action, "log_drain.failing");
    assert!(detail.contains("carrier_pigeon"), "{detail}");
    world.change(drain, "kind = 'https_post'").await?;
    let mut session = world.session();
    world.append(&[session.numbered(0..1)]).await?;
    world.announced_until(drain, 2).await?;
    assert_eq!(world.announced(drain).await?[1].0, "log_drain.recovered");
    Ok(())
}
