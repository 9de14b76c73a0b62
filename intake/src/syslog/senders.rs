//! From the messages of a connection, or of a datagram socket, to the lines of sources.
//!
//! Every message has a token, or its connection a client certificate. Mostly a message begins as the one before:
//! then neither its head is read again, nor its token looked up.
//!
//! Invariants: a source that was disabled, or whose token was rotated, writes nothing more [`GOOD_FOR`] after that
//! is known to `sources`; and when what was read is dealt with, all that is kept of senders has room, but for the
//! first [`FREE`] of them and what is to be submitted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::{Event, Fields, FieldsPacker, LogLine, Timestamp};
use tokio::time::Instant;

use super::buffer::LARGE;
use super::framing::Piece;
use super::lookup::{Lookup, NotFound};
use super::message::{Form, Today, parse_unusual, severity};
use super::room::{Room, Share};
use super::usual;
use crate::Intake;
use crate::formats::{COMPLETE_AFTER, COMPLETE_WITHIN, Reader};
use crate::lanes::Producer;
use crate::sources::{Refused, Source, is_token};

const GOOD_FOR: Duration = Duration::from_secs(1);
/// A connection that has had more tokens forgets them all.
const MOST: usize = 1000;
/// So many senders every connection may have; more take room, or are forgotten.
const FREE: usize = 16;
/// What a sender takes, with its token and its producer.
const SENDER_BYTES: usize = 1 << 10;
/// A connection is of no use after so many refused messages in a row.
const REFUSED_IN_A_ROW: usize = 100;
const PACKED_TOGETHER: usize = 8 << 10;

/// Those who send in one connection, or to one datagram socket.
pub(crate) struct Senders {
    intake: Intake,
    lookup: Lookup,
    /// By token; the certificate's is without one.
    by_token: HashMap<Option<String>, usize>,
    all: Vec<Sender>,
    last: Option<Last>,
    /// Whose the message is that goes on, if anybody's.
    within: Option<usize>,
    refused: usize,
    /// Somebody's token was good.
    are_known: bool,
    room: Room,
    /// For the senders beyond the first.
    many: Share,
    /// There is none for them.
    are_too_many: bool,
}

/// A source, and what of its lines is not submitted yet.
pub(crate) struct Sender {
    pub(crate) source: Arc<Source>,
    pub(crate) producer: Arc<Producer>,
    pub(crate) events: Vec<Event>,
    /// Bytes of messages that the events are of.
    pub(crate) bytes: usize,
    /// Of a database.
    reader: Option<Reader>,
    good_until: Instant,
    /// Since when the reader has what waits.
    waiting_since: Option<Instant>,
    /// When that is complete.
    complete_at: Option<Instant>,
    /// For what waits.
    waiting: Share,
    /// Datagrams that were dropped and not told of.
    pub(crate) lost: u64,
    pub(crate) told_at: Option<Instant>,
}

/// The head of the last message, so that the next one need not be read.
struct Last {
    form: Form,
    facility: Option<u8>,
    head: Bytes,
    fields: Fields,
    sender: usize,
}

/// What a message's bytes are in, and when they came.
pub(crate) struct Received<'a> {
    pub(crate) bytes: &'a Bytes,
    now: Instant,
    today: Today,
    fields: FieldsPacker,
}

impl<'a> Received<'a> {
    pub(crate) fn new(bytes: &'a Bytes) -> Self {
        let packed_together = if bytes.len() >= LARGE { PACKED_TOGETHER } else { 0 };
        Self {
            bytes,
            now: Instant::now(),
            today: Today::new(Timestamp::now()),
            fields: FieldsPacker::with_capacity(packed_together),
        }
    }
}

impl Senders {
    pub(crate) fn new(intake: Intake, lookup: Lookup, room: Room) -> Self {
        Self {
            intake,
            lookup,
            by_token: HashMap::new(),
            all: Vec::new(),
            last: None,
            within: None,
            refused: 0,
            are_known: false,
            many: room.share(),
            room,
            are_too_many: false,
        }
    }

    /// Takes a message, or a piece of one. What is refused is counted.
    pub(crate) async fn take(&mut self, piece: Piece, received: &mut Received<'_>) {
        if !piece.begins {
            let Some(sender) = self.within else { return };
            self.within = piece.continued.then_some(sender);
            let text = received.bytes.slice(piece.at.clone());
            let line = LogLine { continued: piece.continued, ..LogLine::plain(text) };
            self.add(sender, line, piece.at.len(), received.now);
            return;
        }
        let found = match self.as_last(&piece, received) {
            Some(found) => Some(found),
            None => self.read(&piece, received).await,
        };
        let Some((sender, mut line)) = found else {
            self.within = None;
            self.refused += 1;
            return;
        };
        self.refused = 0;
        self.within = piece.continued.then_some(sender);
        line.continued = piece.continued;
        self.add(sender, line, piece.at.len(), received.now);
    }

    /// Whether too many messages were refused in a row.
    pub(crate) const fn are_refused(&self) -> bool {
        self.refused >= REFUSED_IN_A_ROW
    }

    /// Whether anybody has said who he is.
    pub(crate) const fn are_known(&self) -> bool {
        self.lookup.has_certificate() || self.are_known
    }

    /// Whether the client certificate, if there is one, is that of a source.
    pub(crate) async fn certificate_is_known(&self) -> Result<(), NotFound> {
        if self.lookup.has_certificate() {
            self.lookup.find(None).await?;
        }
        Ok(())
    }

    /// Those who have something to be submitted.
    pub(crate) fn with_events(&mut self) -> impl Iterator<Item = &mut Sender> {
        self.all.iter_mut().filter(|sender| !sender.events.is_empty())
    }

    /// Those of whom datagrams were dropped.
    pub(crate) fn with_losses(&mut self) -> impl Iterator<Item = &mut Sender> {
        self.all.iter_mut().filter(|sender| sender.lost > 0)
    }

    /// When the first of the lines that wait for more is complete.
    pub(crate) fn complete_at(&self) -> Option<Instant> {
        self.all.iter().filter_map(|sender| sender.complete_at).min()
    }

    /// Completes the lines that have waited long enough, or all.
    pub(crate) fn complete(&mut self, all: bool) {
        let now = Instant::now();
        for sender in &mut self.all {
            if sender.complete_at.is_some_and(|at| all || at <= now) {
                sender.complete();
            }
        }
    }

    /// Takes room for what waits for more lines; where there is none, it is complete as it is. Between messages
    /// of one read that is not asked for: what they add is no more than was read.
    pub(crate) fn settle(&mut self) {
        for sender in &mut self.all {
            let bytes = sender.reader.as_mut().map_or(0, Reader::keep);
            if !sender.waiting.hold(bytes) {
                sender.complete();
                sender.waiting.hold(0);
            }
        }
        let more = self.all.len().saturating_sub(FREE);
        self.are_too_many = self.all.len() > MOST || !self.many.hold(more * SENDER_BYTES);
        if self.are_too_many {
            self.complete(true);
        }
    }

    /// The line of a message that begins as the last one did.
    fn as_last(&self, piece: &Piece, received: &Received<'_>) -> Option<(usize, LogLine)> {
        let last = self.last.as_ref()?;
        if self.all.get(last.sender)?.good_until <= received.now {
            return None;
        }
        let message = received.bytes.get(piece.at.clone())?;
        let opening = usual::opening(message, received.today)?;
        if opening.form != last.form
            || Some(opening.priority >> 3) != last.facility
            || !message.get(opening.head..)?.starts_with(&last.head)
        {
            return None;
        }
        let text = usual::text(last.form, message, opening.head + last.head.len())?;
        let line = LogLine {
            text: received.bytes.slice(piece.at.start + text..piece.at.end),
            severity: severity(opening.priority),
            sent_at: opening.sent_at,
            fields: last.fields.clone(),
            ..LogLine::default()
        };
        Some((last.sender, line))
    }

    async fn read(
        &mut self,
        piece: &Piece,
        received: &mut Received<'_>,
    ) -> Option<(usize, LogLine)> {
        let bytes = received.bytes.get(piece.at.clone())?;
        let (message, usual) = match usual::parse(bytes, received.today) {
            Some((message, form, head)) => (message, bytes.get(head).map(|head| (form, head))),
            None => (parse_unusual(bytes, received.today), None),
        };
        let token = message.head.token();
        let sender = self.sender(token, received.now).await?;
        message.head.pack(message.facility, token, &mut received.fields);
        let fields = received.fields.take();
        if message.is_malformed {
            self.intake.counts.malformed(self.all.get(sender)?.source.id(), 1);
        }
        // At a message's end, a head has no space after it that tells where it ends.
        let usual = usual.filter(|(_, head)| head.ends_with(b" "));
        self.last = usual.map(|(form, head)| Last {
            form,
            facility: message.facility,
            head: Bytes::copy_from_slice(head),
            fields: fields.clone(),
            sender,
        });
        let text = received.bytes.slice(piece.at.start + message.text..piece.at.end);
        let line = LogLine {
            // Where it could not be read, its token is still within.
            text: if message.is_malformed { without_tokens(text) } else { text },
            severity: message.severity,
            sent_at: message.sent_at,
            fields,
            ..LogLine::default()
        };
        Some((sender, line))
    }

    /// Whose a message with this token is.
    async fn sender(&mut self, token: Option<&str>, now: Instant) -> Option<usize> {
        let key = token.map(str::to_owned);
        let known = self.by_token.get(&key).copied();
        if let Some(known) = known
            && self.all.get(known).is_some_and(|sender| now < sender.good_until)
        {
            return Some(known);
        }
        let source = match self.lookup.find(token).await {
            Ok(source) => source,
            Err(reason) => {
                tracing::debug!("a message was refused: {reason}");
                if reason == NotFound::Refused(Refused::Unread) {
                    // What it has not sent yet, it sends elsewhere or later.
                    self.refused = REFUSED_IN_A_ROW;
                }
                return None;
            }
        };
        if let Some(sender) = known.and_then(|known| self.all.get_mut(known)) {
            sender.renew(source, now);
            return known;
        }
        self.are_known = true;
        self.by_token.insert(key, self.all.len());
        self.all.push(Sender::new(source, now, &self.room));
        self.all.len().checked_sub(1)
    }

    /// Forgets those who have nothing waiting, when there are too many. Their producers end with that.
    pub(crate) fn forget(&mut self) {
        if !self.are_too_many {
            return;
        }
        if self.all.iter().all(|sender| sender.events.is_empty() && sender.lost == 0) {
            self.all.clear();
            self.by_token.clear();
            (self.last, self.within) = (None, None);
            self.are_too_many = false;
            self.many.hold(0);
        }
    }

    fn add(&mut self, sender: usize, line: LogLine, bytes: usize, now: Instant) {
        let Some(sender) = self.all.get_mut(sender) else { return };
        sender.bytes += bytes;
        let Some(reader) = &mut sender.reader else {
            sender.events.push(event(line));
            return;
        };
        let mut lines = Vec::new();
        reader.push(line, &mut lines);
        if !reader.is_waiting() {
            sender.waiting_since = None;
        } else if sender.waiting_since.is_none() || !lines.is_empty() {
            // Lines leave in their order, so what waits is the new one.
            sender.waiting_since = Some(now);
        }
        let within = sender.waiting_since.map(|since| since + COMPLETE_WITHIN);
        sender.complete_at = within.map(|within| within.min(now + COMPLETE_AFTER));
        sender.events.extend(lines.into_iter().map(event));
    }
}

impl Sender {
    fn new(source: Arc<Source>, now: Instant, room: &Room) -> Self {
        Self {
            producer: source.producer(),
            reader: source.engine().map(|engine| Reader::new(Some(engine))),
            source,
            events: Vec::new(),
            bytes: 0,
            good_until: now + GOOD_FOR,
            waiting_since: None,
            complete_at: None,
            waiting: room.share(),
            lost: 0,
            told_at: None,
        }
    }

    /// What waits for more lines is complete.
    fn complete(&mut self) {
        (self.waiting_since, self.complete_at) = (None, None);
        let mut lines = Vec::new();
        if let Some(reader) = &mut self.reader {
            reader.flush(&mut lines);
        }
        self.events.extend(lines.into_iter().map(event));
    }

    /// It was looked up again.
    fn renew(&mut self, source: Arc<Source>, now: Instant) {
        self.good_until = now + GOOD_FOR;
        if Arc::ptr_eq(&source, &self.source) {
            return;
        }
        // A producer's records say the same of what they are about, which may have changed.
        self.producer = source.producer();
        self.source = source;
    }
}

fn event(line: LogLine) -> Event {
    Event::Line(Box::new(line))
}

/// The text with whatever has the form of a token masked.
fn without_tokens(text: Bytes) -> Bytes {
    let is_letter = |byte: u8| matches!(byte, b'a'..=b'z' | b'2'..=b'7');
    let mut masked = Vec::new();
    let mut at = 0;
    for run in text.chunk_by(|a, b| is_letter(*a) == is_letter(*b)) {
        if std::str::from_utf8(run).is_ok_and(is_token) {
            if masked.is_empty() {
                masked = text.to_vec();
            }
            if let Some(token) = masked.get_mut(at..at + run.len()) {
                token.fill(b'*');
            }
        }
        at += run.len();
    }
    if masked.is_empty() { text } else { masked.into() }
}

#[cfg(test)]
mod tests;
