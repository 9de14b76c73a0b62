//! While records cannot be kept nothing is shown, nothing begins, and nothing lasts for ever; and
//! nothing of an edge that was taken for dead gets in afterwards.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::docker::docker;
use e2e::postgres::{TestCluster, TestDatabase};
use e2e::process::{self, Finished};
use e2e::tmpfs::Tmpfs;
use e2e::wait;
use model::{Event, OutputStream};
use rustix::process::Signal;
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, timeout};

use crate::faults::{COUNT, no_container, read_some, start};
use crate::fixture::{DEADLINE, Fixture, WEB, output, story};

const NO_CONTROL_DATA: &str = "the control data cannot be read at the moment: try again later";

async fn on_own_cluster(settings: &[&str]) -> Result<Fixture> {
    let database = TestDatabase::of_own_cluster(TestCluster::start().await?).await?;
    Fixture::start_in(database, settings).await
}

async fn timed(fixture: &Fixture) -> Result<(Finished, Duration)> {
    let began = Instant::now();
    Ok((fixture.run(&[], "true").await?, began.elapsed()))
}

/// Two sessions of one connection: one has output, and one has none.
#[tokio::test]
async fn session_that_is_paused_for_too_long_is_ended_and_recorded_when_it_can_be() -> Result<()> {
    let mut fixture = on_own_cluster(&["--ssh-record-pause-limit-seconds", "2"]).await?;
    let path = fixture.folder.path().join("control").display().to_string();
    let mut master = fixture.ssh.ssh(WEB, &["-M", "-N", "-S", &path]);
    let _master = master.stdin(Stdio::null()).kill_on_drop(true).spawn()?;
    wait::until_true("the shared connection", DEADLINE, async || {
        Ok(std::fs::exists(fixture.folder.path().join("control"))?)
    })
    .await?;
    let mut quiet = fixture.ssh.ssh(WEB, &["-S", &path]);
    quiet.arg("read line; echo $line").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut quiet = quiet.kill_on_drop(true).spawn()?;
    wait::until_true("the quiet session", DEADLINE, async || {
        Ok(fixture.edge.log().matches("session opened").count() == 1)
    })
    .await?;
    let mut busy = fixture.ssh.ssh(WEB, &["-S", &path]);
    busy.arg(COUNT).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut busy = busy.kill_on_drop(true).spawn()?;
    let mut stdout = busy.stdout.take().context("no stdout")?;
    let mut shown = Vec::new();
    read_some(&mut stdout, &mut shown, 50).await?;
    let session = *fixture.sessions().await?.last().context("no session")?;

    fixture.database.cluster().context("no cluster")?.crash().await?;
    let crashed = Instant::now();
    timeout(DEADLINE, stdout.read_to_end(&mut shown)).await??;
    let told = busy.wait_with_output().await?;
    let took = crashed.elapsed();
    assert_eq!(told.status.code(), Some(255));
    let reason = "records could not be kept for 2 seconds, which is the limit: \
        what is not recorded yet is not shown";
    assert_eq!(String::from_utf8(told.stderr)?, format!("spillway: {reason}\n"));
    assert!((Duration::from_secs(1)..Duration::from_secs(8)).contains(&took), "{took:?}");
    no_container(session).await?;
    assert!(quiet.try_wait()?.is_none(), "a session that waits for no record has ended");

    fixture.database.cluster().context("no cluster")?.start_again().await?;
    fixture.client = fixture.database.connect().await?;
    assert_eq!(fixture.closed(session).await?, ("aborted".to_owned(), reason.to_owned()));
    let records = fixture.records(session).await?;
    assert!(output(&records, OutputStream::Stdout).starts_with(&shown), "shown and not recorded");
    let last = records.last().map(|record| &record.event);
    let ended =
        matches!(last, Some(Event::SessionEnded { aborted: true, reason: r, .. }) if r == reason);
    assert!(ended, "{last:?}");
    let mut input = quiet.stdin.take().context("no stdin")?;
    tokio::io::AsyncWriteExt::write_all(&mut input, b"still here\n").await?;
    let quiet = timeout(DEADLINE, quiet.wait_with_output()).await??;
    assert_eq!(String::from_utf8(quiet.stdout)?, "still here\n");
    Ok(())
}

/// Its client has stopped reading before, with output on its way that is durable.
#[tokio::test]
async fn pause_ends_in_time_though_the_client_reads_nothing() -> Result<()> {
    let mut fixture = on_own_cluster(&["--ssh-record-pause-limit-seconds", "2"]).await?;
    // More than the client's window takes, and less than that and the session's own.
    let (child, mut stdout) =
        start(&fixture, "head -c 3000000 /dev/zero; while true; do echo more; sleep 0.05; done")?;
    let mut shown = Vec::new();
    read_some(&mut stdout, &mut shown, 1).await?;
    let session = fixture.sessions().await?[0];
    wait::until_true("the slow lines", DEADLINE, async || {
        let top = docker(&["top", &format!("spillway-{session}")]);
        Ok(process::succeed(top, DEADLINE).await?.text().contains("sleep 0.05"))
    })
    .await?;

    fixture.database.cluster().context("no cluster")?.crash().await?;
    no_container(session).await?;
    timeout(DEADLINE, stdout.read_to_end(&mut shown)).await??;
    assert_eq!(timeout(DEADLINE, child.wait_with_output()).await??.status.code(), Some(255));
    fixture.database.cluster().context("no cluster")?.start_again().await?;
    fixture.client = fixture.database.connect().await?;
    let (state, reason) = fixture.closed(session).await?;
    assert_eq!(state, "aborted");
    assert!(reason.starts_with("records could not be kept for 2 seconds"), "{reason}");
    let records = fixture.records(session).await?;
    assert!(output(&records, OutputStream::Stdout).starts_with(&shown), "shown and not recorded");
    Ok(())
}

#[tokio::test]
async fn sign_in_during_an_outage_says_so_within_five_seconds() -> Result<()> {
    let mut fixture = on_own_cluster(&[]).await?;
    assert_eq!(fixture.run(&[], "echo in").await?.text(), "in\n");
    let check = |(finished, took): (Finished, Duration)| {
        let sentence = finished.error_text();
        assert!(sentence.contains(NO_CONTROL_DATA), "{sentence}");
        assert!(!sentence.contains("Permission denied"), "{sentence}");
        assert_eq!(finished.status.code(), Some(255));
        assert!(took < Duration::from_secs(5), "{took:?}");
    };
    fixture.database.cluster().context("no cluster")?.freeze()?;
    check(timed(&fixture).await?);
    fixture.database.cluster().context("no cluster")?.unfreeze()?;
    assert_eq!(fixture.run(&[], "echo in").await?.text(), "in\n");
    fixture.database.cluster().context("no cluster")?.stop().await?;
    check(timed(&fixture).await?);
    fixture.database.cluster().context("no cluster")?.start_again().await?;
    let stranger = fixture.new_key("stranger").await?;
    let mut ssh = fixture.ssh_with(&stranger.private)?.ssh(WEB, &[]);
    ssh.arg("true");
    let refused = process::finish(ssh, DEADLINE).await?;
    assert!(refused.error_text().contains("Permission denied"), "{}", refused.error_text());
    assert_eq!(fixture.run(&[], "echo in").await?.text(), "in\n");
    Ok(())
}

#[tokio::test]
async fn output_pauses_while_the_disk_is_full_and_then_goes_on() -> Result<()> {
    let disk = Tmpfs::mount(160 << 20).await?;
    let cluster = TestCluster::start_in(disk.path(), &[]).await?;
    let database = TestDatabase::of_own_cluster(cluster).await?;
    let mut fixture = Fixture::start_in(database, &[]).await?;
    let script = "for i in $(seq 400); do echo line $i $(head -c 300 /dev/zero | tr '\\0' x); \
        usleep 20000; done";
    let (mut child, mut stdout) = start(&fixture, script)?;
    let mut shown = Vec::new();
    read_some(&mut stdout, &mut shown, 2_000).await?;
    let session = fixture.sessions().await?[0];

    disk.fill(0).await?;
    // What still fits is shown.
    while let Ok(read) = timeout(Duration::from_secs(2), stdout.read_buf(&mut shown)).await {
        anyhow::ensure!(read? > 0, "the session ended");
    }
    assert!(fixture.edge.log().contains("records are not durable yet"));
    let (refused, took) = timed(&fixture).await?;
    assert_ne!(refused.status.code(), Some(0));
    let sentence = refused.error_text();
    assert!(
        sentence.contains("at the moment") && sentence.contains("try again later"),
        "{sentence}"
    );
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(child.try_wait()?.is_none());

    disk.free().await?;
    let cluster = fixture.database.cluster().context("no cluster")?;
    wait::until_true("the server runs", DEADLINE, async || Ok(cluster.keep_running().await))
        .await?;
    timeout(DEADLINE, stdout.read_to_end(&mut shown)).await??;
    assert!(child.wait().await?.success());
    let expected: String = (1..=400).fold(String::new(), |lines, number| {
        lines + &format!("line {number} {}\n", "x".repeat(300))
    });
    assert!(shown == expected.as_bytes(), "{} bytes", shown.len());
    fixture.client = fixture.database.connect().await?;
    assert_eq!(fixture.closed(session).await?.0, "ended");
    let records = fixture.records(session).await?;
    assert!(output(&records, OutputStream::Stdout) == expected.as_bytes());
    Ok(())
}

/// The edge is alive and takes its sessions for its own when it wakes.
#[tokio::test]
async fn frozen_edge_that_wakes_adds_nothing_to_a_session_that_was_closed() -> Result<()> {
    let fixture = Fixture::start().await?;
    let (child, mut stdout) = start(&fixture, COUNT)?;
    let mut shown = Vec::new();
    read_some(&mut stdout, &mut shown, 20).await?;
    let session = fixture.sessions().await?[0];
    fixture.edge.signal(Signal::STOP)?;
    let other = fixture.start_beside("second").await?;
    let closed = wait::until("the other edge closes it", DEADLINE * 2, async || {
        let statement = "select state from ephemeral_sessions where id = $1";
        let state: String = fixture.client.query_one(statement, &[&session.uuid()]).await?.get(0);
        Ok((state != "active").then_some(state))
    })
    .await?;
    assert_eq!(closed, "aborted");
    no_container(session).await?;

    fixture.edge.signal(Signal::CONT)?;
    timeout(DEADLINE, stdout.read_to_end(&mut shown)).await??;
    assert_eq!(child.wait_with_output().await?.status.code(), Some(255));
    // It goes on under another name.
    wait::until_true("a new session", DEADLINE, async || {
        Ok(fixture.run(&[], "echo anew").await?.text() == "anew\n")
    })
    .await?;
    let last = *fixture.sessions().await?.last().context("no session")?;
    let records = fixture.records_until(session, last).await?;
    assert!(output(&records, OutputStream::Stdout).starts_with(&shown), "shown and not recorded");
    let ends = story(&records).iter().filter(|&&event| event == "session_ended").count();
    assert_eq!((ends, story(&records).last()), (1, Some(&"session_ended")));
    other.signal(Signal::KILL)?;
    Ok(())
}

/// As it is left when an edge dies between the last record and the row.
#[tokio::test]
async fn session_whose_end_is_recorded_is_closed_without_a_second_end() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    fixture.run(&[], "exit 3").await?;
    let session = fixture.sessions().await?[0];
    assert_eq!(fixture.closed(session).await?.0, "ended");
    fixture.edge.stop(Signal::KILL, DEADLINE).await?;
    let reopen = "update ephemeral_sessions set state = 'active', ended_at = null";
    fixture.client.execute(reopen, &[]).await?;
    fixture.start_again().await?;
    let (state, reason) = fixture.closed(session).await?;
    assert_eq!(state, "ended");
    assert!(reason.contains("its last record says how"), "{reason}");
    fixture.run(&[], "true").await?;
    let last = *fixture.sessions().await?.last().context("no session")?;
    let records = fixture.records_until(session, last).await?;
    let ends = story(&records).iter().filter(|&&event| event == "session_ended").count();
    assert_eq!(ends, 1);
    Ok(())
}
