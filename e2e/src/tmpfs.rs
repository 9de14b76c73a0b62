//! A small disk that can be full: a file system in memory whose size is changed.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::process;

const DEADLINE: Duration = Duration::from_secs(10);
/// What is being written may need a little more room between the question and the change.
const TRIES: u32 = 20;

/// A mounted tmpfs; unmounted when dropped. Who is not root needs sudo without a password.
#[derive(Debug)]
pub struct Tmpfs {
    folder: TempDir,
    bytes: u64,
}

impl Tmpfs {
    /// One of so many bytes, in a folder of its own. It takes only as much memory as is written.
    pub async fn mount(bytes: u64) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("spillway-tmpfs-").tempdir()?;
        let mut mount = as_root("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=1777"), "spillway-test"]);
        mount.arg(folder.path());
        process::succeed(mount.into(), DEADLINE).await.context("cannot mount a tmpfs as root")?;
        Ok(Self { folder, bytes })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves room for this many bytes more.
    pub async fn fill(&self, room: u64) -> Result<()> {
        let mut outcome = Ok(());
        for _ in 0..TRIES {
            let state = rustix::fs::statvfs(self.path())?;
            let used = (state.f_blocks - state.f_bfree) * state.f_frsize;
            outcome = self.resize(used + room).await;
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// Gives the room back.
    pub async fn free(&self) -> Result<()> {
        self.resize(self.bytes).await
    }

    async fn resize(&self, bytes: u64) -> Result<()> {
        let mut mount = as_root("mount");
        mount.args(["-o", &format!("remount,size={bytes}")]).arg(self.path());
        process::succeed(mount.into(), DEADLINE).await?;
        Ok(())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a server in it may still be ending.
        let unmounted = as_root("umount").arg("-l").arg(self.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.path().display());
        }
    }
}

fn as_root(program: &str) -> std::process::Command {
    if rustix::process::geteuid().is_root() {
        return std::process::Command::new(program);
    }
    let mut command = std::process::Command::new("sudo");
    command.args(["-n", program]);
    command
}
