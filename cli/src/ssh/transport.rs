//! The connection's bytes, held back while this process's outputs do not keep up.
//!
//! russh's client grants the edge a new window for all that it has read, whether it is written or
//! not, and has no way to grant less; and where the reader of a channel waits, russh's loop waits
//! with it and answers no keep-alive. So the reader of the channel never waits, and it is russh
//! that is given nothing to read while much waits to be written ([`Backlog`]). Its loop goes on:
//! it sends keep-alives, which tell the edge that this end lives, and what is typed.
//!
//! Invariants. Bytes are given to russh only while the backlog has room. The socket is read even
//! so, up to [`AHEAD`], which is more than the window that russh has granted: the edge never waits
//! for this end to read, so that the two cannot wait for each other.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::backlog::Backlog;

/// The channel's window, in bytes: russh grants up to it whenever half of it is used.
pub(super) const WINDOW: u32 = 2 << 20;
/// Most bytes that wait here; twice the window, for what SSH adds to the data.
const AHEAD: usize = 2 * WINDOW as usize;
/// Most bytes of one read.
const PIECE: usize = 64 * 1024;

/// A connection that takes no more than can be written.
#[derive(Debug)]
pub(super) struct Transport<S> {
    stream: S,
    backlog: Arc<Backlog>,
    piece: Box<[u8]>,
    ahead: BytesMut,
    /// How reading from the stream has ended.
    ended: Option<io::Result<()>>,
    max_silence: Duration,
    silence: Pin<Box<Sleep>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Transport<S> {
    /// Fails once the other end has sent nothing for `max_silence`.
    pub(super) fn new(stream: S, backlog: Arc<Backlog>, max_silence: Duration) -> Self {
        Self {
            stream,
            backlog,
            piece: vec![0; PIECE].into(),
            ahead: BytesMut::new(),
            ended: None,
            max_silence,
            silence: Box::pin(sleep(max_silence)),
        }
    }

    /// Reads what there is, as long as there is room, and asks to be woken for more.
    fn read_ahead(&mut self, context: &mut Context<'_>) {
        while self.ended.is_none() && self.ahead.len() < AHEAD {
            let mut piece = ReadBuf::new(&mut self.piece);
            match Pin::new(&mut self.stream).poll_read(context, &mut piece) {
                Poll::Ready(Ok(())) if piece.filled().is_empty() => self.ended = Some(Ok(())),
                Poll::Ready(Ok(())) => {
                    self.ahead.extend_from_slice(piece.filled());
                    self.silence.as_mut().reset(Instant::now() + self.max_silence);
                }
                Poll::Ready(Err(error)) => self.ended = Some(Err(error)),
                Poll::Pending => {
                    if self.silence.as_mut().poll(context).is_pending() {
                        return;
                    }
                    self.ended = Some(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Transport<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = self.backlog.poll_room(context);
        if room.is_pending() || self.ahead.is_empty() {
            self.read_ahead(context);
        }
        if room.is_pending() {
            return Poll::Pending;
        }
        if self.ahead.is_empty() {
            let Some(ended) = &mut self.ended else { return Poll::Pending };
            // After an error, it is the end.
            return Poll::Ready(std::mem::replace(ended, Ok(())));
        }
        let length = self.ahead.len().min(buffer.remaining());
        self.ahead.copy_to_slice(buffer.initialize_unfilled_to(length));
        buffer.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Transport<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if written.is_pending() {
            // russh's loop does not read while it writes.
            self.read_ahead(context);
            if self.ended.is_some() {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::timeout;

    const LONG: Duration = Duration::from_mins(1);
    const MOMENT: Duration = Duration::from_millis(50);
    const MUCH: usize = 8 << 20;

    fn connected(silence: Duration) -> (Transport<DuplexStream>, DuplexStream, Arc<Backlog>) {
        let (near, far) = duplex(1024);
        let backlog = Arc::new(Backlog::default());
        (Transport::new(near, backlog.clone(), silence), far, backlog)
    }

    #[tokio::test]
    async fn held_back_bytes_are_taken_from_the_socket_and_given_later() {
        let (mut transport, mut far, backlog) = connected(LONG);
        backlog.add(MUCH);
        let sent: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let sending = async {
            far.write_all(&sent).await.unwrap();
            far.shutdown().await.unwrap();
        };
        let mut received = vec![0; 10];
        tokio::select! {
            biased;
            _ = transport.read(&mut received) => panic!("it was not held back"),
            () = sending => {}
        }
        backlog.remove(MUCH);
        received.clear();
        transport.read_to_end(&mut received).await.unwrap();
        assert!(received == sent);
    }

    #[tokio::test]
    async fn room_wakes_the_reader() {
        let (mut transport, mut far, backlog) = connected(LONG);
        backlog.add(MUCH);
        far.write_all(b"x").await.unwrap();
        let mut received = [0];
        let (read, ()) = tokio::join!(timeout(LONG, transport.read(&mut received)), async {
            sleep(MOMENT).await;
            backlog.remove(MUCH);
        });
        assert_eq!((read.unwrap().unwrap(), received), (1, *b"x"));
    }

    #[tokio::test]
    async fn no_more_is_taken_than_may_wait() {
        let (mut transport, mut far, backlog) = connected(LONG);
        backlog.add(MUCH);
        let mut taken = 0;
        let sending = async {
            loop {
                taken += far.write(&[0; 1024]).await.unwrap();
            }
        };
        let both = async { tokio::join!(transport.read_u8(), sending) };
        assert!(timeout(MOMENT * 10, both).await.is_err());
        assert!((AHEAD..AHEAD + PIECE).contains(&taken), "{taken}");
    }

    #[tokio::test]
    async fn two_ends_that_write_do_not_wait_for_each_other() {
        let (mut transport, mut far, _) = connected(LONG);
        let bytes = vec![7; 1 << 20];
        let far_end = async {
            far.write_all(&bytes).await.unwrap();
            let mut received = vec![0; bytes.len()];
            far.read_exact(&mut received).await.unwrap();
        };
        let exchange = async { tokio::join!(transport.write_all(&bytes), far_end) };
        timeout(LONG, exchange).await.unwrap().0.unwrap();
    }

    #[tokio::test]
    async fn silence_ends_the_connection_after_what_came_before() {
        let (mut transport, mut far, _) = connected(MOMENT);
        far.write_all(b"x").await.unwrap();
        assert_eq!(transport.read_u8().await.unwrap(), b'x');
        let error = timeout(LONG, transport.read_u8()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
