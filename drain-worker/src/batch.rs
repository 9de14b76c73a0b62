//! Encoded lines that are sent together.
//!
//! Invariant: a batch does not change once it is made, so that it is the same when it is sent
//! again, and so is its id.

use std::collections::VecDeque;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::encode::Encode;
use crate::lines::{Checkpoint, Line};

/// How much goes into a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    pub(crate) bytes: usize,
    pub(crate) lines: usize,
}

/// Encoded lines.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    bytes: Bytes,
    /// Where each line ends in `bytes`.
    ends: Vec<usize>,
    /// How far the drain has got when all of this is delivered; None where no block ends in it.
    pub(crate) reached: Option<Reached>,
    /// Lines of which something was masked.
    pub(crate) redacted: usize,
}

/// The end of a block.
#[derive(Debug, Clone)]
pub(crate) struct Reached {
    pub(crate) checkpoint: Checkpoint,
    /// Encoded bytes of all lines up to there since the pipeline began.
    pub(crate) bytes: u64,
}

impl Batch {
    /// Of lines that were encoded before.
    pub(crate) fn of<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for line in lines {
            bytes.extend_from_slice(line);
            ends.push(bytes.len());
        }
        Self { bytes: bytes.into(), ends, reached: None, redacted: 0 }
    }

    pub(crate) const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(crate) const fn lines(&self) -> usize {
        self.ends.len()
    }

    /// One of its lines, by its number.
    pub(crate) fn line(&self, number: usize) -> Option<&[u8]> {
        let begin = match number.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.bytes.get(begin..*self.ends.get(number)?)
    }

    /// The same for the same lines.
    pub(crate) fn id(&self) -> String {
        let digest = Sha256::digest(&self.bytes);
        let first = digest.first_chunk().copied().map(u128::from_be_bytes);
        format!("{:032x}", first.unwrap_or_default())
    }

    /// Two batches of half as many lines; None if there is but one line.
    pub(crate) fn halves(&self) -> Option<(Self, Self)> {
        self.split(self.ends.len() / 2)
    }

    /// The first so many lines and the others; None if one of the two would have none.
    pub(crate) fn split(&self, count: usize) -> Option<(Self, Self)> {
        if count >= self.ends.len() {
            return None;
        }
        let at = *self.ends.get(count.checked_sub(1)?)?;
        let (first, second) = self.ends.split_at(count);
        Some((
            Self {
                bytes: self.bytes.slice(..at),
                ends: first.to_vec(),
                reached: None,
                redacted: 0,
            },
            Self {
                bytes: self.bytes.slice(at..),
                ends: second.iter().map(|end| end - at).collect(),
                reached: self.reached.clone(),
                redacted: self.redacted,
            },
        ))
    }
}

/// Makes batches of lines.
pub(crate) struct Batcher {
    limits: BatchLimits,
    encoder: Box<dyn Encode>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    reached: Option<Reached>,
    redacted: usize,
    /// Bytes of the batches that were made.
    made: u64,
    full: VecDeque<Batch>,
}

impl Batcher {
    pub(crate) fn new(limits: BatchLimits, encoder: Box<dyn Encode>) -> Self {
        Self {
            limits,
            encoder,
            bytes: Vec::new(),
            ends: Vec::new(),
            reached: None,
            redacted: 0,
            made: 0,
            full: VecDeque::new(),
        }
    }

    /// Adds a line.
    pub(crate) fn add(&mut self, line: &Line<'_>) {
        self.encoder.encode(line, &mut self.bytes);
        let begin = self.ends.last().copied().unwrap_or_default();
        if self.bytes.len() > self.limits.bytes && begin > 0 {
            let encoded = self.bytes.split_off(begin);
            self.close();
            self.bytes.extend_from_slice(&encoded);
        }
        self.ends.push(self.bytes.len());
        self.redacted += usize::from(line.extras.redacted);
        if self.ends.len() >= self.limits.lines || self.bytes.len() >= self.limits.bytes {
            self.close();
        }
    }

    /// All lines up to this checkpoint were added.
    pub(crate) fn reached(&mut self, checkpoint: Checkpoint) {
        let bytes = self.made + self.bytes.len() as u64;
        self.reached = Some(Reached { checkpoint, bytes });
    }

    /// Whether there is something to take with [`Self::take`].
    pub(crate) fn has_some(&self) -> bool {
        !self.ends.is_empty() || self.reached.is_some()
    }

    /// The next batch that is full.
    pub(crate) fn next_full(&mut self) -> Option<Batch> {
        self.full.pop_front()
    }

    /// What there is, full or not; it may be a checkpoint alone.
    pub(crate) fn take(&mut self) -> Option<Batch> {
        if self.full.is_empty() {
            self.close();
        }
        self.full.pop_front()
    }

    fn close(&mut self) {
        let reached = self.reached.take();
        if self.ends.is_empty() && reached.is_none() {
            return;
        }
        self.made += self.bytes.len() as u64;
        // A full batch takes the buffer along; a small one must not hold much more than it has.
        let bytes = if self.bytes.len() > self.bytes.capacity() / 2 {
            let next = Vec::with_capacity(self.bytes.capacity());
            std::mem::replace(&mut self.bytes, next).into()
        } else {
            let copy = Bytes::copy_from_slice(&self.bytes);
            self.bytes.clear();
            copy
        };
        let ends = std::mem::take(&mut self.ends);
        let redacted = std::mem::take(&mut self.redacted);
        self.full.push_back(Batch { bytes, ends, reached, redacted });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_ends_at_single_lines_and_keeps_everything() {
        let reached = Some(Reached { checkpoint: Checkpoint::default(), bytes: 9 });
        let whole = Batch {
            bytes: Bytes::from_static(b"a\nbb\nccc\n"),
            ends: vec![2, 5, 9],
            reached,
            redacted: 1,
        };
        let (first, second) = whole.halves().unwrap();
        assert_eq!((first.bytes().as_ref(), first.lines()), (b"a\n".as_slice(), 1));
        assert!(first.reached.is_none() && second.reached.is_some());
        let (third, fourth) = second.halves().unwrap();
        assert_eq!(third.bytes().as_ref(), b"bb\n");
        assert_eq!(fourth.bytes().as_ref(), b"ccc\n");
        assert!(fourth.halves().is_none());
        assert_ne!(third.id(), fourth.id());
        assert_eq!(whole.id(), whole.clone().id());
    }
}
