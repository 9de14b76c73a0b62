//! Standard input, read by a thread: files and terminals have no asynchronous reading.

use bytes::Bytes;
use rustix::io::{Errno, read};
use rustix::stdio::stdin;
use tokio::sync::mpsc;

/// One SSH packet's worth.
const PIECE: usize = 32 * 1024;
/// Pieces that wait for the connection; then the thread stops reading.
const WAITING: usize = 4;

/// Starts reading; the channel ends where the input ends. The thread is left behind at the end of
/// the session, waiting for input, and ends with the process.
pub(crate) fn start() -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        let mut buffer = vec![0; PIECE];
        loop {
            let piece = match read(stdin(), &mut buffer) {
                Ok(length) => Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default()),
                Err(Errno::INTR) => continue,
                Err(_) => Bytes::new(),
            };
            if piece.is_empty() || sender.blocking_send(piece).is_err() {
                return;
            }
        }
    });
    receiver
}
