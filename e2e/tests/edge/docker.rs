//! The Docker daemon goes away under running sessions, and comes back.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::docker::daemon::{IMAGE, TestDocker};
use e2e::wait;
use model::{EphemeralSession, Event, Id, OutputStream, Record};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::process::Child;
use tokio::time::{Instant, timeout};

use crate::faults::{COUNT, read_some, start};
use crate::fixture::{DEADLINE, Fixture, output};

const GONE: &str = "the session's container is gone (it closed its connection)";
const AWAY: &str = "spillway: containers cannot be started at the moment: \
    the container runtime does not answer\n";
/// In which nothing may be left.
const MINUTE: Duration = Duration::from_mins(1);

/// Fields go in this order: the edge before its daemon.
struct World {
    fixture: Fixture,
    docker: TestDocker,
    _folder: TempDir,
}

impl World {
    async fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("docker-").tempdir()?;
        let docker = TestDocker::start(&folder.path().join("docker")).await?;
        ensure!(docker.is_own(), "only root can start a Docker daemon");
        let fixture = Fixture::start_with(&["--ssh-docker-host", docker.host()]).await?;
        fixture.client.execute("update apps set image = $1", &[&IMAGE]).await?;
        Ok(Self { fixture, docker, _folder: folder })
    }

    async fn no_container(&self) -> Result<()> {
        let environment = self.fixture.environment.to_string();
        wait::until_true("the containers are gone", MINUTE, async || {
            Ok(self.docker.containers(&environment).await?.is_empty())
        })
        .await
    }

    async fn refused(&self) -> Result<()> {
        let began = Instant::now();
        let refused = self.fixture.run(&[], "true").await?;
        assert_eq!(refused.error_text(), AWAY);
        assert_eq!(refused.status.code(), Some(1));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        Ok(())
    }

    /// Waits until the edge has looked for left containers in vain.
    async fn reaper_has_failed(&self) -> Result<()> {
        wait::until_true("the reaper", MINUTE, async || {
            Ok(self.fixture.edge.log().contains("containers of dead sessions cannot be looked for"))
        })
        .await
    }

    /// The session was aborted because of its container, and that is all that its client and its
    /// record say.
    async fn aborted(
        &self,
        session: Id<EphemeralSession>,
        child: Child,
        shown: &[u8],
    ) -> Result<()> {
        let told = timeout(DEADLINE, child.wait_with_output()).await??;
        assert_eq!(told.status.code(), Some(255));
        assert_eq!(String::from_utf8(told.stderr)?, format!("spillway: {GONE}\n"));
        assert_eq!(self.fixture.closed(session).await?, ("aborted".to_owned(), GONE.to_owned()));
        let records = self.fixture.records(session).await?;
        assert_eq!(output(&records, OutputStream::Stdout), shown);
        let ended = |record: &Record| matches!(&record.event, Event::SessionEnded { aborted: true, reason, .. } if reason == GONE);
        assert!(records.last().is_some_and(ended), "{:?}", records.last());
        Ok(())
    }
}

/// As `systemctl restart docker` does: the daemon ends the containers.
#[tokio::test]
async fn docker_that_is_stopped_aborts_sessions_and_new_ones_wait_for_its_return() -> Result<()> {
    let mut world = World::start().await?;
    let (child, mut stdout) = start(&world.fixture, COUNT)?;
    let mut shown = Vec::new();
    read_some(&mut stdout, &mut shown, 50).await?;
    let session = world.fixture.sessions().await?[0];
    world.docker.stop(Signal::TERM).await?;
    timeout(DEADLINE, stdout.read_to_end(&mut shown)).await??;
    world.aborted(session, child, &shown).await?;
    world.refused().await?;
    world.reaper_has_failed().await?;
    world.refused().await?;

    world.docker.start_again().await?;
    world.no_container().await?;
    assert_eq!(world.fixture.run(&[], "echo anew").await?.text(), "anew\n");
    world.no_container().await
}

/// The containers live on without their daemon, until it returns.
#[tokio::test]
async fn sessions_go_on_while_docker_is_dead_and_leave_nothing_when_it_returns() -> Result<()> {
    let mut world = World::start().await?;
    let (child, mut stdout) = start(&world.fixture, COUNT)?;
    let mut shown = Vec::new();
    read_some(&mut stdout, &mut shown, 50).await?;
    let (ending, mut short) = start(&world.fixture, "echo begun; sleep 4; echo over; exit 3")?;
    read_some(&mut short, &mut Vec::new(), 6).await?;
    let sessions = world.fixture.sessions().await?;
    world.docker.stop(Signal::KILL).await?;
    world.refused().await?;
    let mut rest = Vec::new();
    timeout(DEADLINE, short.read_to_end(&mut rest)).await??;
    assert_eq!(
        (rest.as_slice(), ending.wait_with_output().await?.status.code()),
        (&b"over\n"[..], Some(3))
    );
    let ended = *sessions.last().context("no session")?;
    assert_eq!(world.fixture.closed(ended).await?.0, "ended");
    world.reaper_has_failed().await?;
    let line = world.fixture.client.query_one("select count(*) from stream.blocks", &[]).await?;
    let before: i64 = line.get(0);
    wait::until_true("more of the session", DEADLINE, async || {
        let now = world.fixture.client.query_one("select count(*) from stream.blocks", &[]).await?;
        Ok(now.get::<_, i64>(0) > before + 10)
    })
    .await?;

    world.docker.start_again().await?;
    timeout(DEADLINE, stdout.read_to_end(&mut shown)).await??;
    world.aborted(sessions[0], child, &shown).await?;
    world.no_container().await?;
    assert_eq!(world.fixture.run(&[], "echo anew").await?.text(), "anew\n");
    world.no_container().await
}
