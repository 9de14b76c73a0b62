//! The bytes of a connection that are not lines yet.
//!
//! Invariant: while a connection waits for bytes, it keeps those of a message that is not complete, and no more.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::AsyncRead;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::io::poll_read_buf;

use super::framing::{Framer, Piece};
use crate::lanes::LINE_LIMIT;

/// Bytes that are read before lines are made of them.
const MOST_READ: usize = 64 << 10;
const LEAST_READ: usize = 4 << 10;
/// Bytes of a message that is not complete, which every connection may keep. More has to find room in
/// [`Partial`], or else the message is cut.
const FREE: usize = 16 << 10;
/// KiB that all connections together keep of such messages, beyond what each may.
const PARTIAL_KIB: usize = 64 << 10;
/// Lines of so many bytes or more share the memory that was read into. Fewer would keep too much of it.
pub(crate) const LARGE: usize = 16 << 10;

/// Room for messages that are not complete. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Partial(Arc<Semaphore>);

/// A connection's buffer.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: BytesMut,
    /// How much is read at once: the more, the more there is.
    size: usize,
    framer: Framer,
    partial: Partial,
    held: Option<OwnedSemaphorePermit>,
}

impl Partial {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(PARTIAL_KIB)))
    }
}

impl Buffer {
    pub(crate) fn new(partial: Partial) -> Self {
        Self {
            bytes: BytesMut::new(),
            size: LEAST_READ,
            framer: Framer::default(),
            partial,
            held: None,
        }
    }

    /// Reads what there is, up to a bound; 0 at the end. Losing this future loses nothing: what was read is in
    /// the buffer, and then it has resolved.
    pub(crate) async fn read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> io::Result<usize> {
        poll_fn(|context| {
            let mut read = 0;
            while read < self.size {
                self.bytes.reserve(self.size - read);
                match poll_read_buf(Pin::new(&mut *stream), context, &mut self.bytes) {
                    Poll::Ready(Ok(more)) if more > 0 => read += more,
                    _ if read > 0 => break,
                    Poll::Pending => {
                        self.shrink();
                        return Poll::Pending;
                    }
                    end @ Poll::Ready(_) => return end,
                }
            }
            if read >= self.size {
                self.size = (self.size * 2).min(MOST_READ);
            } else if read < self.size / 4 {
                self.size = (self.size / 2).max(LEAST_READ);
            }
            Poll::Ready(Ok(read))
        })
        .await
    }

    /// Takes the messages that are complete, and pieces of those that are too long.
    pub(crate) fn take(&mut self, pieces: &mut Vec<Piece>) -> Bytes {
        let mut done = self.framer.pieces(&self.bytes, LINE_LIMIT, pieces);
        if !self.has_room(self.bytes.len() - done) {
            let before = pieces.len();
            let rest = self.bytes.get(done..).unwrap_or_default();
            let more = self.framer.pieces(rest, FREE, pieces);
            for piece in pieces.iter_mut().skip(before) {
                piece.at.start += done;
                piece.at.end += done;
            }
            done += more;
            self.has_room(self.bytes.len() - done);
        }
        self.split(done)
    }

    /// Takes what is there at the end of the connection.
    pub(crate) fn end(&mut self, pieces: &mut Vec<Piece>) -> Bytes {
        pieces.extend(self.framer.end(&self.bytes));
        self.split(self.bytes.len())
    }

    fn split(&mut self, length: usize) -> Bytes {
        let (taken, rest) = self.bytes.split_at_checked(length).unwrap_or_default();
        if length < LARGE {
            let taken = Bytes::copy_from_slice(taken);
            self.bytes.advance(length);
            return taken;
        }
        let rest = BytesMut::from(rest);
        let mut taken = std::mem::replace(&mut self.bytes, rest);
        taken.truncate(length);
        taken.freeze()
    }

    /// Whether so many bytes of a message may be kept.
    fn has_room(&mut self, bytes: usize) -> bool {
        let needed = bytes.saturating_sub(FREE).div_ceil(1024);
        if needed == 0 {
            self.held = None;
            return true;
        }
        let more =
            needed.saturating_sub(self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let Ok(more) = self.partial.0.clone().try_acquire_many_owned(more) else { return false };
        match &mut self.held {
            Some(held) => held.merge(more),
            held => *held = Some(more),
        }
        true
    }

    fn shrink(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
        } else if self.bytes.capacity() - self.bytes.len() > 2 * LEAST_READ {
            self.bytes = BytesMut::from(&self.bytes[..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_complete_is_cut_when_there_is_no_room() {
        let partial = Partial(Arc::new(Semaphore::new(100)));
        let line = vec![b'x'; 200 << 10];
        let (mut one, mut other) = (Buffer::new(partial.clone()), Buffer::new(partial.clone()));
        for (buffer, is_cut) in [(&mut one, false), (&mut other, true)] {
            let (mut pieces, mut stream) = (Vec::new(), &line[..100 << 10]);
            while buffer.read(&mut stream).await.unwrap() > 0 {
                buffer.take(&mut pieces);
            }
            assert_eq!(!pieces.is_empty(), is_cut);
            assert!(pieces.iter().all(|piece| piece.continued));
            assert_eq!(buffer.bytes.len() > FREE, !is_cut);
        }
        drop(one);
        let (mut pieces, mut stream) = (Vec::new(), &line[..80 << 10]);
        while other.read(&mut stream).await.unwrap() > 0 {
            other.take(&mut pieces);
        }
        assert!(other.bytes.len() > 64 << 10, "there is room again");
        let mut stream = &b"y\n"[..];
        other.read(&mut stream).await.unwrap();
        pieces.clear();
        let taken = other.take(&mut pieces);
        assert!(!pieces[0].begins && !pieces[0].continued && taken.ends_with(b"y\n"));
        assert_eq!(partial.0.available_permits(), 100);
    }

    #[tokio::test]
    async fn a_connection_that_waits_has_no_buffer() {
        let (mut client, mut server) = tokio::io::duplex(1 << 20);
        let mut buffer = Buffer::new(Partial::new());
        for _ in 0..10 {
            let lines = b"<1>x\n".repeat(10_000);
            tokio::io::AsyncWriteExt::write_all(&mut client, &lines).await.unwrap();
            buffer.read(&mut server).await.unwrap();
            buffer.take(&mut Vec::new());
        }
        while buffer.read(&mut server).await.unwrap() == buffer.size {
            buffer.take(&mut Vec::new());
        }
        buffer.take(&mut Vec::new());
        let waiting = buffer.read(&mut server);
        tokio::time::timeout(std::time::Duration::from_millis(10), waiting).await.unwrap_err();
        assert!(buffer.bytes.capacity() < 64, "{}", buffer.bytes.capacity());
    }
}
