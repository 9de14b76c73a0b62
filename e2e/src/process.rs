//! Child processes that end with the test.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// A running program whose output goes to a log file. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// What a program that ran to its end said.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

impl Process {
    /// Starts a program with its standard output and error appended to the file `log`.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let name = program_name(&command);
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, child, log: log.to_owned() })
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Result<Pid> {
        let id = self.child.id().with_context(|| format!("{} has ended", self.name))?;
        Pid::from_raw(id.try_into()?).context("a process id is above 0")
    }

    /// What it wrote so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Fails, with its log, if it has ended.
    pub fn check_running(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} has ended ({status}); it said:\n{}", self.name, self.log());
        }
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid()?, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self, deadline: Duration) -> Result<ExitStatus> {
        match timeout(deadline, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => bail!("{} runs on after {deadline:?}; it said:\n{}", self.name, self.log()),
        }
    }

    /// Waits for its end where nothing can be awaited: in a drop.
    pub fn wait_for_end_blocking(&self, deadline: Duration) {
        let Some(id) = self.child.id() else { return };
        let end = std::time::Instant::now() + deadline;
        // It stays a zombie until the runtime collects it.
        while std::time::Instant::now() < end && !has_ended(id) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal and waits for the end.
    pub async fn stop(&mut self, signal: Signal, deadline: Duration) -> Result<ExitStatus> {
        if self.child.try_wait()?.is_none() {
            self.signal(signal)?;
        }
        self.ended(deadline).await
    }
}

impl Finished {
    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    #[must_use]
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// Runs a program to its end without input; an error if it takes longer than the deadline.
pub async fn finish(command: Command, deadline: Duration) -> Result<Finished> {
    finish_with_input(command, Vec::new(), deadline).await
}

/// Runs a program to its end with `input` on its standard input.
pub async fn finish_with_input(
    mut command: Command,
    input: Vec<u8>,
    deadline: Duration,
) -> Result<Finished> {
    use tokio::io::AsyncWriteExt as _;
    let name = program_name(&command);
    let mut child = command
        .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A program may end without reading all: its status says whether that was wrong.
            drop(stdin.write_all(&input).await);
            drop(stdin.shutdown().await);
        }
    };
    let both = async { tokio::join!(feed, child.wait_with_output()).1 };
    let output = timeout(deadline, both)
        .await
        .with_context(|| format!("{name} ran longer than {deadline:?}"))??;
    Ok(Finished { status: output.status, stdout: output.stdout, stderr: output.stderr })
}

/// Like [`finish`], and an error with what it said if its status is not 0.
pub async fn succeed(command: Command, deadline: Duration) -> Result<Finished> {
    let name = program_name(&command);
    let finished = finish(command, deadline).await?;
    if !finished.status.success() {
        let (status, text, error) = (finished.status, finished.text(), finished.error_text());
        bail!("{name} failed ({status}):\n{text}{error}");
    }
    Ok(finished)
}

/// An environment variable. Tests are configured by a few; nothing else of the process reads them.
#[must_use]
pub fn environment_variable(name: &str) -> Option<String> {
    #[allow(clippy::disallowed_methods, reason = "tests have no other configuration")]
    std::env::var(name).ok()
}

fn has_ended(id: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    status.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
}

fn program_name(command: &Command) -> String {
    let program: &OsStr = command.as_std().get_program();
    Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned()
}
