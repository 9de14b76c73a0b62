//! Lines in the pieces of a container's log, from a position on (pure).
//!
//! Invariants: a piece that the position covers gives nothing; every other byte is in a line once; the position
//! never passes a byte of a line that was not given yet.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher as _};
use std::time::Instant;

use bytes::{Buf as _, Bytes, BytesMut};
use model::{Fields, LogLine, OutputStream, Timestamp};

use super::frames::Piece;
use super::position::{Position, Taken};
use crate::formats::{COMPLETE_AFTER, Reader};
use crate::lanes::{LINE_LIMIT, boundary};

/// The lines of a container.
#[derive(Debug)]
pub(super) struct Lines {
    outputs: [Output; 2],
    fields: Fields,
}

#[derive(Debug)]
struct Output {
    kind: OutputStream,
    /// What is still to be skipped: earlier pieces, and so many bytes of those at a time.
    skip: Option<Taken>,
    /// After all that was read.
    read: Option<Taken>,
    /// After the last line that was complete.
    complete: Option<Taken>,
    /// After the last line that was given.
    given: Option<Taken>,
    /// The time of the first piece after that.
    open_at: Option<u64>,
    /// What to know a repeat by.
    seen: Seen,
    line: BytesMut,
    line_at: u64,
    is_rest: bool,
    reader: Reader,
    /// When the last line was complete, and when Docker read it.
    last_line: Instant,
    given_at: u64,
}

impl Lines {
    /// After a position. `engine` is that of a database; every line has the fields.
    pub(super) fn new(position: &Position, engine: Option<&str>, fields: Fields) -> Self {
        let output = |output| {
            let taken = position.of(output);
            Output {
                kind: output,
                skip: taken,
                read: taken,
                complete: taken,
                given: taken,
                open_at: None,
                seen: Seen::default(),
                line: BytesMut::new(),
                line_at: 0,
                is_rest: false,
                reader: Reader::new(engine),
                last_line: Instant::now(),
                given_at: 0,
            }
        };
        Self { outputs: [output(OutputStream::Stdout), output(OutputStream::Stderr)], fields }
    }

    /// Takes a piece; appends lines that it completes.
    pub(super) fn push(&mut self, piece: Piece, lines: &mut Vec<LogLine>) {
        let fields = &self.fields;
        if let Some(output) = self.outputs.iter_mut().find(|known| known.kind == piece.output) {
            output.push(piece, fields, lines);
        }
    }

    /// When to call [`Self::complete`] next, if nothing else comes.
    pub(super) fn complete_at(&self) -> Option<Instant> {
        let waiting = self.outputs.iter().filter(|output| output.reader.is_waiting());
        waiting.map(|output| output.last_line + COMPLETE_AFTER).min()
    }

    /// Appends what waits for more lines and has waited long enough.
    pub(super) fn complete(&mut self, lines: &mut Vec<LogLine>) {
        for output in &mut self.outputs {
            if output.reader.is_waiting() && output.last_line.elapsed() >= COMPLETE_AFTER {
                output.flush(lines);
            }
        }
    }

    /// Appends what waits for more lines, and was written long enough ago.
    pub(super) fn complete_old(&mut self, lines: &mut Vec<LogLine>) {
        for output in &mut self.outputs {
            let age = Timestamp::now().since(Timestamp::from_nanos(output.given_at));
            if output.reader.is_waiting() && age >= COMPLETE_AFTER {
                output.flush(lines);
            }
        }
    }

    /// Appends what there is, for nothing follows: lines without an end, too.
    pub(super) fn finish(&mut self, lines: &mut Vec<LogLine>) {
        for output in &mut self.outputs {
            output.end_line(&self.fields, lines);
            output.flush(lines);
        }
    }

    /// Writes down up to where the lines that were given reach.
    pub(super) fn mark(&self, position: &mut Position) {
        for output in &self.outputs {
            position.set(output.kind, output.taken());
        }
    }
}

impl Output {
    fn push(&mut self, piece: Piece, fields: &Fields, lines: &mut Vec<LogLine>) {
        let Some(piece) = self.skip(piece) else { return };
        if let (Some(read), true) = (self.read, self.line.is_empty() || piece.at < self.line_at)
            && let Some(before) = self.seen.find(&piece, read)
        {
            self.skip = Some(Taken { bytes: read.bytes - before, ..read });
            self.skip(piece);
            return;
        }
        self.seen.add(&piece, self.read);
        let Piece { at, mut text, .. } = piece;
        // Pieces of one line have one time. A container that was stopped may leave a line without an end.
        if !self.line.is_empty() && self.line_at != at {
            self.end_line(fields, lines);
        }
        self.open_at.get_or_insert(at);
        self.line_at = at;
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        self.read = Some(match self.read {
            Some(read) if read.at == at => Taken { bytes: read.bytes + length, ..read },
            _ => Taken { at, bytes: length, more: false },
        });
        let ends = text.last() == Some(&b'\n');
        if ends {
            text.truncate(text.len() - 1);
        }
        self.extend(&text, u64::from(ends), fields, lines);
        if ends {
            if self.line.last() == Some(&b'\r') {
                self.line.truncate(self.line.len() - 1);
            }
            self.give(fields, false, self.read, lines);
        }
    }

    /// What of a piece was not taken before.
    fn skip(&mut self, mut piece: Piece) -> Option<Piece> {
        let Some(skip) = &mut self.skip else { return Some(piece) };
        if piece.at < skip.at {
            self.seen.note(piece.at);
            return None;
        }
        if piece.at == skip.at {
            let length = u64::try_from(piece.text.len()).unwrap_or(u64::MAX);
            let skipped = length.min(skip.bytes);
            if skipped == length {
                let bytes = self.read.map_or(0, |read| read.bytes) - skip.bytes;
                self.seen.add(&piece, Some(Taken { bytes, ..*skip }));
            }
            skip.bytes -= skipped;
            piece.text.advance(usize::try_from(skipped).unwrap_or(usize::MAX));
        }
        if piece.at > skip.at || skip.bytes == 0 {
            self.skip = None;
        }
        (!piece.text.is_empty()).then_some(piece)
    }

    /// Adds to the line, of which whole pieces are given when it is too long; so many bytes follow.
    fn extend(&mut self, text: &[u8], follow: u64, fields: &Fields, lines: &mut Vec<LogLine>) {
        self.line.extend_from_slice(text);
        while self.line.len() > LINE_LIMIT {
            let rest = self.line.split_off(boundary(&self.line, LINE_LIMIT));
            let left = follow + u64::try_from(rest.len()).unwrap_or(u64::MAX);
            let after = self.read.map(|read| Taken { bytes: read.bytes - left, ..read });
            self.give(fields, true, after, lines);
            self.line = rest;
            self.is_rest = true;
            self.open_at.get_or_insert(self.line_at);
        }
    }

    /// The line is over, with or without an end.
    fn end_line(&mut self, fields: &Fields, lines: &mut Vec<LogLine>) {
        if !self.line.is_empty() {
            self.give(fields, false, self.read, lines);
        }
    }

    fn give(
        &mut self,
        fields: &Fields,
        continued: bool,
        after: Option<Taken>,
        lines: &mut Vec<LogLine>,
    ) {
        let is_rest = std::mem::replace(&mut self.is_rest, false);
        let line = LogLine {
            text: Bytes::from(self.line.split()),
            stream: Some(self.kind),
            sent_at: Some(Timestamp::from_nanos(self.line_at)),
            continued,
            // They belong to all of a line, and come with its first piece.
            fields: if is_rest { Fields::default() } else { fields.clone() },
            ..LogLine::default()
        };
        let (before, count) = (self.complete, lines.len());
        self.complete = after;
        self.last_line = Instant::now();
        self.given_at = self.line_at;
        self.reader.push(line, lines);
        if !self.reader.is_waiting() {
            self.given = after;
            self.open_at = None;
        } else if lines.len() > count {
            // What was given ended before this line, which waits.
            self.given = before;
            self.open_at = Some(self.line_at);
        }
    }

    fn flush(&mut self, lines: &mut Vec<LogLine>) {
        if self.reader.is_waiting() {
            self.reader.flush(lines);
        }
        self.given = self.complete;
        self.open_at = (!self.line.is_empty()).then_some(self.line_at);
    }

    fn taken(&self) -> Option<Taken> {
        match (self.given, self.open_at) {
            (None, None) => None,
            (None, Some(at)) => Some(Taken { at, bytes: 0, more: true }),
            (Some(given), open) => Some(Taken { more: open.is_some(), ..given }),
        }
    }
}

/// What was read of an output not long ago.
///
/// When a log is rotated, Docker 20.10 may begin the new file again that it was in the middle of. The clock may
/// also have been set back; then the times are not known.
#[derive(Debug, Default)]
struct Seen {
    /// Times of pieces before the last.
    times: VecDeque<u64>,
    /// Of pieces with the last time: a hash, and the bytes with that time before it.
    last: VecDeque<(u64, u64)>,
}

impl Seen {
    /// Far more than Docker reads between a rotation and when it learns of it.
    const TIMES: usize = 16 << 10;
    /// A line of 2 MiB.
    const LAST: usize = 128;

    /// If a piece was read before: how many bytes with the time of what was read last had been, then.
    fn find(&self, piece: &Piece, read: Taken) -> Option<u64> {
        if piece.at < read.at {
            return self.times.contains(&piece.at).then_some(0);
        }
        let hash = hash(&piece.text);
        let mut same = self.last.iter().rev().filter(|_| piece.at == read.at);
        same.find(|(known, _)| *known == hash).map(|(_, before)| *before)
    }

    fn note(&mut self, at: u64) {
        if self.times.len() == Self::TIMES {
            self.times.pop_front();
        }
        self.times.push_back(at);
    }

    /// `read` is what was read before it.
    fn add(&mut self, piece: &Piece, read: Option<Taken>) {
        let read = read.unwrap_or_default();
        if read.at != piece.at {
            self.last.clear();
            self.note(read.at);
        }
        if self.last.len() == Self::LAST {
            self.last.pop_front();
        }
        let before = if read.at == piece.at { read.bytes } else { 0 };
        self.last.push_back((hash(&piece.text), before));
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests;
