//! Of several intakes one follows the containers, and one container that is over is not all of them.

use model::Id;
use rustix::process::Signal;
use store::Store;
use store::container_logs::Advance;
use uuid::Uuid;

use super::*;

const COUNT: usize = 50_000;
/// Some 20 s of numbers.
const NUMBERS: &str = "for i in $(seq 0 99); do seq $((i*500+1)) $((i*500+500)); sleep 0.1; done";

/// An intake is taken over from by another, which then ends by this signal: the first follows on.
async fn taken_over_and_back(signal: Signal) -> Result<()> {
    let world = World::new().await?;
    let containers = Containers::new(&world).await?;
    let mut earlier = world.follows(&containers)?;
    containers.run(&[], NUMBERS).await?;
    world.lines_until(1000).await?;
    let mut later = world.follows(&containers)?;
    let says = async |what: &str| {
        wait::until_true(what, DEADLINE, async || Ok(earlier.log().contains(what))).await
    };
    says("another intake has taken over").await?;
    let taken = world.lines().await?.len();
    world.lines_until(taken + 1000).await?;
    later.stop(signal, DEADLINE).await?;
    if signal == Signal::KILL {
        // As it will be a minute later.
        let backdate = "update docker_followers set seen_at = now() - interval '1 min'";
        assert_eq!(world.admin.execute(backdate, &[]).await?, 1);
    }
    says("the other intake is gone").await?;
    assert_counted(&world.ends(1).await?, COUNT);
    earlier.check_running()
}

#[tokio::test(flavor = "multi_thread")]
async fn intake_that_lost_the_containers_follows_them_when_the_other_is_killed() -> Result<()> {
    taken_over_and_back(Signal::KILL).await
}

#[tokio::test(flavor = "multi_thread")]
async fn intake_that_lost_the_containers_follows_them_when_the_other_stops() -> Result<()> {
    taken_over_and_back(Signal::TERM).await
}

/// Waits until what the intake has appended is written down as being there.
async fn settled(world: &World, containers: i64) -> Result<()> {
    let count =
        "select count(*) from container_logs where pending_block is null and position ? 'stdout'";
    wait::until_true("settled containers", DEADLINE, async || {
        Ok(world.admin.query_one(count, &[]).await?.get::<_, i64>(0) == containers)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn container_that_is_forgotten_ends_alone() -> Result<()> {
    let world = World::new().await?;
    let containers = Containers::new(&world).await?;
    let intake = world.follows(&containers)?;
    let forgotten = containers.run(&[], "echo 1; exec sleep 1000").await?;
    let script = "echo 1; while ! test -e more; do sleep 0.1; done; echo 2";
    let other = containers.run(&[], script).await?;
    world.lines_until(2).await?;
    settled(&world, 2).await?;
    let delete = "delete from container_logs where container_id = $1";
    assert_eq!(world.admin.execute(delete, &[&forgotten]).await?, 1);
    containers.docker(&["rm", "--force", &forgotten]).await?;
    let said = "the container is forgotten";
    wait::until_true("the word of it", DEADLINE, async || Ok(intake.log().contains(said))).await?;
    containers.docker(&["exec", &other, "touch", "more"]).await?;
    containers.run(&[], "echo 3").await?;
    let mut texts = texts(&world.ends(2).await?);
    texts.sort();
    assert_eq!(texts, ["1", "1", "2", "3"]);
    assert!(!intake.log().contains("another intake"), "{}", intake.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_appends_a_block_is_fenced_off_though_another_has_claimed_since() -> Result<()> {
    let world = World::new().await?;
    let containers = Containers::new(&world).await?;
    let mut intake = world.follows(&containers)?;
    let id =
        containers.run(&[], "echo 1; while ! test -e more; do sleep 0.1; done; seq 2 9").await?;
    settled(&world, 1).await?;
    intake.stop(Signal::KILL, DEADLINE).await?;
    // One hangs while it appends; the next ends before it could fence that one off.
    let (hangs, ends) = (Uuid::now_v7(), Uuid::now_v7());
    let update = "update container_logs set pending_block = $1, pending = position,
        pending_appender = $2, appender_id = $3";
    world.admin.execute(update, &[&Uuid::now_v7(), &hangs, &ends]).await?;
    let _intake = world.follows(&containers)?;
    containers.docker(&["exec", &id, "touch", "more"]).await?;
    assert_counted(&world.ends(1).await?, 9);
    let fenced = world.admin.query("select appender_id from stream.fences", &[]).await?;
    let fenced: Vec<Uuid> = fenced.iter().map(|row| row.get(0)).collect();
    assert_eq!(fenced, [hangs]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_follower_of_a_daemon_claims_and_forgets_its_containers() -> Result<()> {
    let world = World::new().await?;
    let store = Store::connect(&world.database.intake_url()?, 2)?;
    let (daemon, start, position) = ("daemon", serde_json::json!({}), serde_json::json!({"a": 1}));
    let (environment, hour) = (world.environment.id, Duration::from_hours(1));
    let [first, second] = [Id::generate(), Id::generate()];
    let claim = async |container, appender| {
        let (store, start, producer) = (&store, &start, Id::generate());
        store.claim_container_log(container, daemon, environment, appender, producer, start).await
    };
    assert_eq!(claim("one", first).await?, None);
    assert!(store.hold_docker_daemon(daemon, first, hour).await?);
    assert!(claim("one", first).await?.context("a claim")?.pending.is_none());
    assert!(claim("two", first).await?.is_some());
    let block = Uuid::now_v7();
    let advance = async |appender, pending| {
        store.advance_container_log("one", appender, &position, pending).await
    };
    assert_eq!(advance(first, Some((block, &position))).await?, Advance::Done);

    assert!(!store.hold_docker_daemon(daemon, second, hour).await?);
    assert_eq!(claim("one", second).await?, None);
    assert!(store.hold_docker_daemon(daemon, second, Duration::ZERO).await?);
    assert!(!store.hold_docker_daemon(daemon, first, hour).await?);
    assert_eq!(claim("one", first).await?, None);
    for _ in 0..2 {
        let pending = claim("one", second).await?.context("a claim")?.pending;
        let pending = pending.context("a block")?;
        assert_eq!((pending.id, pending.appender), (block, first));
    }
    assert_eq!(advance(first, None).await?, Advance::Claimed);

    let forget = async |appender| {
        let kept = ["one".to_owned()];
        store.forget_container_logs(daemon, appender, &kept, Duration::ZERO).await
    };
    assert_eq!(forget(first).await?, 0);
    assert_eq!(forget(second).await?, 1);
    assert_eq!(advance(second, None).await?, Advance::Done);
    world.admin.execute("delete from container_logs", &[]).await?;
    assert_eq!(advance(second, None).await?, Advance::Forgotten);
    Ok(())
}
