//! The built programs of this workspace.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

/// A program that `cargo build --workspace` has made, found beside the running one.
pub fn binary(name: &str) -> Result<PathBuf> {
    let running = std::env::current_exe()?;
    // A test runs in `target/<profile>/deps`, a program in `target/<profile>`.
    let folder = running.parent().context("the running program is in a folder")?;
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let path = folder.join(name);
    ensure!(path.exists(), "{} is missing; run: cargo build --workspace", path.display());
    Ok(path)
}
