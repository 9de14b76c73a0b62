//! The bytes of a connection that are not lines yet.
//!
//! Invariant: while a connection waits for bytes, it keeps those of a message that is not complete, and no more.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::AsyncRead;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::io::poll_read_buf;

use super::framing::{Framer, Piece};
use super::room::{Room, Share};
use crate::lanes::LINE_LIMIT;

/// Bytes that are read before lines are made of them.
const MOST_READ: usize = 64 << 10;
const LEAST_READ: usize = 4 << 10;
/// Bytes of a message that is not complete, which every connection may keep. More has to find room, or else the
/// message is cut.
const FREE: usize = 16 << 10;
/// Lines of so many bytes or more share the memory that was read into. Fewer would keep too much of it.
pub(crate) const LARGE: usize = 16 << 10;

/// A connection's buffer.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: BytesMut,
    /// How much is read at once: the more, the more there is.
    size: usize,
    framer: Framer,
    room: Room,
    /// For the message that is not complete.
    partial: Share,
    /// For what is read, until it is submitted.
    reading: Option<OwnedSemaphorePermit>,
}

impl Buffer {
    pub(crate) fn new(room: Room) -> Self {
        Self {
            bytes: BytesMut::new(),
            size: LEAST_READ,
            framer: Framer::default(),
            partial: room.share(),
            room,
            reading: None,
        }
    }

    /// Reads what there is, up to a bound; 0 at the end. Losing this future loses nothing: what was read is in
    /// the buffer, and then it has resolved.
    pub(crate) async fn read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> io::Result<usize> {
        poll_fn(|context| {
            let (mut read, size) = (0, self.size());
            while read < size {
                self.bytes.reserve(size - read);
                match poll_read_buf(Pin::new(&mut *stream), context, &mut self.bytes) {
                    Poll::Ready(Ok(more)) if more > 0 => read += more,
                    _ if read > 0 => break,
                    Poll::Pending => {
                        self.shrink();
                        self.reading = None;
                        return Poll::Pending;
                    }
                    end @ Poll::Ready(_) => return end,
                }
            }
            if read >= size {
                self.size = (self.size * 2).min(MOST_READ);
            } else if read < self.size / 4 {
                self.size = (self.size / 2).max(LEAST_READ);
            }
            Poll::Ready(Ok(read))
        })
        .await
    }

    /// Takes the messages that are complete, and pieces of those that are too long. Whoever `is_known` may keep
    /// much of one that is not complete.
    pub(crate) fn take(&mut self, is_known: bool, pieces: &mut Vec<Piece>) -> Bytes {
        let mut done = self.framer.pieces(&self.bytes, LINE_LIMIT, pieces);
        if !self.has_room(is_known, self.bytes.len() - done) {
            let before = pieces.len();
            let rest = self.bytes.get(done..).unwrap_or_default();
            let more = self.framer.pieces(rest, FREE, pieces);
            for piece in pieces.iter_mut().skip(before) {
                piece.at.start += done;
                piece.at.end += done;
            }
            done += more;
            self.has_room(is_known, self.bytes.len() - done);
        }
        self.split(done)
    }

    /// What was taken is submitted, and counts elsewhere.
    pub(crate) fn submitted(&mut self) {
        self.reading = None;
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

    /// How much may be read at once.
    fn size(&mut self) -> usize {
        let more = self.size - LEAST_READ;
        if self.reading.is_none() && more > 0 {
            self.reading = self.room.take(more.div_ceil(1024));
        }
        if self.reading.is_some() { self.size } else { LEAST_READ }
    }

    /// Whether so many bytes of a message may be kept.
    fn has_room(&mut self, is_known: bool, bytes: usize) -> bool {
        let more = bytes.saturating_sub(FREE);
        (is_known || more == 0) && self.partial.hold(more)
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
        let room = Room::of_kib(160);
        let line = vec![b'x'; 200 << 10];
        let (mut one, mut other) = (Buffer::new(room.clone()), Buffer::new(room.clone()));
        for (buffer, is_cut) in [(&mut one, false), (&mut other, true)] {
            let (mut pieces, mut stream) = (Vec::new(), &line[..100 << 10]);
            while buffer.read(&mut stream).await.unwrap() > 0 {
                buffer.take(true, &mut pieces);
                buffer.submitted();
            }
            assert_eq!(!pieces.is_empty(), is_cut);
            assert!(pieces.iter().all(|piece| piece.continued));
            assert_eq!(buffer.bytes.len() > FREE, !is_cut);
        }
        drop(one);
        let (mut pieces, mut stream) = (Vec::new(), &line[..80 << 10]);
        while other.read(&mut stream).await.unwrap() > 0 {
            other.take(true, &mut pieces);
            other.submitted();
        }
        assert!(other.bytes.len() > 64 << 10, "there is room again");
        let mut stream = &b"y\n"[..];
        other.read(&mut stream).await.unwrap();
        pieces.clear();
        let taken = other.take(true, &mut pieces);
        assert!(!pieces[0].begins && !pieces[0].continued && taken.ends_with(b"y\n"));
        other.submitted();
        assert_eq!(room.free_kib(), 160);
    }

    #[tokio::test]
    async fn who_is_not_known_keeps_little() {
        let mut buffer = Buffer::new(Room::new());
        let (mut pieces, line) = (Vec::new(), vec![b'x'; 100 << 10]);
        let mut stream = &line[..];
        while buffer.read(&mut stream).await.unwrap() > 0 {
            buffer.take(false, &mut pieces);
            assert!(buffer.bytes.len() <= FREE);
        }
    }

    #[tokio::test]
    async fn a_connection_that_waits_has_no_buffer() {
        let (mut client, mut server) = tokio::io::duplex(1 << 20);
        let mut buffer = Buffer::new(Room::new());
        for _ in 0..10 {
            let lines = b"<1>x\n".repeat(10_000);
            tokio::io::AsyncWriteExt::write_all(&mut client, &lines).await.unwrap();
            buffer.read(&mut server).await.unwrap();
            buffer.take(true, &mut Vec::new());
        }
        while buffer.read(&mut server).await.unwrap() == buffer.size {
            buffer.take(true, &mut Vec::new());
        }
        buffer.take(true, &mut Vec::new());
        let waiting = buffer.read(&mut server);
        tokio::time::timeout(std::time::Duration::from_millis(10), waiting).await.unwrap_err();
        assert!(buffer.bytes.capacity() < 64, "{}", buffer.bytes.capacity());
    }
}
