//! Sessions that do nothing: how long they take, and whether all of them end.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;

use super::{OURS, Server, Table, World};
use crate::report::median;

const AT_ONCE: usize = 8;
/// A session that takes longer hangs.
const HANG: Duration = Duration::from_secs(10);

/// Connects, runs `true` and leaves, so many times.
pub(super) async fn measure(servers: &[Server], times: usize, table: &mut Table) -> Result<()> {
    let row = table.row("connect, run `true`, exit", "ms", &[]);
    for server in servers {
        let mut millis = Vec::with_capacity(times);
        for _ in 0..times {
            let begun = Instant::now();
            ensure!(runs_true(server).await?, "{} hangs", server.name());
            millis.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        table.add(row, server.column, median(&millis).context("there were some")?);
    }
    Ok(())
}

/// Starts so many sessions, a few at a time; gives how many of them did not end.
pub(super) async fn hangs(world: &World, times: usize, table: &mut Table) -> Result<usize> {
    let rate = table.row(format!("sessions begun and ended, {AT_ONCE} at a time"), "1/s", &[]);
    let ours = world.ours()?;
    let begun = Instant::now();
    let runs = stream::iter(0..times).map(|_| runs_true(ours)).buffer_unordered(AT_ONCE);
    let runs: Vec<_> = runs.collect().await;
    table.add(rate, OURS, times as f64 / begun.elapsed().as_secs_f64());
    let ended = runs.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(ended.iter().filter(|&&ended| !ended).count())
}

/// Whether `true` ended in time; it must not fail.
async fn runs_true(server: &Server) -> Result<bool> {
    let mut ssh = server.ssh(&[]);
    ssh.arg("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = ssh.kill_on_drop(true).spawn()?;
    let Ok(output) = timeout(HANG, child.wait_with_output()).await else { return Ok(false) };
    let output = output?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed ({}): {said}", server.name(), output.status);
    Ok(true)
}
