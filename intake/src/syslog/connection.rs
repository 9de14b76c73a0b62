//! One connection.
//!
//! Syslog has no acknowledgement: what the kernel took, a sender takes for delivered. So little is kept that is not
//! durable: of complete messages at most [`UNACKNOWLEDGED`] bytes and what one read brought, one message that is
//! not complete, lines of databases that wait for more, and what is in the kernel's buffer. Beyond, the connection is not read, and the sender waits.

use std::collections::VecDeque;
use std::future::{Future as _, pending};
use std::mem::take;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use service::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until, timeout};

use super::buffer::Buffer;
use super::framing::Piece;
use super::lookup::{Lookup, NotFound};
use super::room::Room;
use super::senders::{Received, Sender, Senders};
use super::slots::Slot;
use crate::Intake;
use crate::lanes::Durable;
use crate::quota::Quotas;

/// Bytes of a connection's messages that may wait in the lanes while it is read.
const UNACKNOWLEDGED: usize = 1 << 20;
/// How often it is asked whether who is not known may stay.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long a sender has to see that the connection is closed.
const GOODBYE: Duration = Duration::from_millis(300);

/// A connection, and who sends in it.
pub(crate) struct Connection {
    intake: Intake,
    shutdown: Shutdown,
    senders: Senders,
    slot: Slot,
    room: Room,
    submitted: Submitted,
}

/// What was submitted and may not be durable yet.
#[derive(Debug, Default)]
struct Submitted {
    waiting: VecDeque<(Durable, usize)>,
    bytes: usize,
}

impl Connection {
    pub(crate) fn new(
        intake: Intake,
        shutdown: Shutdown,
        lookup: Lookup,
        slot: Slot,
        room: Room,
    ) -> Self {
        let senders = Senders::new(intake.clone(), lookup, room.clone());
        Self { intake, shutdown, senders, slot, room, submitted: Submitted::default() }
    }

    /// Whether its client certificate, if it has one, is that of a source.
    pub(crate) async fn certificate_is_known(&self) -> Result<(), NotFound> {
        self.senders.certificate_is_known().await
    }

    /// Reads until the sender closes or the shutdown is requested, and waits until what came is durable.
    pub(crate) async fn run<S>(mut self, mut stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut buffer = Buffer::new(self.room.clone());
        let (mut ends_at, mut asks_at) = (None, self.slot.known_by());
        loop {
            // Losing the read loses nothing, and the others are only waited for.
            let is_end = tokio::select! {
                // An error is an end like any other: what came before it counts.
                read = buffer.read(&mut stream) => !matches!(read, Ok(1..)),
                () = self.shutdown.requested(), if ends_at.is_none() => {
                    // A sender that sees the end sends no more; what it has sent until then is read.
                    timeout(GOODBYE, stream.shutdown()).await.ok();
                    ends_at = Some(Instant::now() + GOODBYE);
                    false
                }
                () = at(ends_at) => true,
                () = sleep_until(asks_at), if !self.senders.are_known() => {
                    asks_at = Instant::now() + ASK_EVERY;
                    let is_in_the_way = self.slot.are_short();
                    if is_in_the_way {
                        tracing::info!(
                            "a syslog connection is closed: none of its messages was accepted in time, \
                             and others need its place"
                        );
                    }
                    is_in_the_way
                }
                () = at(self.senders.complete_at()) => {
                    self.senders.complete(false);
                    false
                }
            };
            let mut pieces = Vec::new();
            let bytes = buffer.take(self.senders.are_known(), &mut pieces);
            self.take(&bytes, pieces).await;
            if is_end {
                let mut pieces = Vec::new();
                let bytes = buffer.end(&mut pieces);
                self.take(&bytes, pieces).await;
                self.senders.complete(true);
            }
            self.senders.settle();
            self.submit().await;
            buffer.submitted();
            if is_end || self.senders.are_refused() {
                break;
            }
            self.submitted.wait_until(UNACKNOWLEDGED).await;
        }
        if self.senders.are_refused() {
            tracing::info!("a syslog connection is closed: none of its last messages was accepted");
        }
        drop(stream);
        self.submitted.wait_until(0).await;
    }

    async fn take(&mut self, bytes: &Bytes, pieces: Vec<Piece>) {
        let mut received = Received::new(bytes);
        for piece in pieces {
            if self.senders.are_refused() {
                return;
            }
            self.senders.take(piece, &mut received).await;
        }
    }

    async fn submit(&mut self) {
        for sender in self.senders.with_events() {
            // When the process stops, what has come is taken: nobody would send it again.
            tokio::select! {
                () = wait(&self.intake.quotas, sender) => {}
                () = self.shutdown.requested() => {}
            }
            let (events, bytes) = (take(&mut sender.events), take(&mut sender.bytes));
            let lanes = &self.intake.lanes;
            let durable = lanes.submit_events(&sender.source, &sender.producer, events).await;
            self.submitted.push(durable, bytes);
        }
        self.senders.forget();
    }
}

/// Waits for the quota, for no more at a time than it has at once.
async fn wait(quotas: &Quotas, sender: &Sender) {
    let bursts = [sender.source.quota().1, sender.source.environment_quota().1];
    let bursts = bursts.into_iter().flatten().filter_map(|burst| usize::try_from(burst).ok());
    let burst = bursts.min().unwrap_or(usize::MAX).max(1);
    let mut rest = sender.bytes;
    while rest > 0 {
        let some = rest.min(burst);
        quotas.wait(&sender.source, some).await;
        rest -= some;
    }
}

/// Waits until then, if ever.
pub(crate) async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}

impl Submitted {
    fn push(&mut self, durable: Durable, bytes: usize) {
        self.waiting.push_back((durable, bytes));
        self.bytes += bytes;
    }

    /// Waits until no more bytes than these are not durable.
    async fn wait_until(&mut self, bytes: usize) {
        while let Some((durable, length)) = self.waiting.front_mut() {
            let is_ready =
                Pin::new(&mut *durable).poll(&mut Context::from_waker(Waker::noop())).is_ready();
            if !is_ready {
                if self.bytes <= bytes && bytes > 0 {
                    return;
                }
                // A failure means that the process ends.
                durable.await.ok();
            }
            self.bytes -= *length;
            self.waiting.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
