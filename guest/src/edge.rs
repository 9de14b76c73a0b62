//! The connection to the edge: frames in, frames out.
//!
//! Invariant: memory for what comes in is bounded by the decoder and the credit, memory for what
//! goes out is one buffer that takes new frames when the edge has taken the old ones.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use guest_protocol::{
    DecodeError, Decoder, EncodeError, FromEdge, FromGuest, INITIAL_CREDIT, Output, VERSION,
};

use crate::outgoing::{Outgoing, Taken};

/// How long the guest waits for the edge to close after the last frame.
pub(crate) const FAREWELL: Duration = Duration::from_secs(5);

/// The edge is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error("the edge closed the connection")]
    Closed,
    #[error("this container was told to stop")]
    Stopped,
    #[error("the connection to the edge failed: {0}")]
    Failed(#[from] io::Error),
    #[error("the edge does not speak the protocol: {0}")]
    Decode(#[from] DecodeError),
    #[error("the edge does not speak the protocol: a second Start")]
    SecondStart,
    #[error("the edge does not speak the protocol: more input than granted")]
    NoCredit,
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

#[derive(Debug)]
pub(crate) struct Edge {
    socket: UnixStream,
    decoder: Decoder,
    incoming: Vec<u8>,
    outgoing: Outgoing,
}

impl Edge {
    /// Connects and says hello.
    pub(crate) fn connect(path: &Path, token: String) -> io::Result<Self> {
        let socket = UnixStream::connect(path)?;
        let mut edge = Self {
            socket,
            decoder: Decoder::default(),
            // Whatever the credit allows comes in one read.
            incoming: vec![0; INITIAL_CREDIT as usize],
            outgoing: Outgoing::default(),
        };
        edge.outgoing
            .put(&FromGuest::Hello { version: VERSION, token })
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        edge.outgoing.flush(&edge.socket)?;
        Ok(edge)
    }

    /// Waits for the first frame; after it nothing waits any more.
    pub(crate) fn wait(&mut self) -> Result<FromEdge, Lost> {
        loop {
            if let Some(frame) = self.next()? {
                self.socket.set_nonblocking(true)?;
                return Ok(frame);
            }
            self.receive()?;
        }
    }

    /// Reads once what has come.
    pub(crate) fn receive(&mut self) -> Result<(), Lost> {
        match self.socket.read(&mut self.incoming) {
            Ok(0) => Err(Lost::Closed),
            Ok(length) => {
                self.decoder.push(self.incoming.get(..length).unwrap_or_default());
                Ok(())
            }
            Err(error) if is_transient(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The next frame of what has been read.
    pub(crate) fn next(&mut self) -> Result<Option<FromEdge>, Lost> {
        Ok(self.decoder.next_edge()?)
    }

    /// Whether all frames have been taken by the connection; only then are new ones put into it.
    pub(crate) fn is_idle(&self) -> bool {
        self.outgoing.is_empty()
    }

    pub(crate) fn put(&mut self, frame: &FromGuest) -> Result<(), Lost> {
        Ok(self.outgoing.put(frame)?)
    }

    /// Puts an output frame of what is to be read from `source` right now.
    pub(crate) fn put_output(&mut self, output: Output, source: BorrowedFd<'_>) -> Taken {
        self.outgoing.put_output(output, source)
    }

    /// Hands as much to the connection as it takes without waiting.
    pub(crate) fn flush(&mut self) -> Result<(), Lost> {
        Ok(self.outgoing.flush(&self.socket)?)
    }

    /// Sends a frame after which there is none, and waits for the edge to close, for a while.
    pub(crate) fn last_words(&mut self, frame: &FromGuest) -> Result<(), Lost> {
        self.socket.set_nonblocking(false)?;
        self.socket.set_read_timeout(Some(FAREWELL))?;
        self.socket.set_write_timeout(Some(FAREWELL))?;
        self.put(frame)?;
        self.flush()?;
        // Whatever ends this, the end is the same; a chatty edge ends it, too.
        match self.socket.read(&mut self.incoming) {
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

impl AsFd for Edge {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
