//! The unix socket to a session's guest.
//!
//! Invariant: exactly one connection is taken, only from whoever knows the session's token, and the
//! socket's path is gone before anything else is said. The guest is untrusted: what it says is
//! bounded by the protocol's decoder, and what it does not read is bounded here.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use guest_protocol::{
    DecodeError, Decoder, EncodeError, FromEdge, FromGuest, VERSION, encode_edge,
};
use model::Secret;
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use subtle::ConstantTimeEq as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// Past this many unsent bytes no more input is given to the guest.
const BUSY: usize = 256 * 1024;
/// Past this many unsent bytes the guest has stopped reading, whatever it granted.
const STUCK: usize = 4 << 20;

/// The guest cannot be spoken with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("its socket failed: {0}")]
    Socket(#[from] io::Error),
    #[error("it closed its connection")]
    Closed,
    #[error("it sent a bad frame: {0}")]
    Frame(#[from] DecodeError),
    #[error("it did not greet as our guest does")]
    Stranger,
    #[error("it does not read what it is sent")]
    Stuck,
    #[error("it cannot be told: {0}")]
    Untold(#[from] EncodeError),
}

/// Where a guest is awaited.
pub(crate) struct Rendezvous {
    listener: UnixListener,
    path: SocketPath,
    token: Secret<String>,
}

struct SocketPath(PathBuf);

impl Drop for SocketPath {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a session's socket was not removed");
        }
    }
}

impl Rendezvous {
    /// Listens at `path`, which must not exist.
    pub(crate) fn listen(path: PathBuf) -> Result<Self, LinkError> {
        let random = || OsRng.try_next_u64().map_err(io::Error::other);
        let token =
            format!("{:016x}{:016x}{:016x}{:016x}", random()?, random()?, random()?, random()?);
        let listener = UnixListener::bind(&path)?;
        let path = SocketPath(path);
        // The image's user, who need not be root, connects; the folder keeps out everybody else.
        std::fs::set_permissions(&path.0, Permissions::from_mode(0o666))?;
        Ok(Self { listener, path, token: Secret::new(token) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path.0
    }

    pub(crate) const fn token(&self) -> &Secret<String> {
        &self.token
    }

    /// Waits for the guest and its greeting. The caller sets the deadline.
    pub(crate) async fn accept(self) -> Result<GuestLink, LinkError> {
        let (stream, _) = self.listener.accept().await?;
        let Self { token, .. } = self;
        let mut link =
            GuestLink { stream, decoder: Decoder::default(), outgoing: Vec::new(), sent: 0 };
        match link.next(true).await? {
            FromGuest::Hello { version: VERSION, token: given }
                if bool::from(given.as_bytes().ct_eq(token.expose().as_bytes())) =>
            {
                Ok(link)
            }
            _ => Err(LinkError::Stranger),
        }
    }
}

/// The connection to a guest that has greeted.
pub(crate) struct GuestLink {
    stream: UnixStream,
    decoder: Decoder,
    outgoing: Vec<u8>,
    sent: usize,
}

impl GuestLink {
    /// Puts a frame behind what is unsent; [`GuestLink::next`] sends it.
    pub(crate) fn send(&mut self, frame: &FromEdge) -> Result<(), LinkError> {
        if self.unsent() > STUCK {
            return Err(LinkError::Stuck);
        }
        Ok(encode_edge(frame, &mut self.outgoing)?)
    }

    /// Whether it may be given input now.
    pub(crate) fn is_free(&self) -> bool {
        self.unsent() < BUSY
    }

    /// Writes what is unsent, and reads until there is a frame if `reading`. Losing this future
    /// loses nothing.
    pub(crate) async fn next(&mut self, reading: bool) -> Result<FromGuest, LinkError> {
        loop {
            if reading && let Some(frame) = self.decoder.next_guest()? {
                return Ok(frame);
            }
            let (mut reader, mut writer) = self.stream.split();
            let unsent = self.outgoing.get(self.sent..).unwrap_or_default();
            // Both arms are single reads and writes: the one that is lost has done nothing.
            tokio::select! {
                read = reader.read_buf(self.decoder.buffer()), if reading => {
                    if read? == 0 {
                        return Err(LinkError::Closed);
                    }
                }
                written = writer.write(unsent), if !unsent.is_empty() => {
                    self.sent += written?;
                    if self.sent == self.outgoing.len() {
                        self.outgoing.clear();
                        self.sent = 0;
                    }
                }
                else => std::future::pending().await,
            }
        }
    }

    /// Writes what is unsent.
    pub(crate) async fn flush(&mut self) -> Result<(), LinkError> {
        let unsent = self.outgoing.get(self.sent..).unwrap_or_default();
        Ok(self.stream.write_all(unsent).await?)
    }

    const fn unsent(&self) -> usize {
        self.outgoing.len() - self.sent
    }
}
