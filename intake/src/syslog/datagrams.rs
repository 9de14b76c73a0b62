//! Datagrams: over UDP, or from programs of this machine.
//!
//! One datagram is one message. Nobody can be told to wait: what is over the quota, or finds no room, is dropped,
//! and a record in the stream says how many lines are missing.

use std::io;
use std::mem::take;
use std::time::Duration;

use bytes::BytesMut;
use model::Event;
use service::Shutdown;
use tokio::net::{UdpSocket, UnixDatagram};
use tokio::time::Instant;

use super::connection::at;
use super::framing::Piece;
use super::lookup::Lookup;
use super::room::Room;
use super::senders::{Received, Sender, Senders};
use crate::Intake;

/// Bytes of a datagram at most. Over UDP it cannot have as many.
const LONGEST: usize = 256 << 10;
/// What is submitted together.
const MOST_BYTES: usize = 64 << 10;
const MOST_DATAGRAMS: usize = 512;
/// A source's losses are told no more often.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How often is looked for more when the process stops: whoever goes on sending cannot hold it up.
const LAST_LOOKS: usize = 100;
/// After an error of a socket.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket that datagrams come to.
#[derive(Debug)]
pub(crate) enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Socket {
    async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.readable().await,
            Self::Unix(socket) => socket.readable().await,
        }
    }

    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Udp(socket) => socket.try_recv(buffer),
            Self::Unix(socket) => socket.try_recv(buffer),
        }
    }
}

/// Takes datagrams until the shutdown is requested.
pub(crate) async fn run(socket: Socket, intake: Intake, shutdown: Shutdown, room: Room) {
    let mut senders = Senders::new(intake.clone(), Lookup::of_datagrams(intake.clone()), room);
    let mut buffer = vec![0; LONGEST];
    let mut is_last = false;
    while !is_last {
        let next = senders.with_losses().map(|sender| tell_at(sender)).min();
        // These are only waited for.
        tokio::select! {
            ready = socket.readable() => if ready.is_err() {
                tokio::time::sleep(PAUSE).await;
            },
            // What the kernel has is still taken.
            () = shutdown.requested() => is_last = true,
            () = at(next) => {}
            () = at(senders.complete_at()) => {}
        }
        for _ in 0..LAST_LOOKS {
            let (bytes, pieces, is_all) = receive(&socket, &mut buffer);
            let bytes = bytes.freeze();
            let mut received = Received::new(&bytes);
            for piece in pieces {
                senders.take(piece, &mut received).await;
            }
            senders.complete(is_last);
            senders.settle();
            for sender in senders.with_events() {
                submit(&intake, sender);
            }
            if is_all || !is_last {
                break;
            }
        }
        for sender in senders.with_losses() {
            if is_last || tell_at(sender) <= Instant::now() {
                tell(&intake, sender);
            }
        }
        senders.forget();
    }
}

/// Takes the datagrams that are there, up to a bound; whether those were all.
fn receive(socket: &Socket, buffer: &mut [u8]) -> (BytesMut, Vec<Piece>, bool) {
    let (mut bytes, mut pieces) = (BytesMut::new(), Vec::new());
    while bytes.len() < MOST_BYTES && pieces.len() < MOST_DATAGRAMS {
        // An error is that of an earlier answer of ours, and we send none.
        let Ok(length) = socket.try_recv(buffer) else { return (bytes, pieces, true) };
        let datagram = buffer.get(..length).unwrap_or_default();
        let end = datagram.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r' | 0));
        if let Some(end) = end {
            let at = bytes.len();
            bytes.extend_from_slice(datagram.get(..=end).unwrap_or_default());
            pieces.push(Piece { at: at..bytes.len(), begins: true, continued: false });
        }
    }
    (bytes, pieces, false)
}

fn submit(intake: &Intake, sender: &mut Sender) {
    let (mut events, bytes) = (take(&mut sender.events), take(&mut sender.bytes));
    if intake.quotas.try_take(&sender.source, bytes).is_err() {
        let before = events.len();
        events.retain(|event| match event {
            Event::Line(line) => intake.quotas.try_take(&sender.source, line.text.len()).is_ok(),
            _ => true,
        });
        lose(intake, sender, before - events.len());
    }
    if events.is_empty() {
        return;
    }
    let lines = events.len();
    let gap = (sender.lost > 0 && tell_at(sender) <= Instant::now()).then(|| gap(sender));
    let is_told = gap.is_some();
    let events = gap.into_iter().chain(events).collect();
    if intake.lanes.try_submit(&sender.source, &sender.producer, events).is_none() {
        lose(intake, sender, lines);
    } else if is_told {
        told(sender);
    }
}

fn lose(intake: &Intake, sender: &mut Sender, lines: usize) {
    sender.lost += lines as u64;
    intake.counts.dropped(sender.source.id(), lines);
}

/// Tells of what was lost, where nothing follows.
fn tell(intake: &Intake, sender: &mut Sender) {
    let told_of = vec![gap(sender)];
    if intake.lanes.try_submit(&sender.source, &sender.producer, told_of).is_some() {
        told(sender);
    } else {
        sender.told_at = Some(Instant::now());
    }
}

fn told(sender: &mut Sender) {
    (sender.lost, sender.told_at) = (0, Some(Instant::now()));
}

fn gap(sender: &Sender) -> Event {
    let reason = "datagrams came faster than the quota allows, or than they could be recorded";
    Event::Gap { lines: sender.lost, reason: reason.to_owned() }
}

fn tell_at(sender: &Sender) -> Instant {
    sender.told_at.map_or_else(Instant::now, |at| at + TELL_EVERY)
}
