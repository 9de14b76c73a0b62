//! The account under which the database server runs. It refuses to run as root.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::server::folder::make_folder;

const NAME: &str = "postgres";

/// An account of this machine.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    // User and group; None: whoever runs this process.
    ids: Option<(u32, u32)>,
}

impl Account {
    /// The account `postgres` where this process is root's, else this process's own.
    pub(crate) fn for_database() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::current());
        }
        Ok(Self { ids: Some((id("-u")?, id("-g")?)) })
    }

    /// This process's own account.
    pub(crate) const fn current() -> Self {
        Self { ids: None }
    }

    /// User and group, where they are not this process's own.
    pub(crate) const fn ids(&self) -> Option<(u32, u32)> {
        self.ids
    }

    /// Makes a folder for this account alone, unless it is there.
    pub(crate) fn make_folder(&self, path: &Path) -> Result<()> {
        make_folder(path)?;
        self.give(path)
    }

    /// Gives a file or folder to this account.
    pub(crate) fn give(&self, path: &Path) -> Result<()> {
        let Some((user, group)) = self.ids else { return Ok(()) };
        std::os::unix::fs::lchown(path, Some(user), Some(group))
            .with_context(|| format!("cannot give {} to the account {NAME}", path.display()))
    }

    /// Makes a program run as this account, in `folder`.
    pub(crate) fn run_as(&self, command: &mut Command, folder: &Path) {
        use std::os::unix::process::CommandExt as _;
        command.current_dir(folder);
        if let Some((user, group)) = self.ids {
            command.gid(group).uid(user);
        }
    }
}

/// Asks `id`, which knows of accounts that are not in /etc/passwd, too.
fn id(flag: &str) -> Result<u32> {
    let output = Command::new("id").args([flag, NAME]).output().context("cannot run `id`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.trim().parse() {
        Ok(id) if output.status.success() => Ok(id),
        _ => bail!(
            "there is no account {NAME}, under which root runs the database; install PostgreSQL \
             (Debian: apt install postgresql), or run as another user, or give --database-url"
        ),
    }
}
