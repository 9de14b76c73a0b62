//! Standard output and standard error, each written by a thread of its own: a pipe that nobody reads
//! must stop neither the other nor the connection's other work.
//!
//! Invariant: memory is bounded. What the threads have not written is not taken from the
//! connection, so a slow reader slows the program in the container down.

use std::os::fd::BorrowedFd;
use std::thread::JoinHandle;

use bytes::Bytes;
use rustix::io::{Errno, write};
use rustix::stdio::{stderr, stdout};
use tokio::sync::mpsc;

/// Pieces of at most 32 KiB that wait to be written.
const WAITING: usize = 16;

/// One of the two outputs.
#[derive(Debug)]
pub(crate) struct Output {
    sender: mpsc::Sender<Bytes>,
    thread: JoinHandle<()>,
}

/// Nobody reads the output any more.
#[derive(Debug)]
pub(crate) struct Closed;

impl Output {
    /// Standard output.
    pub(crate) fn stdout() -> Self {
        Self::start(stdout())
    }

    /// Standard error.
    pub(crate) fn stderr() -> Self {
        Self::start(stderr())
    }

    fn start(fd: BorrowedFd<'static>) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Bytes>(WAITING);
        let thread = std::thread::spawn(move || {
            while let Some(piece) = receiver.blocking_recv() {
                if write_all(fd, &piece).is_err() {
                    return;
                }
            }
        });
        Self { sender, thread }
    }

    /// Writes a piece, as soon as there is room.
    pub(crate) async fn write(&self, piece: Bytes) -> Result<(), Closed> {
        self.sender.send(piece).await.map_err(|_| Closed)
    }

    /// Waits until everything is written, or nobody reads.
    pub(crate) async fn finish(self) {
        drop(self.sender);
        // A panic of the thread has lost its output already.
        drop(tokio::task::spawn_blocking(move || self.thread.join()).await);
    }
}

fn write_all(fd: BorrowedFd<'_>, mut piece: &[u8]) -> Result<(), Errno> {
    while !piece.is_empty() {
        match write(fd, piece) {
            Ok(length) => piece = piece.get(length..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Another program has made the terminal non-blocking.
            Err(Errno::AGAIN) => std::thread::sleep(std::time::Duration::from_millis(1)),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
