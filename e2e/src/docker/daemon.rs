//! A Docker daemon of a test's own, so that restarting it is nobody else's trouble; or of the
//! machine's, where there is none.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::{TestImage, docker};
use crate::process::{self, Process};

const DEADLINE: Duration = Duration::from_mins(1);
/// A daemon that answers at all answers before.
const HANG: Duration = Duration::from_secs(20);
/// The sessions' image.
pub const IMAGE: &str = "spillway-test-daemon:busybox";
const MACHINES: &str = "/var/run/docker.sock";

/// The daemon, with its files in a folder; dropped, it goes with all its containers. Only root can
/// start one: others use the machine's, and do not restart it.
#[derive(Debug)]
pub struct TestDocker {
    folder: PathBuf,
    host: String,
    daemon: Option<Process>,
    is_own: bool,
    flags: &'static [&'static str],
}

impl TestDocker {
    /// Starts it, and makes the sessions' image.
    pub async fn start(folder: &Path) -> Result<Self> {
        Self::start_with(folder, &[]).await
    }

    /// The same with these flags.
    pub async fn start_with(folder: &Path, flags: &'static [&'static str]) -> Result<Self> {
        std::fs::create_dir(folder)?;
        let is_own = rustix::process::geteuid().is_root();
        let own = folder.join("socket").display().to_string();
        let host = format!("unix://{}", if is_own { &own } else { MACHINES });
        let mut docker = Self { folder: folder.to_owned(), host, daemon: None, is_own, flags };
        if is_own {
            docker.start_again().await?;
        }
        TestImage::Busybox.import(docker.command(&["import"]), IMAGE).await?;
        Ok(docker)
    }

    /// Starts the machine's daemon, with its files in this new folder; None if one answers already.
    pub async fn for_machine(folder: &Path) -> Result<Option<Self>> {
        if process::finish(docker(&["version"]), DEADLINE).await?.status.success() {
            return Ok(None);
        }
        ensure!(
            rustix::process::geteuid().is_root(),
            "no Docker daemon answers, and only root can start one: use sudo"
        );
        ensure!(
            UnixStream::connect(MACHINES).await.is_err(),
            "something listens on {MACHINES}, but `docker version` fails"
        );
        std::fs::create_dir(folder)?;
        let host = format!("unix://{MACHINES}");
        let mut docker =
            Self { folder: folder.to_owned(), host, daemon: None, is_own: true, flags: &[] };
        docker.start_again().await?;
        Ok(Some(docker))
    }

    /// Where it answers.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether it may be restarted.
    #[must_use]
    pub const fn is_own(&self) -> bool {
        self.is_own
    }

    /// A `docker` command for this daemon.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["--host", self.host()]).args(arguments);
        command
    }

    /// The names of the environment's containers, running or not.
    pub async fn containers(&self, environment: &str) -> Result<Vec<String>> {
        let filter = format!("label=dev.spillway.environment={environment}");
        let list = ["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"];
        let list = self.command(&list);
        let list = process::succeed(list, DEADLINE).await?;
        Ok(list.text().lines().map(str::to_owned).collect())
    }

    /// Starts the stopped daemon, and waits until it answers.
    pub async fn start_again(&mut self) -> Result<()> {
        let mut command = Command::new("dockerd");
        let namespace = format!("spillway-test-{}", std::process::id());
        command.arg("--data-root").arg(self.folder.join("data"));
        command.arg("--exec-root").arg(self.folder.join("exec"));
        command.arg("--pidfile").arg(self.folder.join("pid"));
        command.args(["--host", self.host(), "--containerd-namespace", &namespace]);
        command.args(["--containerd-plugins-namespace", &format!("{namespace}-plugins")]);
        command.args(["--bridge", "none", "--iptables=false", "--ip-forward=false"]);
        command.args(self.flags);
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let mut daemon = Process::start(command, &self.folder.join("log"))?;
        let end = Instant::now() + DEADLINE;
        while !process::finish(self.command(&["version"]), DEADLINE).await?.status.success() {
            daemon.check_running()?;
            ensure!(Instant::now() < end, "the Docker daemon does not answer within {DEADLINE:?}");
            sleep(Duration::from_millis(50)).await;
        }
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Whether the daemon has taken a question and does not answer it: two locks of its networks are taken
    /// in both orders (Docker 20.10, `getSvcRecords` and `processEndpointDelete` of libnetwork), so that it may
    /// stand still when containers start and end at the same time. Only a restart helps.
    pub async fn hangs(&self) -> bool {
        self.is_own
            && self.daemon.is_some()
            && process::finish(self.command(&["network", "ls"]), HANG).await.is_err()
    }

    /// Stops the daemon: in order, which ends its containers, or by SIGKILL, which leaves them.
    pub async fn stop(&mut self, signal: Signal) -> Result<()> {
        let mut daemon = self.daemon.take().context("the Docker daemon is not running")?;
        daemon.stop(signal, DEADLINE).await?;
        Ok(())
    }

    /// A daemon that is killed while it starts a container forgets what it has begun: the shim of the
    /// container, and the program that was to become its first process.
    fn kill_shims(&self) {
        let socket = self.folder.join("exec/containerd/containerd.sock").display().to_string();
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        for process in processes {
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).into_owned();
            let is_shim = command.contains("containerd-shim") && command.contains(&socket);
            let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
            let Some(pid) = pid.filter(|_| is_shim) else { continue };
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            let children = children.unwrap_or_default();
            let children = children.split_whitespace().filter_map(|child| child.parse().ok());
            for pid in std::iter::once(pid).chain(children).filter_map(Pid::from_raw) {
                // It may have ended meanwhile.
                kill_process(pid, Signal::KILL).ok();
            }
        }
    }

    fn remove_containers(&self) {
        // Another's daemon may answer there by now. A daemon that is stopped ends its containers.
        if self.host.ends_with(MACHINES) {
            return;
        }
        let docker = || {
            // It may hang.
            let mut command = std::process::Command::new("timeout");
            command
                .args(["60", "docker", "--host", self.host()])
                .stderr(std::process::Stdio::null());
            command
        };
        let Ok(list) = docker().args(["ps", "--all", "--quiet"]).output() else { return };
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        if !list.is_empty() {
            let mut remove = docker();
            remove.args(["rm", "--force", "--volumes"]).args(list.split_whitespace());
            drop(remove.stdout(std::process::Stdio::null()).status());
        }
    }
}

impl Drop for TestDocker {
    fn drop(&mut self) {
        if let Some(daemon) = &self.daemon {
            self.remove_containers();
            drop(daemon.signal(Signal::TERM));
            daemon.wait_for_end_blocking(Duration::from_secs(20));
        }
        // Its containerd ends with it, unless the daemon was killed.
        let pid = std::fs::read_to_string(self.folder.join("exec/containerd/containerd.pid"));
        let pid = pid.ok().and_then(|pid| Pid::from_raw(pid.trim().parse().ok()?));
        if let Some(pid) = pid.filter(|&pid| is_containerd(pid)) {
            kill_process(pid, Signal::KILL).ok();
        }
        self.kill_shims();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let folder = self.folder.display().to_string();
        let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(1));
        for point in points.filter(|point| point.starts_with(&folder)) {
            drop(std::process::Command::new("umount").arg("-l").arg(point).status());
        }
    }
}

/// The file of the id may be older than the process that has it now.
fn is_containerd(pid: Pid) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_pid()));
    name.is_ok_and(|name| name.trim() == "containerd")
}
