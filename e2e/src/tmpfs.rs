//! A small file system of a test's own, to be filled.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use rustix::io::Errno;
use tempfile::TempDir;
use tokio::process::Command;

use crate::process;

const DEADLINE: Duration = Duration::from_secs(10);

/// A mounted tmpfs, which only root can make; unmounted when dropped.
#[derive(Debug)]
pub struct Tmpfs {
    folder: TempDir,
}

impl Tmpfs {
    /// One of so many mebibytes.
    pub async fn mount(mebibytes: u32) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("spillway-tmpfs-").tempdir()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m,mode=755"), "tmpfs"]);
        mount.arg(folder.path());
        process::succeed(mount, DEADLINE).await?;
        Ok(Self { folder })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all the room that is left.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::create(self.path().join("filling"))?;
        for size in [1 << 20, 1 << 12] {
            let zeros = vec![0; size];
            loop {
                match file.write_all(&zeros) {
                    Ok(()) => {}
                    Err(error) if error.raw_os_error() == Some(Errno::NOSPC.raw_os_error()) => {
                        break;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Gives the room back.
    pub fn free(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.path().join("filling"))?)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a server in it may still be ending.
        let unmounted =
            std::process::Command::new("umount").arg("--lazy").arg(self.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.path().display());
        }
    }
}
