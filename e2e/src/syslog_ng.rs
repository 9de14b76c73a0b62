//! Debian's syslog-ng, unpacked beside the built programs: its package conflicts with rsyslog's, so both
//! cannot be installed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::process::Command;

use crate::process;

/// Debian's, for its release 12.
const PACKAGES: [&str; 4] = ["syslog-ng-core", "libivykis0", "libnet1", "libpcre3"];

/// Unpacks it into a folder, unless it is there.
pub async fn fetch(packages: &Path) -> Result<()> {
    std::fs::create_dir_all(packages)?;
    // Those who come at the same time wait, and find it.
    let lock = std::fs::File::create(packages.join("lock"))?;
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await??;
    if packages.join("usr/sbin/syslog-ng").exists() {
        return Ok(());
    }
    let script = format!(
        "set -e; get() {{ apt-get -q download {}; }}; get || {{ apt-get -q update; get; }}; \
         for file in *.deb; do dpkg -x $file .; done; rm *.deb",
        PACKAGES.join(" ")
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(packages);
    let fetched = process::succeed(command, Duration::from_mins(2)).await;
    fetched.context("syslog-ng cannot be fetched; run: apt-get update")?;
    drop(lock);
    Ok(())
}

/// A folder for it that tests and benchmarks share: beside the built programs.
pub fn folder() -> Result<PathBuf> {
    let running = std::env::current_exe()?;
    let folder = running.parent().context("a folder of cargo")?;
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.join("bench-rivals"))
}

/// Runs the unpacked one in the foreground with `conf` of this folder, where its other files are, too.
#[must_use]
pub fn command(folder: &Path, packages: &Path) -> Command {
    let file = |name: &str| folder.join(name);
    let mut command = Command::new(packages.join("usr/sbin/syslog-ng"));
    command.args(["-F", "--no-caps", "--stderr", "-f"]).arg(file("conf"));
    command.arg("--persist-file").arg(file("persist")).arg("--pidfile").arg(file("pid"));
    command.arg("--control").arg(file("control"));
    command.arg("--module-path").arg(packages.join("usr/lib/syslog-ng/3.38"));
    command.env("LD_LIBRARY_PATH", library_path(packages));
    command
}

/// Asks a running one for its counts.
#[must_use]
pub fn control(folder: &Path, packages: &Path) -> Command {
    let mut command = Command::new(packages.join("usr/sbin/syslog-ng-ctl"));
    command.arg("stats").arg("--control").arg(folder.join("control"));
    command.env("LD_LIBRARY_PATH", library_path(packages));
    command
}

fn library_path(packages: &Path) -> String {
    let folders = ["usr/lib/syslog-ng", "usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
    folders.map(|folder| packages.join(folder).display().to_string()).join(":")
}
