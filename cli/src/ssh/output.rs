//! Standard output and standard error, each written by a thread of its own: a pipe that nobody reads
//! must stop neither the other nor the connection's other work.
//!
//! Invariant: nobody waits for them. What they have not written is counted in the [`Backlog`], which
//! bounds it, so a slow reader slows the program in the container down and stops nothing else.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use rustix::io::{Errno, write};
use rustix::stdio::{stderr, stdout};
use tokio::sync::mpsc;

use super::backlog::{Backlog, MAX_PIECES};

/// What russh hands on after the backlog is full.
pub(super) const LATE_PIECES: usize = 16;
/// Pieces that wait to be written; there are never more.
const WAITING: usize = MAX_PIECES + 2 * LATE_PIECES;

/// One of the two outputs.
#[derive(Debug)]
pub(crate) struct Output {
    sender: mpsc::Sender<Bytes>,
    backlog: Arc<Backlog>,
    thread: JoinHandle<()>,
}

/// Nobody reads the output any more.
#[derive(Debug)]
pub(crate) struct Closed;

impl Output {
    /// Standard output.
    pub(crate) fn stdout(backlog: Arc<Backlog>) -> Self {
        Self::start(stdout(), backlog)
    }

    /// Standard error.
    pub(crate) fn stderr(backlog: Arc<Backlog>) -> Self {
        Self::start(stderr(), backlog)
    }

    fn start(fd: impl AsFd + Send + 'static, backlog: Arc<Backlog>) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Bytes>(WAITING);
        let written = backlog.clone();
        let thread = std::thread::spawn(move || {
            let mut has_reader = true;
            while let Some(piece) = receiver.blocking_recv() {
                // Without a reader, what still waits is dropped.
                if has_reader && write_all(fd.as_fd(), &piece).is_err() {
                    has_reader = false;
                    receiver.close();
                }
                written.remove(piece.len());
            }
        });
        Self { sender, backlog, thread }
    }

    /// Adds a piece to what waits to be written.
    pub(crate) async fn write(&self, piece: Bytes) -> Result<(), Closed> {
        let length = piece.len();
        self.backlog.add(length);
        self.sender.send(piece).await.map_err(|_| {
            self.backlog.remove(length);
            Closed
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, pipe};
    use std::task::{Context, Waker};

    const PIECES: u8 = 64;
    const PIECE: usize = 32 * 1024;

    #[tokio::test]
    async fn all_that_waits_is_written_before_the_end() {
        let (mut reader, writer) = pipe().unwrap();
        let output = Output::start(writer, Arc::default());
        for number in 0..PIECES {
            // Far more than a pipe takes, and nobody reads yet.
            output.write(vec![number; PIECE].into()).await.unwrap();
        }
        let read = tokio::task::spawn_blocking(move || {
            let mut received = Vec::new();
            reader.read_to_end(&mut received).map(|_| received)
        });
        let ((), received) = tokio::join!(output.finish(), read);
        let sent: Vec<u8> = (0..PIECES).flat_map(|number| vec![number; PIECE]).collect();
        assert!(received.unwrap().unwrap() == sent);
    }

    #[tokio::test]
    async fn output_without_a_reader_makes_room() {
        let (reader, writer) = pipe().unwrap();
        let backlog = Arc::new(Backlog::default());
        let output = Output::start(writer, backlog.clone());
        for number in 0..PIECES {
            output.write(vec![number; PIECE].into()).await.unwrap();
        }
        let context = Context::from_waker(Waker::noop());
        assert!(backlog.poll_room(&context).is_pending());
        drop(reader);
        output.sender.closed().await;
        assert!(output.write(Bytes::from_static(b"x")).await.is_err());
        output.finish().await;
        assert!(backlog.poll_room(&context).is_ready());
    }
}
