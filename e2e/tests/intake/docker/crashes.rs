//! Nothing is lost and nothing repeated, whatever is killed.

use e2e::postgres::{TestCluster, TestDatabase};
use rustix::process::Signal;
use tokio::time::sleep;

use super::*;

const COUNT: usize = 50_000;
/// Some 20 s of numbers on standard output, with pauses that let lines have times of their own.
const NUMBERS: &str = "for i in $(seq 0 99); do seq $((i*500+1)) $((i*500+500)); sleep 0.1; done";

#[tokio::test(flavor = "multi_thread")]
async fn each_line_is_recorded_once_though_the_intake_is_killed() -> Result<()> {
    let world = World::new().await?;
    let containers = Containers::new(&world).await?;
    let id = containers.run(&[], NUMBERS).await?;
    let mut kills = 0;
    let records = loop {
        let mut intake = world.follows(&containers)?;
        // Less and more than it takes to begin.
        sleep(Duration::from_millis(300 + 170 * (kills % 9))).await;
        intake.stop(Signal::KILL, DEADLINE).await?;
        kills += 1;
        let inspect = ["inspect", "--format", "{{.State.Running}}", &id];
        if containers.docker(&inspect).await? == "false" {
            let _intake = world.follows(&containers)?;
            break world.ends(1).await?;
        }
    };
    assert!(kills > 5, "{kills}");
    assert_counted(&records, COUNT);
    let expected = [ContainerAction::Started, ContainerAction::Exited { code: 0 }];
    assert_eq!(actions(&records), expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_is_recorded_once_though_the_database_is_away() -> Result<()> {
    let cluster = TestCluster::start().await?;
    let mut world = World::over(TestDatabase::of_own_cluster(cluster).await?).await?;
    let containers = Containers::new(&world).await?;
    let mut intake = world.follows(&containers)?;
    containers.run(&[], NUMBERS).await?;
    for round in 0..3 {
        sleep(Duration::from_secs(2)).await;
        let cluster = world.database.cluster().context("a cluster")?;
        if round == 1 {
            cluster.crash().await?;
        } else {
            cluster.stop().await?;
        }
        sleep(Duration::from_secs(3)).await;
        cluster.start_again().await?;
    }
    world.admin = world.database.connect().await?;
    let records = world.ends(1).await?;
    intake.check_running()?;
    assert_counted(&records, COUNT);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn later_intake_takes_over_and_the_earlier_one_stops() -> Result<()> {
    let world = World::new().await?;
    let containers = Containers::new(&world).await?;
    let earlier = world.follows(&containers)?;
    containers.run(&[], NUMBERS).await?;
    world.lines_until(1000).await?;
    let _later = world.follows(&containers)?;
    let said = "another intake has taken over";
    wait::until_true("the word of it", DEADLINE, async || Ok(earlier.log().contains(said))).await?;
    assert_counted(&world.ends(1).await?, COUNT);
    Ok(())
}
