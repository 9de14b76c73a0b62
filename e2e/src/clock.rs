//! A wall clock that steps, for one process: libfaketime. What the process measures by its
//! monotonic clock, and the machine's clock, stay as they are.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tokio::process::Command;

/// libfaketime.
#[derive(Debug)]
pub struct FakeClock {
    library: PathBuf,
}

impl FakeClock {
    /// Finds it; it is in Debian's package `faketime`.
    pub fn find() -> Result<Self> {
        let library = std::fs::read_dir("/usr/lib")?
            .filter_map(|folder| Some(folder.ok()?.path().join("faketime/libfaketimeMT.so.1")))
            .find(|library| library.exists())
            .context("libfaketime is missing; install faketime")?;
        Ok(Self { library })
    }

    /// Has a command run by the clock of this file, which [`step`] writes.
    pub fn give(&self, command: &mut Command, file: &Path) {
        command.env("LD_PRELOAD", &self.library);
        command.env("FAKETIME_TIMESTAMP_FILE", file);
        // Steps are seen within a second.
        command.env("FAKETIME_CACHE_DURATION", "1");
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
    }
}

/// Sets the clock of this file to so many seconds beside the machine's.
pub fn step(file: &Path, seconds: i32) -> Result<()> {
    Ok(std::fs::write(file, format!("{seconds:+}\n"))?)
}
