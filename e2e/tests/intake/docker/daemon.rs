//! The daemon stops, is killed, and comes back.

use e2e::docker::daemon::{IMAGE, TestDocker};
use rustix::process::Signal;
use tokio::time::sleep;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn each_line_is_recorded_once_though_the_daemon_is_restarted() -> Result<()> {
    let world = World::new().await?;
    let mut daemon = TestDocker::start(&world.folder.path().join("docker")).await?;
    if !daemon.is_own() {
        return Ok(());
    }
    let environment = world.environment.id.to_string();
    let image = IMAGE.to_owned();
    let containers = Containers { host: daemon.host().to_owned(), environment, image };
    let intake = world.follows(&containers)?;
    let numbers = "n=$(cat n || echo 0); while [ $n -lt 2000 ]; do n=$((n+1)); echo $n; echo $n >n; sleep 0.002; done";
    let id = containers.run(&["--restart", "on-failure"], numbers).await?;
    world.lines_until(100).await?;
    let mut count = 100;
    for _ in 0..2 {
        // In order: it ends its containers, and starts this one again.
        daemon.stop(Signal::TERM).await?;
        sleep(Duration::from_millis(300)).await;
        daemon.start_again().await?;
        containers.docker(&["start", &id]).await?;
        count += 100;
        world.lines_until(count).await?;
    }
    let found = wait::until("the last line", 2 * DEADLINE, async || {
        let records = world.records().await?;
        Ok(texts(&records).iter().any(|text| text == "2000").then_some(records))
    });
    let records = found.await.with_context(|| intake.log())?;
    let mut numbers: Vec<u32> =
        texts(&records).iter().filter_map(|text| text.parse().ok()).collect();
    // The container may be killed between a number's two writes.
    numbers.dedup();
    assert_eq!(numbers, (1..=2000).collect::<Vec<_>>());
    assert_numbered(&records);
    let said = intake.log().matches("not followed at present").count();
    assert_eq!(said, 2, "{}", intake.log());
    Ok(())
}
