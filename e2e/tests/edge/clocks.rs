//! The edge's clock steps, as when it is set by hand or by a time server: nothing ends by it, nothing
//! is refused, and time in the records goes on.

use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use model::{OutputStream, Record};
use rustix::process::Signal;
use tokio::io::AsyncReadExt as _;

use crate::faults::{COUNT, read_some, start};
use crate::fixture::{DEADLINE, Fixture, output, story};

const HOUR: i32 = 3600;

/// How far the records' last time is from the machine's, in whole hours.
fn hours_ahead(records: &[Record]) -> Result<i64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let last = records.iter().map(|record| record.at.nanos() / 1_000_000_000).max().unwrap_or(0);
    let minutes = (i64::try_from(last)? - i64::try_from(now)?) / 60;
    Ok((minutes + 30).div_euclid(60))
}

/// The limits on idle time and on pauses are far below the steps.
#[tokio::test]
async fn clock_that_steps_ends_no_session_and_its_records_times_do_not_run_back() -> Result<()> {
    let fixture = Fixture::start_with_clock(&["--ssh-record-pause-limit-seconds", "30"]).await?;
    fixture.client.execute("update environments set idle_limit_seconds = 60", &[]).await?;
    let (mut child, mut stdout) =
        start(&fixture, "for i in $(seq 200); do echo line $i; sleep 0.05; done")?;
    let mut shown = Vec::new();
    read_some(&mut stdout, &mut shown, 100).await?;
    let session = fixture.sessions().await?[0];
    // A step is seen within a second; the lines come for ten.
    for step in [HOUR, -HOUR, 30 * HOUR, -30 * HOUR] {
        fixture.step_clock(step)?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        read_some(&mut stdout, &mut shown, 30 * b"line 10\n".len()).await?;
    }
    tokio::time::timeout(DEADLINE, stdout.read_to_end(&mut shown)).await??;
    ensure!(child.wait().await?.success());
    let lines: Vec<String> = (1..=200).map(|number| format!("line {number}\n")).collect();
    let expected = lines.concat();
    assert_eq!(String::from_utf8(shown)?, expected);
    assert_eq!(fixture.closed(session).await?.0, "ended");
    let records = fixture.records(session).await?;
    assert_eq!(output(&records, OutputStream::Stdout), expected.as_bytes());
    assert_eq!(hours_ahead(&records)?, 30, "the clock did not step");
    assert!(!fixture.edge.log().contains("records are not durable yet"), "a block was refused");
    Ok(())
}

/// Its blocks bear times long before the session's beginning by the database's clock.
#[tokio::test]
async fn session_of_an_edge_whose_clock_was_behind_is_closed_with_one_end() -> Result<()> {
    let mut fixture = Fixture::start_with_clock(&[]).await?;
    fixture.step_clock(-30 * HOUR)?;
    // A process that has made a later block makes none before it.
    fixture.edge.stop(Signal::TERM, DEADLINE).await?;
    fixture.start_again().await?;
    let (_child, mut stdout) = start(&fixture, COUNT)?;
    let mut shown = Vec::new();
    read_some(&mut stdout, &mut shown, 200).await?;
    let session = fixture.sessions().await?[0];
    fixture.edge.stop(Signal::KILL, DEADLINE).await?;
    fixture.step_clock(0)?;
    fixture.start_again().await?;
    assert_eq!(fixture.closed(session).await?.0, "aborted");
    let records = fixture.records(session).await?;
    assert!(output(&records, OutputStream::Stdout).starts_with(&shown), "shown and not recorded");
    assert_eq!(story(&records).last(), Some(&"session_ended"));
    let before = records.split_last().map(|(_, before)| hours_ahead(before)).transpose()?;
    assert_eq!(before, Some(-30), "the clock did not step");
    Ok(())
}
