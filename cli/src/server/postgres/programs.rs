//! Where PostgreSQL's programs are on this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::version_file;

/// The oldest version that has what the schema uses.
const OLDEST: u32 = 14;

/// A folder that has `postgres` and `initdb`.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Finds the programs that fit a cluster; for a new one, the first that are new enough.
    pub(crate) fn find(cluster: &Path) -> Result<Self> {
        let wanted = match std::fs::read_to_string(version_file(cluster)) {
            Ok(text) => Some(text.trim().parse().context("the cluster's PG_VERSION is damaged")?),
            Err(_) => None,
        };
        for folder in candidates() {
            let Some(version) = version(&folder) else { continue };
            if wanted.map_or(version >= OLDEST, |wanted: u32| version == wanted) {
                return Ok(Self { folder });
            }
        }
        match wanted {
            Some(wanted) => bail!(
                "the cluster in {} was made by PostgreSQL {wanted}, whose programs are not \
                 installed here",
                cluster.display()
            ),
            None => bail!(
                "PostgreSQL {OLDEST} or newer is not installed (Debian: apt install postgresql); \
                 install it, or give --database-url"
            ),
        }
    }

    /// The path of a program.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// What `pg_config` says, Debian's folders with the newest first, and the search path.
fn candidates() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        folders.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut versions: Vec<u32> =
        debian.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    let folder = |version: u32| Path::new("/usr/lib/postgresql").join(version.to_string());
    folders.extend(versions.into_iter().map(|version| folder(version).join("bin")));
    folders.extend(crate::surroundings::search_path());
    folders
}

/// The major version of the programs in a folder, if both are there.
fn version(folder: &Path) -> Option<u32> {
    if !folder.is_absolute() || !folder.join("initdb").is_file() {
        return None;
    }
    let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    major(&String::from_utf8_lossy(&output.stdout))
}

/// `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)` is version 15.
fn major(text: &str) -> Option<u32> {
    let number = text.split_whitespace().nth(2)?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_version_is_read_from_any_release() {
        assert_eq!(major("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major("nonsense"), None);
    }
}
