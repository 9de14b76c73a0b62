//! Lines of apps and databases, and those that are joined to one by a drain's start pattern.
//!
//! Whether a line is joined to the one before depends on their texts and on the times at which they were recorded
//! alone. When nothing follows, the clock delivers the joined line: a moment after that time has passed nothing can
//! be joined to it any more, unless its append takes longer.
//!
//! Invariant: blocks that are read again, after a failed delivery, give the same lines in the same order, for lines are
//! left out by their number then. What the clock delivered is delivered after the same block, and until the last block
//! that was begun is passed, the clock delivers nothing else.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use log_stream::Position;
use model::{Id, LogLine, Origin, Producer, Record, Timestamp};

use super::{Assembler, Begin, Channel, Line, OpenOffsets};
use crate::lines::{Extras, Said};

/// The event of all of them.
const LINE: &str = "line";
/// Lines that were recorded further apart are not joined.
const APART: Duration = Duration::from_secs(1);
/// What the clock has delivered that is known.
const CLOCKED: usize = 1000;
/// What follows within that time is in the stream by then.
const COMPLETE_AFTER: Duration = Duration::from_secs(3);

/// The lines that may go on, of each producer and output.
#[derive(Debug, Default)]
pub(super) struct JoinedLines {
    open: HashMap<Key, JoinedLine>,
    bytes: usize,
    /// What the clock delivered, and after which block.
    clocked: VecDeque<(Position, Key)>,
    /// How many of these were delivered since reading began where it did.
    replayed: usize,
    /// The block of the newest of these that is not known any more.
    forgotten: Position,
    /// The last block of which lines have come out.
    furthest: Position,
}

type Key = (Id<Producer>, Channel);

#[derive(Debug)]
struct JoinedLine {
    origin: Arc<Origin>,
    begin: Begin,
    last_seq: u64,
    last_at: Timestamp,
    /// The first one, with the text of all.
    line: LogLine,
    text: Vec<u8>,
    /// The last one goes on.
    continued: bool,
}

impl JoinedLines {
    /// The last block before each of them.
    pub(super) fn before(&self) -> impl Iterator<Item = Position> {
        self.open.values().map(|line| line.begin.before)
    }

    /// Notes the first record of each, as the first undelivered one.
    pub(super) fn note_open(&self, open: &mut OpenOffsets) {
        for ((producer, channel), line) in &self.open {
            open.entry(*producer).or_default().insert(*channel, line.begin.seq);
        }
    }
}

impl JoinedLines {
    /// What is to be known when blocks after `from` are read again.
    pub(super) fn resumed(&mut self, from: Position) -> Self {
        let mut clocked = std::mem::take(&mut self.clocked);
        clocked.retain(|(position, _)| *position >= from);
        let (forgotten, furthest) = (self.forgotten, self.furthest);
        Self { clocked, forgotten, furthest, ..Self::default() }
    }

    /// The records of this block follow.
    pub(super) fn begin_block(&mut self, position: Position) {
        self.furthest = self.furthest.max(position);
    }
}

impl Assembler {
    /// Whether blocks from there on give the same lines in the same order as before.
    pub(crate) fn repeats_from(&self, from: Position) -> bool {
        self.joined.forgotten < from || self.joined.forgotten == Position::START
    }

    /// When the first of the joined lines is complete, by the clock that records are timed by; only between
    /// blocks.
    pub(crate) fn joined_until(&self) -> Option<Timestamp> {
        if self.done != self.current || self.done < self.joined.furthest {
            return None;
        }
        let last = self.joined.open.values().map(|line| line.last_at).min()?;
        let wait = u64::try_from(COMPLETE_AFTER.as_nanos()).unwrap_or(u64::MAX);
        Some(Timestamp::from_nanos(last.nanos().saturating_add(wait)))
    }

    /// Delivers, before the next block is begun, what the clock had delivered by then when the blocks before it were
    /// read first.
    pub(crate) fn repeat_clocked(&mut self, emit: &mut impl FnMut(&Line<'_>)) {
        while let Some((position, key)) = self.joined.clocked.get(self.joined.replayed).copied()
            && position <= self.done
        {
            self.joined.replayed += 1;
            self.close_line(key, emit);
        }
    }

    /// Delivers the joined lines that are complete by now; only where [`Self::joined_until`] is some time.
    pub(crate) fn deliver_joined(&mut self, now: Timestamp, emit: &mut impl FnMut(&Line<'_>)) {
        self.repeat_clocked(emit);
        let complete = |line: &JoinedLine| now.since(line.last_at) >= COMPLETE_AFTER;
        let mut due: Vec<_> = self
            .joined
            .open
            .iter()
            .filter(|(_, line)| complete(line))
            .map(|(key, line)| (line.begin.before, line.begin.seq, *key))
            .collect();
        due.sort_unstable();
        for (_, _, key) in due {
            self.joined.clocked.push_back((self.done, key));
            self.close_line(key, emit);
        }
        while self.joined.clocked.len() > CLOCKED
            && let Some((position, _)) = self.joined.clocked.pop_front()
        {
            self.joined.forgotten = position;
        }
        self.joined.replayed = self.joined.clocked.len();
    }

    /// Takes a line of an app or a database.
    pub(super) fn push_line(
        &mut self,
        record: &Record,
        line: &LogLine,
        emit: &mut impl FnMut(&Line<'_>),
    ) {
        let channel = line.stream.map_or(Channel::Stdout, Channel::of);
        let key = (record.origin.producer, channel);
        if self.current <= self.resumed.high {
            let open = self.resumed.open.get(&key.0).and_then(|open| open.get(&channel));
            if open.is_none_or(|first| record.seq < *first) {
                return;
            }
        }
        let text = self.wanted.control_sequences.apply(&line.text);
        let Some(start) = &self.wanted.multiline_start else {
            return emit(&Line {
                origin: &record.origin,
                seq: record.seq,
                at: record.at,
                event: LINE,
                span: None,
                message: &text,
                extras: extras(line, line.continued, None),
            });
        };
        if let Some(open) = self.joined.open.get_mut(&key) {
            let fits = open.text.len() + text.len() < self.wanted.cuts.limit;
            let follows = record.at.since(open.last_at) < APART;
            let goes_on = open.continued || follows && !start.is_match(&text);
            if fits && goes_on {
                let before = open.text.len();
                if !open.continued {
                    open.text.push(b'\n');
                }
                open.text.extend_from_slice(&text);
                self.joined.bytes += open.text.len() - before;
                open.continued = line.continued;
                (open.last_seq, open.last_at) = (record.seq, record.at);
                return;
            }
            self.close_line(key, emit);
        }
        let begin = Begin { seq: record.seq, at: record.at, before: self.done };
        self.joined.bytes += text.len();
        let joined = JoinedLine {
            origin: record.origin.clone(),
            begin,
            last_seq: record.seq,
            last_at: record.at,
            text: text.into_owned(),
            // Its bytes would keep those of the whole block.
            line: LogLine { text: Bytes::new(), fields: line.fields.copied(), ..*line },
            continued: line.continued,
        };
        self.joined.open.insert(key, joined);
        while self.joined.bytes > self.wanted.open_limit
            && let Some(oldest) = self.oldest_joined()
        {
            self.close_line(oldest, emit);
        }
    }

    /// Delivers the joined lines of a producer as they are.
    pub(super) fn close_lines(&mut self, producer: Id<Producer>, emit: &mut impl FnMut(&Line<'_>)) {
        if !self.joined.open.is_empty() {
            for channel in Channel::ALL {
                self.close_line((producer, channel), emit);
            }
        }
    }

    fn close_line(&mut self, key: Key, emit: &mut impl FnMut(&Line<'_>)) {
        let Some(open) = self.joined.open.remove(&key) else { return };
        self.joined.bytes -= open.text.len();
        emit(&Line {
            origin: &open.origin,
            seq: open.begin.seq,
            at: open.begin.at,
            event: LINE,
            span: None,
            message: &open.text,
            extras: extras(
                &open.line,
                open.continued,
                Some(open.last_seq).filter(|last| *last > open.begin.seq),
            ),
        });
    }

    fn oldest_joined(&self) -> Option<Key> {
        let age = |line: &JoinedLine| (line.begin.before, line.begin.at);
        self.joined.open.iter().min_by_key(|(key, line)| (age(line), **key)).map(|(key, _)| *key)
    }
}

fn extras(line: &LogLine, continued: bool, last_seq: Option<u64>) -> Extras<'_> {
    let LogLine { stream, sent_at, ref fields, severity, .. } = *line;
    let fields = Some(fields).filter(|fields| !fields.is_empty());
    let said = Said { stream, sent_at, continued, last_seq, fields };
    Extras { severity, said, ..Extras::default() }
}

#[cfg(test)]
mod tests;
