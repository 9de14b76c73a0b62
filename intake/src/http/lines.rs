//! What a request says, line by line: the good ones, and which are not and why.

use std::fmt;

use model::LogLine;
use serde::{Deserialize, Serialize};

use super::Refusal;
use super::memory::Held;

/// What a line takes besides its text and its fields, about.
const LINE_BYTES: usize = 256;
/// Room for lines is taken in pieces of this many bytes.
const PIECE: usize = 64 << 10;
/// Bad lines that are named.
const NAMED: usize = 20;

/// Bytes that the lines of a request may take at most, where bodies have at most this many: what is said once
/// for many lines is kept with each.
pub(super) const fn limit(body_limit: usize) -> usize {
    2 * body_limit + (16 << 20)
}

/// A line that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BadLine {
    /// Which of the request's: from 1.
    pub(super) line: usize,
    /// Why.
    pub(super) reason: String,
}

/// How many lines were taken, and which were not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// Those that are durable.
    pub(super) accepted: usize,
    /// The first of those that are not.
    pub(super) refused: Vec<BadLine>,
    /// How many there are of these.
    pub(super) refused_count: usize,
}

/// The lines of a request as they are read.
pub(super) struct Lines {
    good: Vec<LogLine>,
    outcome: Outcome,
    bytes: usize,
    limit: usize,
    held: Held,
    room: usize,
    /// Why no more are kept.
    full: Option<Refusal>,
}

impl Lines {
    /// None yet; they may take this many bytes, and take them of what the request holds.
    pub(super) const fn new(limit: usize, held: Held) -> Self {
        Self {
            good: Vec::new(),
            outcome: Outcome { accepted: 0, refused: Vec::new(), refused_count: 0 },
            bytes: 0,
            limit,
            held,
            room: 0,
            full: None,
        }
    }

    /// A good one.
    pub(super) fn push(&mut self, line: LogLine) {
        if self.take(LINE_BYTES + line.text.len() + line.fields.packed().len()) {
            self.outcome.accepted += 1;
            self.good.push(line);
        }
    }

    /// A group of lines, which may have none and takes time all the same; whether it is to be read.
    pub(super) fn group(&mut self) -> bool {
        self.take(LINE_BYTES)
    }

    /// A bad one.
    pub(super) fn refuse(&mut self, line: usize, reason: &(impl fmt::Display + ?Sized)) {
        self.outcome.refused_count += 1;
        if self.outcome.refused.len() < NAMED {
            let reason = reason.to_string();
            self.outcome.refused.push(BadLine { line, reason });
        }
    }

    /// Whether it reads on in vain.
    pub(super) const fn is_full(&self) -> bool {
        self.full.is_some()
    }

    /// How many there were, good and bad.
    pub(super) const fn count(&self) -> usize {
        self.outcome.accepted + self.outcome.refused_count
    }

    /// The good ones, how it went, and what they hold.
    pub(super) fn finish(self) -> Result<(Vec<LogLine>, Outcome, Held), Refusal> {
        match self.full {
            Some(refusal) => Err(refusal),
            None => Ok((self.good, self.outcome, self.held)),
        }
    }

    fn take(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        if self.bytes > self.limit && self.full.is_none() {
            self.full = Some(Refusal::TooManyLines(self.limit));
        }
        while self.room < self.bytes && self.full.is_none() {
            let piece = PIECE.max(self.bytes - self.room);
            match self.held.grow(piece) {
                Ok(()) => self.room += piece,
                Err(refusal) => self.full = Some(refusal),
            }
        }
        self.full.is_none()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use model::Id;

    use super::*;
    use crate::http::memory::Memory;

    /// Room for whatever a test reads.
    pub(in crate::http) fn lines() -> Lines {
        Lines::new(limit(8 << 20), Memory::for_bodies_of(8 << 20).hold(Id::generate()))
    }

    #[test]
    fn many_tiny_lines_are_more_than_their_bytes() {
        let mut lines = lines();
        for _ in 0..200_000 {
            lines.push(LogLine::plain("a"));
        }
        assert!(lines.is_full());
        assert!(matches!(lines.finish(), Err(Refusal::TooManyLines(_))));
    }

    #[test]
    fn groups_without_lines_are_bounded_too() {
        let mut lines = lines();
        assert!(!(0..200_000).all(|_| lines.group()));
        assert!(matches!(lines.finish(), Err(Refusal::TooManyLines(_))));
    }

    #[test]
    fn bad_lines_are_counted_and_the_first_are_named() {
        let mut lines = lines();
        lines.push(LogLine::plain("good"));
        (2..100).for_each(|line| lines.refuse(line, "bad"));
        let (good, outcome, _) = lines.finish().unwrap();
        assert_eq!((good.len(), outcome.accepted, outcome.refused_count), (1, 1, 98));
        assert_eq!(outcome.refused.len(), NAMED);
        assert_eq!(outcome.refused[0].line, 2);
    }
}
