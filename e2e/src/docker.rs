//! Docker images for tests, made from the local busybox.

pub mod daemon;

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use crate::process;

const DEADLINE: Duration = Duration::from_mins(1);
const BUSYBOX: &str = "/bin/busybox";

/// The kinds of image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestImage {
    /// Busybox with every applet; runs as root.
    Busybox,
    /// The same, run as user `app` (1000) in `/home/app`.
    Unprivileged,
    /// One program, `/bin/cat`, and no shell.
    Shellless,
}

impl TestImage {
    const fn name(self) -> &'static str {
        match self {
            Self::Busybox => "busybox",
            Self::Unprivileged => "unprivileged",
            Self::Shellless => "shellless",
        }
    }

    const fn changes(self) -> &'static [&'static str] {
        match self {
            Self::Busybox => &["ENV PATH=/bin", "ENV FROM_IMAGE=yes", "CMD [\"sh\"]"],
            Self::Unprivileged => {
                &["ENV PATH=/bin", "USER app", "WORKDIR /home/app", "CMD [\"sh\"]"]
            }
            Self::Shellless => &["ENV PATH=/bin", "CMD [\"/bin/cat\"]"],
        }
    }

    /// Makes sure that Docker has the image, and gives its name. The name says what is in it, so
    /// tests share one image; `scripts/test` removes it.
    pub async fn ensure(self) -> Result<String> {
        let busybox = std::fs::read(BUSYBOX)
            .with_context(|| format!("cannot read {BUSYBOX}; install busybox-static"))?;
        let mut hash = Sha256::new_with_prefix(busybox);
        hash.update(include_bytes!("docker.rs"));
        let hash = hash.finalize();
        let version = hash.first_chunk().map_or(0, |&head| u64::from_be_bytes(head));
        let name = format!("spillway-test-{}:{version:016x}", self.name());
        // Tests that start together must not all make it.
        let lock = std::fs::File::create(std::env::temp_dir().join("spillway-test-images.lock"))?;
        tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await??;
        if process::finish(docker(&["image", "inspect", &name]), DEADLINE).await?.status.success() {
            return Ok(name);
        }
        self.import(docker(&["import"]), &name).await?;
        Ok(name)
    }

    /// Gives the image to Docker by this `docker import` command, which may name another daemon.
    pub async fn import(self, mut import: Command, name: &str) -> Result<()> {
        let root = tempfile::tempdir()?;
        self.fill(root.path())?;
        let archive = tempfile::NamedTempFile::new()?;
        let mut tar = Command::new("tar");
        tar.args(["--owner=0", "--group=0", "-cf"]).arg(archive.path());
        tar.arg("-C").arg(root.path()).arg(".");
        process::succeed(tar, DEADLINE).await?;
        for change in self.changes() {
            import.arg("--change").arg(change);
        }
        import.arg(archive.path()).arg(name);
        process::succeed(import, DEADLINE).await?;
        Ok(())
    }

    fn fill(self, root: &Path) -> Result<()> {
        for folder in ["bin", "etc", "dev", "proc", "sys", "tmp", "root", "run", "home/app"] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        for open in ["tmp", "home/app"] {
            let anyone = std::fs::Permissions::from_mode(0o1777);
            std::fs::set_permissions(root.join(open), anyone)?;
        }
        std::fs::write(
            root.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n",
        )?;
        std::fs::write(root.join("etc/group"), "root:x:0:\napp:x:1000:\n")?;
        if self == Self::Shellless {
            std::fs::copy(BUSYBOX, root.join("bin/cat"))?;
            return Ok(());
        }
        std::fs::copy(BUSYBOX, root.join("bin/busybox"))?;
        let applets = std::process::Command::new(BUSYBOX).arg("--list").output()?;
        for applet in String::from_utf8(applets.stdout)?.lines().filter(|name| *name != "busybox") {
            symlink("busybox", root.join("bin").join(applet))?;
        }
        Ok(())
    }
}

/// The ids of the containers, running or not, that have this label (`key` or `key=value`).
pub async fn containers(label: &str) -> Result<Vec<String>> {
    let filter = format!("label={label}");
    let list = docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter]);
    let list = process::succeed(list, DEADLINE).await?;
    Ok(list.text().lines().map(str::to_owned).collect())
}

/// Removes the containers that have this label, running or not.
pub async fn remove_containers(label: &str) -> Result<()> {
    let found = containers(label).await?;
    if !found.is_empty() {
        let mut remove = docker(&["rm", "--force", "--volumes"]);
        remove.args(found);
        // One that its owner removes at the same time is gone all the same.
        process::finish(remove, DEADLINE).await?;
    }
    Ok(())
}

/// A `docker` command.
#[must_use]
pub fn docker(arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(arguments);
    command
}
