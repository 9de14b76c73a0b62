//! Whatever dies, nothing shown is missing in the stream and nothing is left behind.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::docker::containers;
use e2e::postgres::{TestCluster, TestDatabase};
use e2e::process::Process;
use e2e::wait;
use model::{EphemeralSession, Event, Id, OutputStream};
use rustix::process::Signal;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStdout};

use crate::fixture::{DEADLINE, Fixture, WEB, output, story};

pub(crate) const COUNT: &str = "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.05; done";

pub(crate) fn start(fixture: &Fixture, command: &str) -> Result<(Child, ChildStdout)> {
    let mut ssh = fixture.ssh.ssh(WEB, &[]);
    ssh.arg(command).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = ssh.kill_on_drop(true).spawn()?;
    let stdout = child.stdout.take().context("no stdout")?;
    Ok((child, stdout))
}

pub(crate) async fn read_some(
    stdout: &mut ChildStdout,
    shown: &mut Vec<u8>,
    more: usize,
) -> Result<()> {
    let wanted = shown.len() + more;
    while shown.len() < wanted {
        let read = tokio::time::timeout(DEADLINE, stdout.read_buf(shown)).await??;
        anyhow::ensure!(read > 0, "the output ended");
    }
    Ok(())
}

pub(crate) async fn no_container(session: Id<EphemeralSession>) -> Result<()> {
    let label = format!("dev.spillway.session={session}");
    wait::until_true("the container is gone", DEADLINE, async || {
        Ok(containers(&label).await?.is_empty())
    })
    .await
}

#[tokio::test]
async fn killed_edge_leaves_no_container_and_its_session_is_closed_as_aborted() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    let (mut child, mut stdout) = start(&fixture, COUNT)?;
    let mut shown = Vec::new();
    read_some(&mut stdout, &mut shown, 50).await?;
    let session = fixture.sessions().await?[0];
    fixture.edge.stop(Signal::KILL, DEADLINE).await?;
    stdout.read_to_end(&mut shown).await?;
    child.wait().await?;
    // No edge lives now: the guest has ended by itself.
    no_container(session).await?;

    fixture.start_again().await?;
    let (state, reason) = fixture.closed(session).await?;
    assert_eq!((state.as_str(), reason.as_str()), ("aborted", "the SSH edge died"));
    let records = fixture.records(session).await?;
    let recorded = output(&records, OutputStream::Stdout);
    assert!(recorded.starts_with(&shown), "what was shown is recorded");
    let Some(Event::SessionEnded { aborted: true, output_bytes, .. }) =
        records.last().map(|record| &record.event)
    else {
        panic!("{:?}", records.last());
    };
    assert_eq!(*output_bytes, u64::try_from(recorded.len())?);
    assert_eq!(fixture.run(&[], "echo again").await?.text(), "again\n");
    Ok(())
}

/// As Docker leaves one behind that is killed while it removes it.
#[tokio::test]
async fn container_without_its_name_is_removed_all_the_same() -> Result<()> {
    let fixture = Fixture::start().await?;
    let edge: uuid::Uuid = fixture.client.query_one("select id from edges", &[]).await?.get(0);
    let session = Id::<EphemeralSession>::generate();
    let labels = [format!("dev.spillway.edge={edge}"), format!("dev.spillway.session={session}")];
    let image = e2e::docker::TestImage::Busybox.ensure().await?;
    let create = ["create", "--label", &labels[0], "--label", &labels[1], &image];
    e2e::process::succeed(e2e::docker::docker(&create), DEADLINE).await?;
    no_container(session).await
}

#[tokio::test]
async fn stopped_edge_ends_its_sessions_in_order() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    let (child, mut stdout) = start(&fixture, COUNT)?;
    let mut shown = Vec::new();
    read_some(&mut stdout, &mut shown, 50).await?;
    let session = fixture.sessions().await?[0];
    let status = fixture.edge.stop(Signal::TERM, DEADLINE).await?;
    assert!(status.success(), "{}", fixture.edge.log());
    assert_eq!(child.wait_with_output().await?.status.code(), Some(255));
    no_container(session).await?;
    let (state, reason) = fixture.closed(session).await?;
    assert_eq!((state.as_str(), reason.as_str()), ("aborted", "the SSH edge is stopping"));
    fixture.records(session).await?;
    Ok(())
}

#[tokio::test]
async fn client_that_goes_away_ends_its_session() -> Result<()> {
    let fixture = Fixture::start().await?;
    let (mut child, mut stdout) = start(&fixture, COUNT)?;
    read_some(&mut stdout, &mut Vec::new(), 20).await?;
    let session = fixture.sessions().await?[0];
    child.kill().await?;
    assert_eq!(
        fixture.closed(session).await?,
        ("ended".to_owned(), "the client disconnected".to_owned())
    );
    no_container(session).await?;
    fixture.records(session).await?;
    Ok(())
}

#[tokio::test]
async fn container_that_dies_ends_its_session_as_aborted() -> Result<()> {
    let fixture = Fixture::start().await?;
    let (child, mut stdout) = start(&fixture, COUNT)?;
    read_some(&mut stdout, &mut Vec::new(), 20).await?;
    let session = fixture.sessions().await?[0];
    e2e::docker::remove_containers(&format!("dev.spillway.session={session}")).await?;
    assert_eq!(child.wait_with_output().await?.status.code(), Some(255));
    assert_eq!(fixture.closed(session).await?.0, "aborted");
    fixture.records(session).await?;
    Ok(())
}

#[tokio::test]
async fn idle_session_is_ended_with_a_sentence() -> Result<()> {
    let fixture = Fixture::start().await?;
    let limit = "update environments set idle_limit_seconds = 10";
    fixture.client.execute(limit, &[]).await?;
    let finished = fixture.run(&[], "echo begun; sleep 100").await?;
    assert_eq!(finished.text(), "begun\n");
    assert!(finished.error_text().contains("idle for 10 seconds"), "{}", finished.error_text());
    assert_eq!(finished.status.code(), Some(255));
    let session = fixture.sessions().await?[0];
    let records = fixture.records(session).await?;
    assert_eq!(output(&records, OutputStream::Stderr), finished.stderr);
    no_container(session).await
}

#[tokio::test]
async fn output_pauses_while_postgresql_is_down_and_then_goes_on() -> Result<()> {
    let database = TestDatabase::of_own_cluster(TestCluster::start().await?).await?;
    let mut fixture = Fixture::start_in(database, &[]).await?;
    let (mut child, mut stdout) =
        start(&fixture, "for i in $(seq 200); do echo line $i; sleep 0.05; done")?;
    let mut shown = Vec::new();
    read_some(&mut stdout, &mut shown, 200).await?;
    let session = fixture.sessions().await?[0];

    fixture.database.cluster().context("no cluster")?.stop().await?;
    // What was durable before the stop may still be on its way.
    while let Ok(read) =
        tokio::time::timeout(Duration::from_secs(2), stdout.read_buf(&mut shown)).await
    {
        anyhow::ensure!(read? > 0, "the session ended");
    }
    let mut more = Vec::new();
    let silence = tokio::time::timeout(Duration::from_secs(8), stdout.read_buf(&mut more)).await;
    assert!(silence.is_err(), "shown without a record: {more:?}");
    let refused = fixture.run(&[], "true").await?;
    assert_ne!(refused.status.code(), Some(0));
    assert!(child.try_wait()?.is_none());

    fixture.database.cluster().context("no cluster")?.start_again().await?;
    tokio::time::timeout(DEADLINE, stdout.read_to_end(&mut shown)).await??;
    assert!(child.wait().await?.success());
    let lines: Vec<String> = (1..=200).map(|number| format!("line {number}\n")).collect();
    let expected = lines.concat();
    assert_eq!(String::from_utf8(shown)?, expected);
    fixture.client = fixture.database.connect().await?;
    assert_eq!(fixture.closed(session).await?.0, "ended");
    let records = fixture.records(session).await?;
    assert_eq!(output(&records, OutputStream::Stdout), expected.as_bytes());
    Ok(())
}

#[tokio::test]
async fn session_that_another_edge_has_closed_ends_here() -> Result<()> {
    let fixture = Fixture::start().await?;
    let (child, mut stdout) = start(&fixture, COUNT)?;
    read_some(&mut stdout, &mut Vec::new(), 20).await?;
    let session = fixture.sessions().await?[0];
    let other = uuid::Uuid::now_v7();
    let register = "insert into edges (id, name, address) values ($1, 'other', 'elsewhere')";
    fixture.client.execute(register, &[&other]).await?;
    let take = "update ephemeral_sessions set edge_id = $1, state = 'aborted' where id = $2";
    fixture.client.execute(take, &[&other, &session.uuid()]).await?;
    assert_eq!(child.wait_with_output().await?.status.code(), Some(255));
    no_container(session).await
}

#[tokio::test]
async fn dead_edges_session_is_closed_once_by_another_edge() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    let (_child, mut stdout) = start(&fixture, COUNT)?;
    read_some(&mut stdout, &mut Vec::new(), 20).await?;
    let session = fixture.sessions().await?[0];
    fixture.edge.stop(Signal::KILL, DEADLINE).await?;
    // The next edge has another identity, so it must wait until it may call the first one dead.
    std::fs::remove_file(fixture.folder.path().join("run/edge-id"))?;
    fixture.start_again().await?;
    let closed = wait::until("the session is closed", DEADLINE * 3, async || {
        let statement = "select state from ephemeral_sessions where id = $1";
        let state: String = fixture.client.query_one(statement, &[&session.uuid()]).await?.get(0);
        Ok((state != "active").then_some(state))
    })
    .await?;
    assert_eq!(closed, "aborted");
    fixture.records(session).await?;
    Ok(())
}

/// The edge died between taking the session and recording its beginning.
#[tokio::test]
async fn session_whose_beginning_was_never_recorded_gets_no_end() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    fixture.run(&[], "true").await?;
    let began = fixture.sessions().await?[0];
    fixture.edge.stop(Signal::KILL, DEADLINE).await?;
    let never: Id<EphemeralSession> = Id::generate();
    let insert = "insert into ephemeral_sessions (id, organization_id, environment_id, app_id,
             user_id, state, edge_id, appender_id, started_at)
         select $1, organization_id, environment_id, app_id, user_id, 'active', edge_id,
             appender_id, now()
         from ephemeral_sessions where id = $2";
    fixture.client.execute(insert, &[&never.uuid(), &began.uuid()]).await?;
    fixture.start_again().await?;
    let (state, reason) = fixture.closed(never).await?;
    assert_eq!((state.as_str(), reason.as_str()), ("refused", "the SSH edge died"));
    fixture.run(&[], "true").await?;
    let marker = *fixture.sessions().await?.last().context("no session")?;
    assert_eq!(fixture.records_until(never, marker).await?, []);
    Ok(())
}

/// Their rounds are in step, so both find the same sessions at the same time.
#[tokio::test]
async fn two_edges_that_find_a_dead_edges_sessions_close_each_once() -> Result<()> {
    const SESSIONS: usize = 4;
    let mut fixture = Fixture::start().await?;
    let mut children = Vec::new();
    for _ in 0..SESSIONS {
        let (child, mut stdout) = start(&fixture, COUNT)?;
        read_some(&mut stdout, &mut Vec::new(), 20).await?;
        children.push((child, stdout));
    }
    let sessions = fixture.sessions().await?;
    let (one, other) = tokio::join!(fixture.start_beside("one"), fixture.start_beside("other"));
    let (one, other) = (one?, other?);
    fixture.edge.stop(Signal::KILL, DEADLINE).await?;
    let closings = |edge: &Process| edge.log().matches("closed a dead session").count();
    wait::until_true("every session is closed", DEADLINE * 2, async || {
        Ok(closings(&one) + closings(&other) >= SESSIONS)
    })
    .await?;
    fixture.start_again().await?;
    fixture.run(&[], "true").await?;
    let marker = *fixture.sessions().await?.last().context("no session")?;
    assert_eq!(fixture.closed(marker).await?.0, "ended");
    for session in &sessions {
        assert_eq!(fixture.closed(*session).await?.0, "aborted");
        let records = fixture.records_until(*session, marker).await?;
        let ends = story(&records).iter().filter(|&&event| event == "session_ended").count();
        assert_eq!(ends, 1);
    }
    println!("{} and {} closings", closings(&one), closings(&other));
    assert_eq!(closings(&one) + closings(&other), SESSIONS);
    Ok(())
}
