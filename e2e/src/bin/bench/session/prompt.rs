//! From nothing to a shell's prompt in a new container, as a person sees it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use e2e::docker::docker;
use e2e::terminal::Terminal;
use tokio::process::Command;

use super::{DEADLINE, DOCKER_RUN, EXEC, OURS, Table, Target, World};
use crate::report::median;
use crate::rivals::sshd::LIKE_A_SESSION;

/// Measures `ssh` to Spillway and to sshd, the `platform` command, and Docker's own.
pub(super) async fn measure(world: &World, times: usize, table: &mut Table) -> Result<()> {
    let ssh = table.row("cold to the prompt", "ms", &[Target::RatioAtMost(DOCKER_RUN, 1.1)]);
    let platform = table.row("the same by `platform ssh`", "ms", &[]);
    let mut samples = vec![Vec::new(); 4];
    for _ in 0..times {
        let mut run = docker(&["run", "--rm", "-it"]);
        run.args(LIKE_A_SESSION).args([&world.image.name, "sh"]);
        let platform = ["ssh", "--app", "web", "--environment", "production"];
        let platform = world.services.cli().command(&platform)?;
        let exec = world.servers.iter().find(|server| server.column == EXEC);
        let exec = exec.context("sshd is measured")?.ssh(&["-tt"]);
        let commands = [world.ours()?.ssh(&["-tt"]), run, platform, exec];
        for (command, samples) in commands.into_iter().zip(&mut samples) {
            samples.push(to_prompt(command).await?.as_secs_f64() * 1e3);
        }
    }
    let places = [(ssh, OURS), (ssh, DOCKER_RUN), (platform, OURS), (ssh, EXEC)];
    for ((row, column), samples) in places.into_iter().zip(&samples) {
        table.add(row, column, median(samples).context("there were some")?);
    }
    Ok(())
}

async fn to_prompt(command: Command) -> Result<Duration> {
    let begun = Instant::now();
    let mut terminal = Terminal::start(command, 80, 24)?;
    terminal.wait_for_bytes(b"# ", DEADLINE).await?;
    let taken = begun.elapsed();
    terminal.type_in("exit\r")?;
    terminal.ended(DEADLINE).await?;
    Ok(taken)
}
