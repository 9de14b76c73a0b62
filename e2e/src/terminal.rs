//! A program on a pseudo-terminal, as a person would use it.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::wait;

/// A running program and what its terminal shows. Dropping it hangs up and kills.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    master: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Reads what is shown, until the last program on the terminal has ended.
    reader: JoinHandle<()>,
}

impl Terminal {
    /// Starts `command` as the leader of a new session on a terminal of this size.
    pub fn start(command: Command, columns: u16, rows: u16) -> Result<Self> {
        let (child, master) = start_on_terminal(command, columns, rows)?;
        let shown = Arc::default();
        let reader = read_in_background(File::from(master.try_clone()?), Arc::clone(&shown));
        Ok(Self { child, master, shown, reader })
    }

    /// Everything shown so far.
    #[must_use]
    pub fn shown(&self) -> Vec<u8> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything shown so far, as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown()).into_owned()
    }

    /// Types.
    pub fn type_in(&self, keys: &str) -> Result<()> {
        let mut rest = keys.as_bytes();
        while !rest.is_empty() {
            let written = rustix::io::write(&self.master, rest)?;
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Waits until the text is on the screen `count` times (typing echoes, so a command's own text
    /// appears once before its output does).
    pub async fn wait_for(&mut self, text: &str, count: usize, deadline: Duration) -> Result<()> {
        let waited = wait::until_true(&format!("{text:?} on the terminal"), deadline, async || {
            // In this order: what it showed last is read before the reader is finished.
            let finished = self.reader.is_finished();
            if self.text().matches(text).count() >= count {
                return Ok(true);
            }
            if finished && let Some(status) = self.child.try_wait()? {
                bail!("the program has ended ({status})");
            }
            Ok(false)
        })
        .await;
        waited.with_context(|| format!("the terminal shows:\n{}", self.text()))
    }

    /// Waits until these bytes are on the screen, and no longer: for measuring.
    pub async fn wait_for_bytes(&mut self, bytes: &[u8], deadline: Duration) -> Result<()> {
        let found = async {
            while !self.shown().windows(bytes.len()).any(|window| window == bytes) {
                if let Some(status) = self.child.try_wait()? {
                    bail!("the program has ended ({status})");
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(())
        };
        let waited = timeout(deadline, found).await;
        let waited = waited.unwrap_or_else(|_| bail!("{bytes:?} did not appear"));
        waited.with_context(|| format!("the terminal shows:\n{}", self.text()))
    }

    /// Changes the terminal's size; the program gets SIGWINCH.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        Ok(tcsetwinsize(&self.master, size(columns, rows))?)
    }

    /// Waits until the program has ended by itself.
    pub async fn ended(&mut self, deadline: Duration) -> Result<ExitStatus> {
        match timeout(deadline, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => bail!("the program runs on; the terminal shows:\n{}", self.text()),
        }
    }

    /// The program's process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }
}

/// In a thread: a terminal's master is no socket. It ends with the last holder of the slave.
fn read_in_background(mut master: File, shown: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        while let Ok(count @ 1..) = master.read(&mut buffer) {
            let bytes = buffer.get(..count).unwrap_or_default();
            shown.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        }
    })
}

/// Starts `command` as the leader of a new session on a terminal of this size; gives it, killed when
/// dropped, and the terminal's other side.
pub fn start_on_terminal(command: Command, columns: u16, rows: u16) -> Result<(Child, OwnedFd)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let slave =
        rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    tcsetwinsize(&master, size(columns, rows))?;
    // setsid makes its standard input the controlling terminal, then becomes the program.
    let command = command.into_std();
    let mut leader = Command::new("setsid");
    leader.arg("--ctty").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => leader.env(name, value),
            None => leader.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        leader.current_dir(folder);
    }
    let child = leader
        .stdin(slave.try_clone()?)
        .stdout(slave.try_clone()?)
        .stderr(slave)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    Ok((child, master))
}

const fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
