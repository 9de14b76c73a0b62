//! What idle sessions take: of the edge's memory, and of sshd's.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use tokio::time::{sleep, timeout};

use super::{DEADLINE, HOST, OURS, Place, Server, Sizes, Table, Target, UNRECORDED, World};
use crate::cpu::{proportional_bytes_below, resident_bytes};
use crate::progress;

const AT_ONCE: usize = 8;
/// sshd with that many sessions needs a larger machine: only Spillway is measured with more.
const MOST_OF_SSHD: usize = 100;
const SETTLE: Duration = Duration::from_secs(2);
const MIB: f64 = 1024.0 * 1024.0;

/// Opens sessions, each with a connection of its own, and looks at 1, 100, 500 of them. Once, and
/// not in every round: it takes minutes.
pub(super) async fn measure(world: &World, sizes: &Sizes, table: &mut Table) -> Result<()> {
    for server in world.servers.iter().filter(|server| server.column != UNRECORDED) {
        progress(&format!("session: memory, {}", server.name()));
        // What only the first session needs is no session's.
        close(open(server, 1).await?).await?;
        sleep(SETTLE).await;
        let before = memory(world, server)?;
        let mut sessions = Vec::new();
        for &count in &sizes.idle {
            let row = table.row(
                format!("memory per idle session, of {count}"),
                "MiB",
                &[Target::AtMost(1.0)],
            );
            if server.column != OURS && count > MOST_OF_SSHD {
                continue;
            }
            sessions.extend(open(server, count - sessions.len()).await?);
            sleep(SETTLE).await;
            let grown = memory(world, server)?.saturating_sub(before) as f64;
            table.add(row, server.column, grown / MIB / count as f64);
        }
        progress(&format!("session: ending {} sessions", sessions.len()));
        close(sessions).await.with_context(|| server.name())?;
    }
    Ok(())
}

fn memory(world: &World, server: &Server) -> Result<u64> {
    match server.place {
        Place::Session => resident_bytes(world.edge),
        // Processes come with sessions, and share much of their memory.
        Place::Container | Place::Host => {
            let at = usize::from(server.column == HOST);
            proportional_bytes_below(world.sshd.get(at).context("two of sshd")?.pid()?)
        }
    }
}

/// Opens sessions whose program has started and waits for input.
async fn open(server: &Server, count: usize) -> Result<Vec<Child>> {
    let open = |_| async move {
        let mut ssh = server.ssh(&[]);
        ssh.arg("echo ready; exec busybox cat").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = ssh.kill_on_drop(true).spawn()?;
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().context("a pipe")?);
        timeout(DEADLINE, stdout.read_line(&mut line))
            .await
            .context("a session does not start")??;
        anyhow::ensure!(line == "ready\n", "a session of {} said {line:?}", server.name());
        Ok(child)
    };
    stream::iter(0..count).map(open).buffer_unordered(AT_ONCE).try_collect().await
}

async fn close(sessions: Vec<Child>) -> Result<()> {
    let close = |mut session: Child| async move {
        drop(session.stdin.take());
        timeout(DEADLINE, session.wait()).await.context("a session does not end")??;
        anyhow::Ok(())
    };
    stream::iter(sessions).map(close).buffer_unordered(AT_ONCE).try_collect().await
}
