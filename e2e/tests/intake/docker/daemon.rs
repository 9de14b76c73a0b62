//! The daemon stops and comes back, with its containers or without.

use e2e::docker::daemon::{IMAGE, TestDocker};
use rustix::process::Signal;
use tokio::time::sleep;

use super::*;

const COUNT: usize = 2000;
/// Numbers, also across starts of the container; one may be written twice when it is killed.
const NUMBERS: &str = "\
    n=$(cat n 2>/dev/null || echo 0); \
    while [ $n -lt 2000 ]; do \
        n=$((n+1)); echo $n; echo $n >n.new; mv n.new n; sleep 0.005; \
    done; \
    exec sleep 1000";

/// A world with a daemon of its own; None where only root could start one.
async fn own(
    flags: &'static [&'static str],
) -> Result<Option<(World, TestDocker, Containers, Process)>> {
    let world = World::new().await?;
    let daemon = TestDocker::start_with(&world.folder.path().join("docker"), flags).await?;
    if !daemon.is_own() {
        return Ok(None);
    }
    let environment = world.environment.id.to_string();
    let host = daemon.host().to_owned();
    let containers = Containers { host, environment, image: IMAGE.to_owned() };
    let intake = world.follows(&containers)?;
    Ok(Some((world, daemon, containers, intake)))
}

/// Stops the daemon and starts it again, twice while numbers come; gives all records.
async fn restarted(
    world: &World,
    daemon: &mut TestDocker,
    containers: &Containers,
    id: &str,
) -> Result<Vec<Record>> {
    for _ in 0..2 {
        world.lines_until(world.lines().await?.len() + 100).await?;
        daemon.stop(Signal::TERM).await?;
        sleep(Duration::from_millis(300)).await;
        daemon.start_again().await?;
        // It may run already.
        containers.docker(&["start", id]).await?;
    }
    let last = COUNT.to_string();
    let found = wait::until("the last line", 2 * DEADLINE, async || {
        let records = world.records().await?;
        Ok(texts(&records).contains(&last).then_some(records))
    });
    found.await.with_context(|| std::fs::read_to_string(world.log()).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_is_recorded_once_though_the_daemon_is_restarted() -> Result<()> {
    let Some((world, mut daemon, containers, intake)) = own(&[]).await? else { return Ok(()) };
    let id = containers.run(&["--stop-timeout", "1"], NUMBERS).await?;
    let records = restarted(&world, &mut daemon, &containers, &id).await?;
    let mut numbers: Vec<usize> =
        texts(&records).iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    numbers.dedup();
    assert_eq!(numbers, (1..=COUNT).collect::<Vec<_>>());
    assert_numbered(&records);
    let (start, exit) = (ContainerAction::Started, ContainerAction::Exited { code: 137 });
    let expected = [start.clone(), exit.clone(), start.clone(), exit, start];
    assert_eq!(actions(&records), expected);
    let said = intake.log().matches("not followed at present").count();
    assert_eq!(said, 2, "{}", intake.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn container_that_outlives_its_daemon_is_followed_on() -> Result<()> {
    let flags = &["--live-restore"];
    let Some((world, mut daemon, containers, _intake)) = own(flags).await? else { return Ok(()) };
    let id = containers.run(&[], NUMBERS).await?;
    let records = restarted(&world, &mut daemon, &containers, &id).await?;
    assert_counted(&records, COUNT);
    assert_eq!(actions(&records), [ContainerAction::Started]);
    Ok(())
}
