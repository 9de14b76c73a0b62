//! The logs of containers: the built intake over a real Docker daemon.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use e2e::docker::{TestImage, docker};
use e2e::process::{self, Process};
use e2e::wait;
use model::{ContainerAction, Event, OutputStream, Record, Source as RecordSource};
use tokio::process::Command;

use crate::{DEADLINE, World, text};

mod crashes;
mod daemon;
mod labels;
mod lines;
mod turns;

const SOCKET: &str = "unix:///var/run/docker.sock";

/// Containers of a world's environment, which go with it.
struct Containers {
    host: String,
    environment: String,
    image: String,
}

impl Containers {
    async fn new(world: &World) -> Result<Self> {
        let image = TestImage::Busybox.ensure().await?;
        Ok(Self { host: SOCKET.to_owned(), environment: world.environment.id.to_string(), image })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        docker(&[&["--host", &self.host], arguments].concat())
    }

    async fn docker(&self, arguments: &[&str]) -> Result<String> {
        let done = process::succeed(self.command(arguments), DEADLINE).await?;
        Ok(done.text().trim().to_owned())
    }

    /// Starts one of the app `web`: these flags, this script.
    async fn run(&self, flags: &[&str], script: &str) -> Result<String> {
        self.run_of(&["--label", "spillway.app=web"], flags, script).await
    }

    async fn run_of(&self, label: &[&str], flags: &[&str], script: &str) -> Result<String> {
        let environment = format!("spillway.environment={}", self.environment);
        let start = ["run", "--detach", "--network", "none", "--label", &environment];
        let program = [self.image.as_str(), "sh", "-c", script];
        self.docker(&[&start[..], label, flags, &program].concat()).await
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        let run = |arguments: &[&str]| {
            let mut command = std::process::Command::new("docker");
            command.args(["--host", &self.host]).args(arguments).output()
        };
        let filter = format!("label=spillway.environment={}", self.environment);
        let Ok(list) = run(&["ps", "--all", "--quiet", "--filter", &filter]) else { return };
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        let ids: Vec<&str> = list.split_whitespace().collect();
        if !ids.is_empty() {
            drop(run(&[&["rm", "--force", "--volumes"], &ids[..]].concat()));
        }
    }
}

impl World {
    fn follows(&self, containers: &Containers) -> Result<Process> {
        self.intake(&["--intake-docker-host", &containers.host])
    }

    /// Waits until that many containers' ends are recorded; gives all records.
    async fn ends(&self, count: usize) -> Result<Vec<Record>> {
        let found = wait::until("ends of containers", 2 * DEADLINE, async || {
            let records = self.records().await?;
            let ends = actions(&records).into_iter();
            let ends = ends.filter(|action| matches!(action, ContainerAction::Exited { .. }));
            Ok((ends.count() >= count).then_some(records))
        });
        found.await.with_context(|| {
            format!("the intake said:\n{}", std::fs::read_to_string(self.log()).unwrap_or_default())
        })
    }
}

fn actions(records: &[Record]) -> Vec<ContainerAction> {
    let actions = records.iter().filter_map(|record| match &record.event {
        Event::Container(event) => Some(event.action.clone()),
        _ => None,
    });
    actions.collect()
}

fn texts(records: &[Record]) -> Vec<String> {
    let lines = records.iter().filter_map(|record| match &record.event {
        Event::Line(line) => Some(text(line)),
        _ => None,
    });
    lines.collect()
}

/// The records of each producer are numbered from 0 without a gap, in the order of the stream.
fn assert_numbered(records: &[Record]) {
    let mut next = std::collections::HashMap::new();
    for record in records {
        let next = next.entry(record.origin.producer).or_insert(0);
        assert_eq!(record.seq, *next, "{record:?}");
        *next += 1;
    }
}

/// The lines are the numbers from 1 on, each once.
fn assert_counted(records: &[Record], count: usize) {
    let texts = texts(records);
    for (place, text) in texts.iter().enumerate() {
        assert_eq!(*text, (place + 1).to_string(), "of {} lines", texts.len());
    }
    assert_eq!(texts.len(), count);
    assert_numbered(records);
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_and_life_of_a_container_are_recorded() -> Result<()> {
    let world = World::new().await?;
    let containers = Containers::new(&world).await?;
    let _intake = world.follows(&containers)?;
    let script = "echo one; sleep 0.1; echo two >&2; sleep 0.1; printf three; exit 3";
    let id = containers.run(&["--name", &format!("web-{}", world.app)], script).await?;
    let records = world.ends(1).await?;
    assert_eq!(texts(&records), ["one", "two", "three"]);
    assert_eq!(actions(&records), [ContainerAction::Started, ContainerAction::Exited { code: 3 }]);
    assert_numbered(&records);
    assert!(matches!(records[0].event, Event::Container(_)), "{records:?}");
    assert!(matches!(records[4].event, Event::Container(_)), "{records:?}");
    let mut last = None;
    for record in &records {
        assert_eq!(record.origin.source, RecordSource::App);
        assert_eq!(record.origin.app.as_ref().map(|app| app.id.uuid()), Some(world.app));
        match &record.event {
            Event::Line(line) => {
                let stderr = text(line) == "two";
                let output = if stderr { OutputStream::Stderr } else { OutputStream::Stdout };
                assert_eq!(line.stream, Some(output));
                assert!(line.sent_at > last && line.sent_at <= Some(record.at), "{line:?}");
                last = line.sent_at;
                let fields: Vec<_> = line.fields.iter().collect();
                let name = format!("web-{}", world.app);
                let expected = [
                    ("container_id", id.get(..12).context("a long id")?),
                    ("container_name", &name),
                    ("image", &containers.image),
                ];
                assert_eq!(fields, expected);
            }
            Event::Container(event) => assert_eq!(event.id, id),
            other => panic!("{other:?}"),
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_run_of_a_container_is_recorded() -> Result<()> {
    let world = World::new().await?;
    let containers = Containers::new(&world).await?;
    let intake = world.follows(&containers)?;
    let id = containers.run(&[], "printf begin; sleep 0.2; exit 4").await?;
    world.ends(1).await?;
    containers.docker(&["start", &id]).await?;
    world.ends(2).await?;
    // While nobody looks: what Docker remembers of it is recorded later.
    drop(intake);
    containers.docker(&["start", &id]).await?;
    containers.docker(&["wait", &id]).await?;
    containers.docker(&["start", &id]).await?;
    containers.docker(&["wait", &id]).await?;
    let _intake = world.follows(&containers)?;
    let records = world.ends(4).await?;
    assert_eq!(texts(&records), ["begin"; 4]);
    let run = [ContainerAction::Started, ContainerAction::Exited { code: 4 }];
    assert_eq!(actions(&records), [run.clone(), run.clone(), run.clone(), run].concat());
    assert_numbered(&records);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn last_words_of_a_container_that_removes_itself_are_recorded() -> Result<()> {
    let world = World::new().await?;
    let containers = Containers::new(&world).await?;
    let _intake = world.follows(&containers)?;
    // With a line end: without one, Docker may not tell of them before it removes the log.
    containers.run(&["--rm"], "sleep 1; seq 1000; exit 5").await?;
    let records = world.ends(1).await?;
    assert_counted(&records, 1000);
    let expected = [ContainerAction::Started, ContainerAction::Exited { code: 5 }];
    assert_eq!(actions(&records), expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lack_of_memory_is_recorded_before_the_end() -> Result<()> {
    let exited = ContainerAction::Exited { code: 137 };
    // Docker hears of it from the kernel apart from the end, now and then only after that.
    for _ in 0..5 {
        let world = World::new().await?;
        let containers = Containers::new(&world).await?;
        let _intake = world.follows(&containers)?;
        let memory = ["--memory", "8m", "--memory-swap", "8m"];
        containers.run(&memory, "echo hungry; exec tail /dev/zero").await?;
        let records = world.ends(1).await?;
        assert_eq!(texts(&records), ["hungry"]);
        if actions(&records) != [ContainerAction::Started, exited.clone()] {
            let lack = ContainerAction::OutOfMemory;
            assert_eq!(actions(&records), [ContainerAction::Started, lack, exited]);
            return Ok(());
        }
    }
    bail!("Docker told of no lack of memory in time")
}
