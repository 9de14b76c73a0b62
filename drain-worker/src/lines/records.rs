//! Records to lines, and how far a drain has got (pure).
//!
//! Invariants: lines of one producer come out in the order of its records; and a checkpoint covers
//! only bytes whose lines came out, so that going on from it loses nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use destinations::Selection;
use log_stream::Position;
use model::{App, Database, Event, Id, Origin, OutputStream, Producer, Record, Source, Timestamp};
use regex::bytes::Regex;
use serde::{Deserialize, Serialize};

use super::{ControlSequences, Cut, Cuts, Cutter, Extras, text};
use joined::JoinedLines;

mod joined;

/// A sender's time that is further from ours is not believed.
const OLDEST: Duration = Duration::from_hours(24);
const AHEAD: Duration = Duration::from_mins(10);

/// A stream of a session whose bytes are cut into lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Channel {
    Stdout,
    Stderr,
    Input,
}

impl Channel {
    const ALL: [Self; 3] = [Self::Stdout, Self::Stderr, Self::Input];

    const fn of(stream: OutputStream) -> Self {
        match stream {
            OutputStream::Stdout => Self::Stdout,
            OutputStream::Stderr => Self::Stderr,
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => OutputStream::Stdout.as_str(),
            Self::Stderr => OutputStream::Stderr.as_str(),
            Self::Input => "input",
        }
    }
}

/// Which bytes of its stream, or of its event's text, a line has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// None where it is a piece of an event.
    pub(crate) channel: Option<Channel>,
    /// Bytes before these.
    pub(crate) offset: u64,
    /// Bytes that the line stands for, its end and what was taken out included.
    pub(crate) length: u64,
    /// The line goes on with the next offset.
    pub(crate) continued: bool,
}

/// What is delivered.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    pub(crate) origin: &'a Arc<Origin>,
    /// The record's number; of several records, the first's.
    pub(crate) seq: u64,
    /// The record's time; of several records, the first's.
    pub(crate) at: Timestamp,
    pub(crate) event: &'static str,
    pub(crate) span: Option<Span>,
    pub(crate) message: &'a [u8],
    pub(crate) extras: Extras<'a>,
}

impl Line<'_> {
    /// When it was written, by the sender's clock if that can be; else when it was recorded. Vendors drop what is
    /// from another day.
    pub(crate) fn time(&self) -> Timestamp {
        let is_likely =
            |sent: &Timestamp| self.at.since(*sent) <= OLDEST && sent.since(self.at) <= AHEAD;
        self.extras.said.sent_at.filter(is_likely).unwrap_or(self.at)
    }

    /// The stream that it was written to, if that is known.
    pub(crate) fn channel(&self) -> Option<Channel> {
        let of_span = self.span.and_then(|span| span.channel);
        of_span.or(self.extras.said.stream.map(Channel::of))
    }

    /// Whether it goes on in the next line.
    pub(crate) fn is_continued(&self) -> bool {
        self.extras.said.continued || self.span.is_some_and(|span| span.continued)
    }

    /// Appends the line's id. It is the same whenever the same bytes are delivered: were the end not
    /// in it, a receiver that drops repeats would drop the tail of a line that was cut at another place
    /// at its first delivery, before the drain's options were changed.
    pub(crate) fn write_id(&self, out: &mut Vec<u8>) {
        let mut producer = [0; uuid::fmt::Hyphenated::LENGTH];
        let producer = self.origin.producer.uuid().hyphenated().encode_lower(&mut producer);
        out.extend_from_slice(producer.as_bytes());
        self.write_id_in_producer(out);
    }

    /// Appends what follows the producer in it.
    pub(crate) fn write_id_in_producer(&self, out: &mut Vec<u8>) {
        let mut number = itoa::Buffer::new();
        out.push(b':');
        match self.span.and_then(|span| span.channel) {
            Some(channel) => out.extend_from_slice(channel.as_str().as_bytes()),
            None => out.extend_from_slice(number.format(self.seq).as_bytes()),
        }
        if let Some(last) = self.extras.said.last_seq {
            out.push(b'-');
            out.extend_from_slice(number.format(last).as_bytes());
        }
        if let Some(Span { offset, length, .. }) = self.span {
            out.push(b':');
            out.extend_from_slice(number.format(offset).as_bytes());
            out.push(b'-');
            out.extend_from_slice(number.format(offset + length).as_bytes());
        }
    }
}

/// The first undelivered offset of each open line.
pub(crate) type OpenOffsets = BTreeMap<Id<Producer>, BTreeMap<Channel, u64>>;

/// How far a drain has got: all of a block at or below `low` is delivered; between `low` and `high`
/// all but what `open` names and what follows it in its stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Checkpoint {
    pub(crate) low: Position,
    pub(crate) high: Position,
    pub(crate) open: OpenOffsets,
}

/// What a drain wants of the records.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) sources: Vec<Source>,
    /// What was done, and nothing that was printed or typed.
    pub(crate) events_only: bool,
    pub(crate) cuts: Cuts,
    pub(crate) control_sequences: ControlSequences,
    /// Bytes of open lines of all producers together; past it the oldest is delivered as it is.
    pub(crate) open_limit: usize,
    /// The apps and databases whose records it takes.
    pub(crate) apps: Option<Selection<App>>,
    pub(crate) databases: Option<Selection<Database>>,
    /// Lines of output that it does not match go on the line before.
    pub(crate) multiline_start: Option<Regex>,
}

impl Wanted {
    fn takes(&self, record: &Record) -> bool {
        let origin = &record.origin;
        let is_wanted = match record.event {
            // A window that is dragged has a hundred sizes.
            Event::Output { .. }
            | Event::Pause { .. }
            | Event::Input { .. }
            | Event::Resize { .. } => !self.events_only,
            Event::Line(_) => !self.events_only || origin.source == Source::Activity,
            _ => true,
        };
        let app = origin.app.as_ref().zip(self.apps.as_ref());
        let database = origin.database.as_ref().zip(self.databases.as_ref());
        is_wanted
            && self.sources.contains(&origin.source)
            && app.is_none_or(|(app, apps)| apps.has(app.id))
            && database.is_none_or(|(database, databases)| databases.has(database.id))
    }
}

/// Where something begins.
#[derive(Debug, Clone, Copy)]
struct Begin {
    seq: u64,
    at: Timestamp,
    /// The last block before the one in which it begins.
    before: Position,
}

/// Lines that are delivered as one.
#[derive(Debug)]
struct Joined {
    begin: Begin,
    text: Vec<u8>,
    /// Bytes of the stream.
    length: usize,
    /// The last of them goes on.
    continued: bool,
}

#[derive(Debug)]
struct OpenLine {
    origin: Arc<Origin>,
    /// The first undelivered byte.
    offset: u64,
    /// What stands before the piece in `cutter`.
    joined: Option<Joined>,
    /// Of the piece.
    begin: Begin,
    cutter: Cutter,
}

impl OpenLine {
    /// Bytes of the stream that it holds.
    fn length(&self) -> usize {
        self.joined.as_ref().map_or(0, |joined| joined.length) + self.cutter.pending()
    }

    fn first(&self) -> Begin {
        self.joined.as_ref().map_or(self.begin, |joined| joined.begin)
    }
}

/// Turns the records of one environment into lines.
#[derive(Debug)]
pub(crate) struct Assembler {
    wanted: Wanted,
    open: HashMap<(Id<Producer>, Channel), OpenLine>,
    open_bytes: usize,
    joined: JoinedLines,
    resumed: Checkpoint,
    done: Position,
    current: Position,
}

impl Assembler {
    pub(crate) fn new(wanted: Wanted, from: Checkpoint) -> Self {
        let done = from.low;
        Self {
            wanted,
            open: HashMap::new(),
            open_bytes: 0,
            joined: JoinedLines::default(),
            resumed: from,
            done,
            current: done,
        }
    }

    /// Begins anew there.
    pub(crate) fn resume(&mut self, from: Checkpoint) {
        let joined = self.joined.resumed(from.low);
        *self = Self { joined, ..Self::new(self.wanted.clone(), from) };
    }

    /// Announces the block whose records follow.
    pub(crate) fn begin_block(&mut self, position: Position) {
        self.current = position;
        self.joined.begin_block(position);
    }

    /// All records of the block were pushed.
    pub(crate) fn end_block(&mut self) {
        self.done = self.current;
    }

    /// How far the lines that came out reach; only between blocks. `None` while blocks are read
    /// again that the last checkpoint had seen: that one still holds.
    pub(crate) fn checkpoint(&self) -> Option<Checkpoint> {
        if self.done < self.resumed.high || self.done != self.current {
            return None;
        }
        let mut open = OpenOffsets::new();
        for ((producer, channel), line) in &self.open {
            open.entry(*producer).or_default().insert(*channel, line.offset);
        }
        self.joined.note_open(&mut open);
        let before = self.open.values().map(|line| line.first().before);
        let low = before.chain(self.joined.before()).min().unwrap_or(self.done);
        Some(Checkpoint { low, high: self.done, open })
    }

    /// Takes a record.
    pub(crate) fn push(&mut self, record: &Record, emit: &mut impl FnMut(&Line<'_>)) {
        if !self.wanted.takes(record) {
            return;
        }
        let (channel, offset, bytes) = match &record.event {
            Event::Output { stream, offset, bytes } => (Channel::of(*stream), *offset, bytes),
            // It cuts a line and is none.
            Event::Pause { stream } => {
                return self.close(record.origin.producer, Channel::of(*stream), emit);
            }
            Event::Input { offset, bytes } => (Channel::Input, *offset, bytes),
            Event::Line(line) => return self.push_line(record, line, emit),
            event => {
                if matches!(event, Event::Container(_) | Event::Gap { .. }) {
                    self.close_lines(record.origin.producer, emit);
                }
                if matches!(event, Event::Exit(_) | Event::SessionEnded { .. }) {
                    for channel in Channel::ALL {
                        self.close(record.origin.producer, channel, emit);
                    }
                }
                if self.current > self.resumed.high {
                    let message = record.message();
                    emit(&Line {
                        origin: &record.origin,
                        seq: record.seq,
                        at: record.at,
                        event: event.name(),
                        span: None,
                        message: &self.wanted.control_sequences.apply(&message),
                        extras: Extras::default(),
                    });
                }
                return;
            }
        };
        self.push_bytes(record, channel, offset, bytes, emit);
    }

    fn push_bytes(
        &mut self,
        record: &Record,
        channel: Channel,
        mut offset: u64,
        mut bytes: &[u8],
        emit: &mut impl FnMut(&Line<'_>),
    ) {
        let producer = record.origin.producer;
        if self.current <= self.resumed.high {
            let from = self.resumed.open.get(&producer).and_then(|open| open.get(&channel));
            let Some(from) = from else { return };
            let skip = usize::try_from(from.saturating_sub(offset)).unwrap_or(usize::MAX);
            let Some(rest) = bytes.get(skip..) else { return };
            (offset, bytes) = (offset + skip as u64, rest);
        }
        if bytes.is_empty() {
            return;
        }
        let key = (producer, channel);
        let here = Begin { seq: record.seq, at: record.at, before: self.done };
        // Mostly there is none.
        let mut open = if self.open.is_empty() { None } else { self.open.remove(&key) };
        if let Some(line) = &open {
            self.open_bytes -= line.length();
        }
        let follows = |line: &OpenLine| line.offset.saturating_add(line.length() as u64) == offset;
        if let Some(line) = open.take_if(|line| !follows(line)) {
            line.close(&self.wanted, channel, emit);
        }
        let mut line = open.unwrap_or_else(|| OpenLine {
            origin: record.origin.clone(),
            offset,
            joined: None,
            begin: here,
            cutter: Cutter::default(),
        });
        let mut cutter = std::mem::take(&mut line.cutter);
        if cutter.pending() == 0 {
            line.begin = here;
        }
        cutter.push(bytes, self.wanted.cuts, |piece, cut| {
            line.piece(&self.wanted, channel, piece, cut, emit);
            // What follows began in this record.
            line.begin = here;
        });
        line.cutter = cutter;
        if line.length() > 0 {
            self.open_bytes += line.length();
            self.open.insert(key, line);
        }
        while self.open_bytes > self.wanted.open_limit
            && let Some(oldest) = self.oldest()
        {
            self.close(oldest.0, oldest.1, emit);
        }
    }

    fn oldest(&self) -> Option<(Id<Producer>, Channel)> {
        // The same one whenever the same records are read.
        let age = |line: &OpenLine| (line.first().before, line.first().at);
        self.open.iter().min_by_key(|(key, line)| (age(line), **key)).map(|(key, _)| *key)
    }

    fn close(
        &mut self,
        producer: Id<Producer>,
        channel: Channel,
        emit: &mut impl FnMut(&Line<'_>),
    ) {
        let Some(line) = self.open.remove(&(producer, channel)) else { return };
        self.open_bytes -= line.length();
        line.close(&self.wanted, channel, emit);
    }
}

impl OpenLine {
    /// Delivers it as it is.
    fn close(mut self, wanted: &Wanted, channel: Channel, emit: &mut impl FnMut(&Line<'_>)) {
        let piece = self.cutter.take();
        if !piece.is_empty() {
            let cut = Cut { length: piece.len(), continued: false };
            self.piece(wanted, channel, &piece, cut, emit);
        }
        self.deliver(channel, emit);
    }

    /// Takes the piece that was cut off, which begins at `begin`: delivers it, or joins it to those before.
    fn piece(
        &mut self,
        wanted: &Wanted,
        channel: Channel,
        piece: &[u8],
        cut: Cut,
        emit: &mut impl FnMut(&Line<'_>),
    ) {
        let text = wanted.control_sequences.apply(text(piece));
        let Some(start) = wanted.multiline_start.as_ref().filter(|_| channel != Channel::Input)
        else {
            let begin = self.begin;
            return self.emit(channel, begin, &text, piece.len(), cut.continued, emit);
        };
        if let Some(joined) = &mut self.joined {
            let begins = !joined.continued && start.is_match(&text);
            if !begins && joined.length + piece.len() <= wanted.cuts.limit {
                if !joined.continued {
                    joined.text.push(b'\n');
                }
                joined.text.extend_from_slice(&text);
                joined.length += piece.len();
                joined.continued = cut.continued;
                return;
            }
            // The limit cuts where a line ends: the rest is the same line still.
            joined.continued = !begins;
            self.deliver(channel, emit);
        }
        self.joined = Some(Joined {
            begin: self.begin,
            text: text.into_owned(),
            length: piece.len(),
            continued: cut.continued,
        });
    }

    /// Delivers what was joined.
    fn deliver(&mut self, channel: Channel, emit: &mut impl FnMut(&Line<'_>)) {
        let Some(Joined { begin, text, length, continued }) = self.joined.take() else { return };
        self.emit(channel, begin, &text, length, continued, emit);
    }

    fn emit(
        &mut self,
        channel: Channel,
        begin: Begin,
        message: &[u8],
        length: usize,
        continued: bool,
        emit: &mut impl FnMut(&Line<'_>),
    ) {
        let length = length as u64;
        emit(&Line {
            origin: &self.origin,
            seq: begin.seq,
            at: begin.at,
            event: if channel == Channel::Input { "input" } else { "output" },
            span: Some(Span { channel: Some(channel), offset: self.offset, length, continued }),
            message,
            extras: Extras::default(),
        });
        self.offset += length;
    }
}

#[cfg(test)]
mod tests;
