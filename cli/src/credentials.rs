//! The file that remembers a sign-in.
//!
//! Invariant: the file is readable by its owner only and is replaced whole. A refresh token may be
//! used once, so it is used under a lock and by whoever still finds it in the file.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::surroundings;

const LOCK_DEADLINE: Duration = Duration::from_mins(1);

/// A sign-in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Credentials {
    /// The API that gave the tokens, and the only one that gets them.
    pub(crate) api_url: String,
    /// Who signed in.
    pub(crate) email: String,
    /// Goes with every request.
    pub(crate) access_token: Zeroizing<String>,
    /// When the access token ends: seconds since the Unix epoch.
    pub(crate) access_expires_at: i64,
    /// Gets the next access token, once.
    pub(crate) refresh_token: Zeroizing<String>,
}

/// Where credentials are kept.
#[derive(Debug, Clone)]
pub(crate) struct CredentialsFile {
    path: PathBuf,
}

/// Held while the refresh token is in use; let go when dropped.
#[derive(Debug)]
pub(crate) struct CredentialsLock(
    #[allow(dead_code, reason = "the open file holds the lock")] File,
);

impl CredentialsFile {
    /// This user's file.
    pub(crate) fn of_user() -> Result<Self> {
        let home = surroundings::config_home()
            .context("cannot tell where to keep the sign-in: set HOME or XDG_CONFIG_HOME")?;
        Ok(Self { path: home.join("spillway/credentials.json") })
    }

    /// The sign-in, if there is one.
    pub(crate) fn read(&self) -> Result<Option<Credentials>> {
        let text = match std::fs::read(&self.path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", self.name()));
            }
        };
        let credentials = serde_json::from_slice(&text).map_err(|_| {
            // The parser's own message could quote a token.
            anyhow::anyhow!("{} is damaged; sign in again: platform login", self.name())
        })?;
        Ok(Some(credentials))
    }

    /// Replaces the sign-in.
    pub(crate) fn write(&self, credentials: &Credentials) -> Result<()> {
        let text = Zeroizing::new(serde_json::to_vec_pretty(credentials)?);
        self.make_folder()?;
        write_private(&self.path, &text).with_context(|| format!("cannot write {}", self.name()))
    }

    /// Forgets the sign-in.
    pub(crate) fn remove(&self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.name()))
            }
            _ => Ok(()),
        }
    }

    /// Waits until no other command is using the refresh token.
    pub(crate) async fn lock(&self) -> Result<CredentialsLock> {
        self.make_folder()?;
        let path = self.path.with_extension("lock");
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        let deadline = tokio::time::Instant::now() + LOCK_DEADLINE;
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            if tokio::time::Instant::now() > deadline {
                bail!("another command has held {} for a minute", path.display());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(CredentialsLock(file))
    }

    fn make_folder(&self) -> Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// Replaces a file that only its owner may read; whoever reads it sees the old or the new.
pub(crate) fn write_private(path: &Path, contents: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
    file.write_all(contents)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn sample() -> Credentials {
        Credentials {
            api_url: "http://127.0.0.1:1".to_owned(),
            email: "ada@example.com".to_owned(),
            access_token: "a".to_owned().into(),
            access_expires_at: 1,
            refresh_token: "r".to_owned().into(),
        }
    }

    fn file(name: &str) -> (PathBuf, CredentialsFile) {
        let folder =
            std::env::temp_dir().join(format!("credentials-{}-{name}", std::process::id()));
        (folder.clone(), CredentialsFile { path: folder.join("spillway/credentials.json") })
    }

    #[test]
    fn sign_in_is_kept_for_its_owner_only() {
        let (folder, file) = file("kept");
        assert!(file.read().unwrap().is_none());
        file.write(&sample()).unwrap();
        assert!(file.read().unwrap() == Some(sample()));
        let mode = std::fs::metadata(&file.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        file.remove().unwrap();
        assert!(file.read().unwrap().is_none());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn damaged_file_is_named_without_its_contents() {
        let (folder, file) = file("damaged");
        file.make_folder().unwrap();
        std::fs::write(&file.path, "{\"refresh_token\": \"hunter2\"").unwrap();
        let text = format!("{:#}", file.read().err().unwrap());
        assert!(text.contains("credentials.json") && !text.contains("hunter2"), "{text}");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn lock_is_held_by_one_at_a_time() {
        let (folder, file) = file("lock");
        let first = file.lock().await.unwrap();
        let waiting = tokio::time::timeout(Duration::from_millis(60), file.lock()).await;
        assert!(waiting.is_err());
        drop(first);
        file.lock().await.unwrap();
        std::fs::remove_dir_all(folder).unwrap();
    }
}
