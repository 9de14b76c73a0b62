//! The data folder of `platform up`.
//!
//! Invariant: one `platform up` at a time works in it, and nobody but its owner (and, where the
//! owner is root, the database's account) gets into it.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use rustix::fs::{FlockOperation, flock};

use crate::server::postgres::Account;
use crate::surroundings;

/// Where the data folder is.
#[derive(Debug, Clone, Args)]
pub(crate) struct FolderChoice {
    /// The folder for the database cluster and the keys. Default: /var/lib/spillway for root, else
    /// `$XDG_STATE_HOME/spillway` (`~/.local/state/spillway`).
    #[arg(long, env = "SPILLWAY_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// The data folder. Paths in it are absolute.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    path: PathBuf,
}

/// Held while `platform up` runs.
#[derive(Debug)]
pub(crate) struct FolderLock(#[allow(dead_code, reason = "the open file holds the lock")] File);

impl FolderChoice {
    /// The folder, which may not exist.
    pub(crate) fn folder(&self) -> Result<Folder> {
        let path = match &self.data_dir {
            Some(path) => path.clone(),
            None if rustix::process::geteuid().is_root() => PathBuf::from("/var/lib/spillway"),
            None => surroundings::state_home()
                .context("cannot tell where to keep data: give --data-dir, or set HOME")?
                .join("spillway"),
        };
        let path = std::path::absolute(&path)
            .with_context(|| format!("cannot resolve the folder {}", path.display()))?;
        Ok(Folder { path })
    }
}

impl Folder {
    /// Where the database cluster is.
    pub(crate) fn cluster(&self) -> PathBuf {
        self.path.join("postgres")
    }

    /// Where the database's socket is.
    pub(crate) fn sockets(&self) -> PathBuf {
        self.path.join("run")
    }

    /// Where the keys are.
    pub(crate) fn keys(&self) -> PathBuf {
        self.path.join("keys")
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder if it is not there, and takes it for this process.
    pub(crate) fn take(&self, account: &Account) -> Result<FolderLock> {
        make_folder(&self.path)?;
        self.check_contents()?;
        if let Some((_, group)) = account.ids() {
            let path = &self.path;
            std::os::unix::fs::chown(path, None, Some(group))
                .and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(0o750)))
                .with_context(|| format!("cannot let the database into {}", path.display()))?;
            self.check_way_in(account)?;
        }
        let path = self.path.join("lock");
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!(
                "another `platform up` runs on {}; stop it, or give another --data-dir",
                self.path.display()
            );
        }
        Ok(FolderLock(file))
    }

    /// A folder that is used for something else is left alone: permissions in it are about to change.
    fn check_contents(&self) -> Result<()> {
        let path = self.path.display();
        let mut entries =
            std::fs::read_dir(&self.path).with_context(|| format!("cannot look into {path}"))?;
        if entries.next().is_some() && !self.path.join("lock").exists() {
            bail!("{path} holds other files; give a --data-dir that is new, empty, or Spillway's");
        }
        Ok(())
    }

    /// The database's account must be able to walk to the folder.
    fn check_way_in(&self, account: &Account) -> Result<()> {
        let Some((user, group)) = account.ids() else { return Ok(()) };
        for folder in self.path.ancestors() {
            let metadata = std::fs::metadata(folder)
                .with_context(|| format!("cannot look at {}", folder.display()))?;
            let bit = match (metadata.uid() == user, metadata.gid() == group) {
                (true, _) => 0o100,
                (false, true) => 0o010,
                (false, false) => 0o001,
            };
            if metadata.mode() & bit == 0 {
                bail!(
                    "the database runs as the account postgres, which may not enter {}; \
                     give a --data-dir that it can reach, such as /var/lib/spillway",
                    folder.display()
                );
            }
        }
        Ok(())
    }
}

/// Makes a folder for its owner alone, unless it is there.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_is_taken_once_and_only_if_it_holds_nothing_else() {
        let path = std::env::temp_dir().join(format!("data-folder-{}", std::process::id()));
        let folder = Folder { path: path.clone() };
        let account = Account::current();
        let lock = folder.take(&account).unwrap();
        assert!(folder.take(&account).unwrap_err().to_string().contains("another `platform up`"));
        drop(lock);
        folder.take(&account).unwrap();

        std::fs::remove_file(path.join("lock")).unwrap();
        std::fs::write(path.join("thesis.txt"), "").unwrap();
        assert!(folder.take(&account).unwrap_err().to_string().contains("holds other files"));
        std::fs::remove_dir_all(path).unwrap();
    }
}
