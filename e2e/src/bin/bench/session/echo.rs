//! How long a typed key takes to appear.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::terminal::start_on_terminal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{EXEC, Server, Table, Target};
use crate::report::percentile;

const DEADLINE: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };
/// Between two keys, so that everything comes to rest.
const PAUSE: Duration = Duration::from_millis(2);

/// Measures every server.
pub(super) async fn measure(servers: &[Server], keys: usize, table: &mut Table) -> Result<()> {
    let above = [Target::AboveAtMost(EXEC, 1.0), Target::AboveAtMost(super::HOST, 1.0)];
    let p50 = table.row("key echo, p50", "ms", &above);
    let p99 = table.row("key echo, p99", "ms", &[Target::AtMost(10.0)]);
    for server in servers {
        let mut ssh = server.ssh(&["-tt"]);
        ssh.arg("echo ready; exec cat");
        let (mut child, terminal) = start_on_terminal(ssh, 80, 24)?;
        let typing = move || type_keys(terminal, keys);
        let millis = tokio::task::spawn_blocking(typing).await?.with_context(|| server.name())?;
        let ended = tokio::time::timeout(super::DEADLINE, child.wait()).await;
        ended.with_context(|| format!("the session with {} does not end", server.name()))??;
        for (row, share) in [(p50, 0.5), (p99, 0.99)] {
            table.add(row, server.column, percentile(&millis, share).context("keys were typed")?);
        }
    }
    Ok(())
}

fn type_keys(terminal: OwnedFd, keys: usize) -> Result<Vec<f64>> {
    let mut terminal = std::fs::File::from(terminal);
    let mut shown = Vec::new();
    while !shown.ends_with(b"ready\r\n") {
        read(&mut terminal, &mut shown)?;
    }
    let mut millis = Vec::with_capacity(keys);
    for key in (b'a'..=b'z').cycle().take(keys) {
        sleep(PAUSE);
        shown.clear();
        let begun = Instant::now();
        terminal.write_all(&[key])?;
        read(&mut terminal, &mut shown)?;
        millis.push(begun.elapsed().as_secs_f64() * 1e3);
        ensure!(shown == [key], "typed {key}, shown {shown:?}");
    }
    // The end of `cat`'s input: after what is on its line, and then on a line with nothing on it.
    terminal.write_all(&[4, 4])?;
    // Then nobody has the other side of the terminal any more.
    while read(&mut terminal, &mut shown).is_ok() {}
    Ok(millis)
}

fn read(terminal: &mut std::fs::File, shown: &mut Vec<u8>) -> Result<()> {
    let mut ready = [PollFd::new(&*terminal, PollFlags::IN)];
    ensure!(poll(&mut ready, Some(&DEADLINE))? == 1, "nothing more is shown");
    let mut buffer = [0; 4096];
    let count = terminal.read(&mut buffer)?;
    shown.extend_from_slice(buffer.get(..count).unwrap_or_default());
    Ok(())
}
