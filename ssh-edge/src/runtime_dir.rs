//! The edge's folder: its lock, its identity, the guest's binary, the sessions' sockets.
//!
//! Invariant: one living edge has the folder. So its id, which stays there, names one edge at a
//! time, and whatever bears that id and is not this process's is left over from an earlier life.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use model::{Edge, EphemeralSession, Id};
use rustix::fs::StatVfsMountFlags;

/// Linux's `sun_path` holds 108 bytes, the last of them a NUL (unix(7)).
const LONGEST_SOCKET_PATH: usize = 107;
/// A slash, twelve hexadecimal digits and `.sock`.
const SOCKET_NAME: usize = 18;

/// The guest, built with this edge (see `build.rs`).
static GUEST: &[u8] = include_bytes!(env!("SPILLWAY_GUEST"));

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The path is too long.
    #[error(
        "the runtime folder {} is too long for unix sockets: at most {} bytes (--ssh-runtime-dir)",
        .0.display(), LONGEST_SOCKET_PATH - SOCKET_NAME
    )]
    TooLong(PathBuf),
    /// Docker would split the path.
    #[error("the runtime folder {} must be an absolute path without ':' (--ssh-runtime-dir)", .0.display())]
    Unusable(PathBuf),
    /// Nothing in it can be run.
    #[error(
        "the runtime folder {} is on a file system mounted noexec, but containers run a file in it; \
         choose another one (--ssh-runtime-dir)", .0.display()
    )]
    NoExec(PathBuf),
    /// Another process has it.
    #[error("another edge uses the runtime folder {} (--ssh-runtime-dir)", .0.display())]
    InUse(PathBuf),
    /// The file system failed.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// What could not be used.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The folder, locked until this is dropped.
#[derive(Debug)]
pub(crate) struct RuntimeDirectory {
    path: PathBuf,
    edge: Id<Edge>,
    _lock: File,
}

impl RuntimeDirectory {
    /// Makes or takes the folder, cleans it, and puts the guest there.
    pub(crate) fn open(path: &Path) -> Result<Self, DirectoryError> {
        if path.as_os_str().len() + SOCKET_NAME > LONGEST_SOCKET_PATH {
            return Err(DirectoryError::TooLong(path.to_owned()));
        }
        if !path.is_absolute() || path.to_str().is_none_or(|text| text.contains(':')) {
            return Err(DirectoryError::Unusable(path.to_owned()));
        }
        at(path, DirBuilder::new().recursive(true).mode(0o700).create(path))?;
        at(path, fs::set_permissions(path, Permissions::from_mode(0o700)))?;
        let file_system = at(path, rustix::fs::statvfs(path).map_err(io::Error::from))?;
        if file_system.f_flag.contains(StatVfsMountFlags::NOEXEC) {
            return Err(DirectoryError::NoExec(path.to_owned()));
        }
        let lock = lock(path)?;
        let directory =
            Self { edge: identity(&path.join("edge-id"))?, path: path.to_owned(), _lock: lock };
        directory.remove_sockets()?;
        directory.install_guest()?;
        Ok(directory)
    }

    pub(crate) const fn edge(&self) -> Id<Edge> {
        self.edge
    }

    pub(crate) fn guest(&self) -> PathBuf {
        self.path.join("guest")
    }

    /// The end of a `UUIDv7` is random, so that 48 bits of it are enough among live sessions.
    pub(crate) fn socket(&self, session: Id<EphemeralSession>) -> PathBuf {
        let random = session.uuid().as_u128() & 0xffff_ffff_ffff;
        self.path.join(format!("{random:012x}.sock"))
    }

    fn remove_sockets(&self) -> Result<(), DirectoryError> {
        for entry in at(&self.path, fs::read_dir(&self.path))? {
            let path = at(&self.path, entry)?.path();
            if path.extension().is_some_and(|extension| extension == "sock") {
                at(&path, fs::remove_file(&path))?;
            }
        }
        Ok(())
    }

    fn install_guest(&self) -> Result<(), DirectoryError> {
        // Containers of an earlier life may still run the old file: replace it, do not write to it.
        let new = self.path.join("guest.new");
        at(&new, fs::write(&new, GUEST))?;
        at(&new, fs::set_permissions(&new, Permissions::from_mode(0o755)))?;
        at(&new, fs::rename(&new, self.guest()))
    }
}

fn lock(path: &Path) -> Result<File, DirectoryError> {
    let file = path.join("lock");
    let lock = at(&file, OpenOptions::new().create(true).truncate(false).write(true).open(&file))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(DirectoryError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(DirectoryError::Io { path: file, source }),
    }
}

fn identity(path: &Path) -> Result<Id<Edge>, DirectoryError> {
    if let Ok(text) = fs::read_to_string(path)
        && let Ok(id) = text.trim().parse()
    {
        return Ok(id);
    }
    let id = Id::generate();
    let mut file = at(path, File::create(path))?;
    at(path, writeln!(file, "{id}").and_then(|()| file.sync_all()))?;
    Ok(id)
}

fn at<T>(path: &Path, outcome: io::Result<T>) -> Result<T, DirectoryError> {
    outcome.map_err(|source| DirectoryError::Io { path: path.to_owned(), source })
}
