//! A container that logs: what Docker has kept of its output is what it has printed.

use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::docker::daemon::{IMAGE, TestDocker};
use e2e::process;

use crate::evidence::Evidence;

const NAME: &str = "chaos-app";
const DEADLINE: Duration = Duration::from_mins(1);
/// Bursts of lines until it is told to stop. It knows how often it was started, and counts anew each time.
const PROGRAM: &str = r#"
run=$(($(cat /root/run 2>/dev/null || echo 0) + 1))
echo $run > /root/run
trap 'echo "chaos-docker $run ends"; exit 0' TERM
i=0
while :; do
    n=0
    while [ $n -lt 20 ]; do
        printf 'chaos-docker %d %08d %05d all is well\n' $run $i $(((i * 7919 + 13) % 65521))
        i=$((i + 1)) n=$((n + 1))
    done
    usleep 150000
done"#;

/// Starts it; the daemon starts it again when it starts itself.
pub(crate) async fn start(docker: &TestDocker) -> Result<()> {
    let run = ["run", "--detach", "--name", NAME, "--network", "none", "--restart", "always"];
    let labels = ["--label", "spillway.environment=production", "--label", "spillway.app=web"];
    let log = ["--log-driver", "json-file", IMAGE, "sh", "-c", PROGRAM];
    process::succeed(docker.command(&[&run[..], &labels, &log].concat()), DEADLINE).await?;
    Ok(())
}

/// Stops it, and keeps what it has printed; gives the last line.
pub(crate) async fn stop(docker: &TestDocker, evidence: &Evidence) -> Result<Vec<u8>> {
    process::succeed(docker.command(&["stop", "--time", "20", NAME]), DEADLINE).await?;
    let logs = process::succeed(docker.command(&["logs", NAME]), DEADLINE).await?;
    std::fs::write(evidence.printed(), &logs.stdout)?;
    let last = logs.stdout.split(|&byte| byte == b'\n').rfind(|line| !line.is_empty());
    Ok(last.context("the container has printed nothing")?.to_vec())
}
