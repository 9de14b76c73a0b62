//! How fast a program's output comes, and what the server spends on it.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::process;
use tokio::time::{sleep, timeout};

use super::{DEADLINE, EXEC, HOST, Place, Server, Table, Target, UNRECORDED};
use crate::cpu::{Stat, used};

/// The file of log text; it is shown ten times.
pub(super) const LOG_BYTES: usize = 50_000_000;
const PIECE: u64 = 65_536;
/// What the server still does after the client has gone.
const SETTLE: Duration = Duration::from_millis(500);

struct Bulk {
    seconds: f64,
    cpu_seconds: f64,
}

/// Measures zeros and log text of every server.
pub(super) async fn measure(servers: &[Server], pieces: u64, table: &mut Table) -> Result<()> {
    let size = pieces * PIECE;
    for (what, least) in [("zeros", 1.0), ("log text", 0.6)] {
        let targets = [
            Target::RatioAtLeast(EXEC, least),
            Target::RatioAtLeast(HOST, least),
            Target::RatioAtLeast(UNRECORDED, 0.8),
        ];
        let name = format!("{} MB of {what}", size / 1_000_000);
        let speed = table.row(name.clone(), "MB/s", &targets);
        let cpu = table.row(
            format!("{name}, server CPU"),
            "s/GB",
            if what == "log text" { &[Target::AtMost(5.0)] } else { &[] },
        );
        for server in servers {
            let program = match what {
                "zeros" => zeros(pieces),
                _ => logs(server, pieces),
            };
            let bulk = run(server, &program).await.with_context(|| server.name())?;
            table.add(speed, server.column, size as f64 / 1e6 / bulk.seconds);
            table.add(cpu, server.column, bulk.cpu_seconds / (size as f64 / 1e9));
        }
    }
    Ok(())
}

/// Checks that all of it comes; the first time everything is slower, too.
pub(super) async fn check(server: &Server) -> Result<()> {
    for program in [zeros(320), logs(server, 320)] {
        let mut ssh = server.ssh(&[]);
        ssh.arg(program);
        let finished = process::succeed(ssh, DEADLINE).await?;
        let bytes = finished.stdout.len() as u64;
        ensure!(bytes == 320 * PIECE, "of {} bytes came {bytes}", 320 * PIECE);
    }
    Ok(())
}

fn zeros(pieces: u64) -> String {
    format!("busybox dd if=/dev/zero bs={PIECE} count={pieces} 2>/dev/null")
}

/// `cat` with an end, and one size of writes for everybody.
fn logs(server: &Server, pieces: u64) -> String {
    let log = &server.log;
    let whole = LOG_BYTES as u64 / PIECE;
    let mut parts = Vec::new();
    let mut left = pieces;
    while left > 0 {
        let count = left.min(whole);
        parts.push(format!("busybox dd if={log} bs={PIECE} count={count} 2>/dev/null"));
        left -= count;
    }
    parts.join("; ")
}

async fn run(server: &Server, program: &str) -> Result<Bulk> {
    let mut ssh = server.ssh(&[]);
    // The shell's line tells what the program took, the first process's what the guest did.
    ssh.arg(format!("{program}; busybox cat /proc/$$/stat /proc/1/stat >&2"));
    ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let before = used(&server.parts)?;
    let begun = Instant::now();
    let output = timeout(DEADLINE, ssh.spawn()?.wait_with_output()).await.context("it hangs")??;
    let seconds = begun.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ssh failed ({}): {said}", output.status);
    sleep(SETTLE).await;
    let mut cpu = used(&server.parts)?.saturating_sub(before);
    let mut lines = said.lines();
    let [shell, first] = [lines.next(), lines.next()].map(|line| Stat::parse(line.unwrap_or("")));
    match server.place {
        Place::Session => cpu += first?.own(),
        Place::Container => {}
        Place::Host => cpu = cpu.saturating_sub(shell?.children()),
    }
    Ok(Bulk { seconds, cpu_seconds: cpu.as_secs_f64() })
}
