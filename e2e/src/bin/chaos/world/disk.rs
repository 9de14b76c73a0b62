//! A small disk for PostgreSQL that can be full: a file system in memory whose size is changed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use e2e::process;
use tokio::process::Command;

const DEADLINE: Duration = Duration::from_secs(10);
/// It takes only as much memory as is written.
const SIZE: u64 = 8 << 30;

/// A mounted file system; it goes when dropped.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Mounts one on this folder.
    pub(crate) async fn mount(folder: &Path) -> Result<Self> {
        std::fs::create_dir(folder)?;
        let options = format!("size={SIZE},mode=755");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "spillway-chaos"]).arg(folder);
        process::succeed(mount, DEADLINE).await?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Leaves room for this many bytes more.
    pub(crate) async fn fill(&self, room: u64) -> Result<()> {
        let state = rustix::fs::statvfs(&self.folder)?;
        let used = (state.f_blocks - state.f_bfree) * state.f_frsize;
        self.resize(used + room).await
    }

    /// Has room again.
    pub(crate) async fn free(&self) -> Result<()> {
        self.resize(SIZE).await
    }

    async fn resize(&self, bytes: u64) -> Result<()> {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={bytes}")]).arg(&self.folder);
        process::succeed(mount, DEADLINE).await?;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: what still holds it has been told to end.
        drop(std::process::Command::new("umount").arg("-l").arg(&self.folder).status());
    }
}
