//! The database server's process.
//!
//! Invariant: it ends when this process ends, however that happens: the kernel tells it so
//! (`PR_SET_PDEATHSIG` of prctl(2)). It is the first process of a process group of its own, so that
//! Ctrl-C reaches the services first and the database last.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use rustix::process::{Pid, Signal};
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

use super::{Account, Programs};
use crate::server::folder::Folder;

/// A fast shutdown writes what is in memory to disk.
const STOP_DEADLINE: Duration = Duration::from_mins(1);
/// Stop now: connections are cut, what is committed is kept.
const FAST_SHUTDOWN: Signal = Signal::INT;
/// Stop without writing: the next start recovers.
const IMMEDIATE_SHUTDOWN: Signal = Signal::QUIT;

const SETTINGS: [&str; 10] = [
    "listen_addresses=",
    "port=5432",
    "max_connections=200",
    "fsync=on",
    "synchronous_commit=on",
    "logging_collector=off",
    "log_destination=stderr",
    "log_checkpoints=off",
    "timezone=UTC",
    // An idle writing transaction would hold back every reader of the stream.
    "idle_in_transaction_session_timeout=60s",
];

/// A started server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
}

/// What the child does between fork and the server's first instruction: only the child itself can
/// ask for the signal, and only safe code may run there.
#[derive(Debug, Args)]
pub(crate) struct BecomePostgres {
    /// The process that must be its parent.
    #[arg(long)]
    parent: i32,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl BecomePostgres {
    /// Replaces this process.
    pub(crate) fn run(self) -> Result<()> {
        rustix::process::set_parent_process_death_signal(Some(FAST_SHUTDOWN))?;
        // The parent may have died before the signal was asked for.
        let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
        if parent != self.parent {
            bail!("the process that wanted a database server has ended");
        }
        let Some((program, arguments)) = self.command.split_first() else {
            bail!("no program was given");
        };
        let error = Command::new(program).args(arguments).exec();
        Err(error).with_context(|| format!("cannot run {}", Path::new(program).display()))
    }
}

impl Server {
    /// Where the server writes its log.
    pub(crate) fn log(folder: &Folder) -> PathBuf {
        folder.path().join("postgres.log")
    }

    /// Starts the server. Call on a thread that lasts as long as the server shall: the kernel takes
    /// the end of the thread for the end of the process.
    pub(crate) fn spawn(folder: &Folder, account: &Account, programs: &Programs) -> Result<Self> {
        let path = Self::log(folder);
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let log = log.with_context(|| format!("cannot open {}", path.display()))?;
        // Not by its path, which the database's account may not be able to walk.
        let mut command = Command::new("/proc/self/exe");
        command
            .args(["become-postgres", "--parent", &std::process::id().to_string(), "--"])
            .arg(programs.path("postgres"))
            .arg("-D")
            .arg(folder.cluster());
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command.arg("-c").arg(socket_setting(&folder.sockets()));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        account.run_as(&mut command, &folder.cluster());
        let child = tokio::process::Command::from(command).spawn().context(
            "cannot start the database server (its account must be able to execute this program)",
        )?;
        Ok(Self { child })
    }

    /// Waits for the server's end.
    pub(crate) async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// The server's status, if it has ended.
    pub(crate) fn has_ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Stops the server and waits for its end.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        for signal in [FAST_SHUTDOWN, IMMEDIATE_SHUTDOWN] {
            let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?))
            else {
                return Ok(());
            };
            rustix::process::kill_process(pid, signal)?;
            if timeout(STOP_DEADLINE, self.child.wait()).await.is_ok() {
                return Ok(());
            }
        }
        bail!("the database server does not stop; its log says why")
    }
}

/// The setting is a list: the folder is quoted, so that a comma in its name does not split it.
fn socket_setting(folder: &Path) -> OsString {
    let mut setting = b"unix_socket_directories=\"".to_vec();
    for byte in folder.as_os_str().as_bytes() {
        setting.push(*byte);
        if *byte == b'"' {
            setting.push(b'"');
        }
    }
    setting.push(b'"');
    OsString::from_vec(setting)
}

/// Stops the server that a killed `platform up` has left, if it is still stopping. The caller holds
/// the data folder's lock, so nobody else's server can be running on it.
pub(crate) async fn stop_leftover(cluster: &Path) -> Result<()> {
    let deadline = Instant::now() + STOP_DEADLINE;
    let mut told = false;
    while let Some(pid) = leftover(cluster) {
        if !told {
            tracing::info!(
                pid = pid.as_raw_nonzero(),
                "stopping the database server of an earlier start"
            );
            told = true;
            // It may have ended in between, which is what is wanted.
            rustix::process::kill_process(pid, FAST_SHUTDOWN).ok();
        }
        if Instant::now() > deadline {
            bail!(
                "a database server of an earlier start (process {}) does not stop",
                pid.as_raw_nonzero()
            );
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// The process that the cluster's pid file names, if it works in this cluster: the number may have
/// gone to another process since.
fn leftover(cluster: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(cluster.join("postmaster.pid")).ok()?;
    let pid = Pid::from_raw(text.lines().next()?.trim().parse().ok()?)?;
    let works_in = std::fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero())).ok()?;
    (works_in == std::fs::canonicalize(cluster).ok()?).then_some(pid)
}
