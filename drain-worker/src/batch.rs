//! Encoded lines that are sent together.
//!
//! Invariant: a batch does not change once it is made, so that it is the same when it is sent
//! again, and so is its id.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::encode::Encode;
use crate::lines::{Checkpoint, Line};
use crate::room::Share;

/// How much goes into a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    pub(crate) bytes: usize,
    pub(crate) lines: usize,
}

/// How lines are gathered for an endpoint that is to get few batches. Others get a batch as soon as they
/// take one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gathering {
    /// How long the first line of a batch that is not full waits for others.
    pub(crate) wait: Duration,
    /// Whether a batch ends where an hour of its lines does (UTC).
    pub(crate) hourly: bool,
}

/// Encoded lines.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    bytes: Bytes,
    /// When the first line of it, or of the batch that it was divided from, was recorded.
    begun_at: Timestamp,
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
    /// Lines of the batch that come after it.
    pub(crate) behind: usize,
    /// Nothing followed in the stream when this was handed over.
    pub(crate) is_newest: bool,
}

impl Batch {
    /// Of lines that were encoded before, and begin now.
    pub(crate) fn of<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for line in lines {
            bytes.extend_from_slice(line);
            ends.push(bytes.len());
        }
        let begun_at = Timestamp::now();
        Self { bytes: bytes.into(), begun_at, ends, reached: None, redacted: 0 }
    }

    pub(crate) const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(crate) const fn lines(&self) -> usize {
        self.ends.len()
    }

    /// When the first line was recorded; the same when the batch is sent again.
    pub(crate) const fn begun_at(&self) -> Timestamp {
        self.begun_at
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
        let begun_at = self.begun_at;
        Some((
            Self {
                bytes: self.bytes.slice(..at),
                begun_at,
                ends: first.to_vec(),
                reached: None,
                redacted: 0,
            },
            Self {
                bytes: self.bytes.slice(at..),
                begun_at,
                ends: second.iter().map(|end| end - at).collect(),
                reached: self.reached.clone(),
                redacted: self.redacted,
            },
        ))
    }
}

/// Where delivery goes on after all that was made has been thrown away.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resume {
    /// The end of a block up to which all is delivered.
    pub(crate) checkpoint: Checkpoint,
    /// Encoded bytes of all lines up to there since the pipeline began.
    pub(crate) bytes: u64,
    /// Lines after it that are delivered.
    pub(crate) lines: usize,
}

/// Makes batches of lines.
pub(crate) struct Batcher {
    /// Lines of a batch at most.
    lines: usize,
    share: Arc<Share>,
    gathering: Option<Gathering>,
    encoder: Box<dyn Encode>,
    /// Lines to leave out, which are delivered.
    skip: usize,
    bytes: Vec<u8>,
    /// Of the first line.
    begun_at: Timestamp,
    /// When what there is has been gathered for long enough.
    due: Option<Instant>,
    ends: Vec<usize>,
    reached: Option<Reached>,
    redacted: usize,
    /// Bytes of the batches that were made.
    made: u64,
    full: VecDeque<Batch>,
}

impl Batcher {
    /// Batches have at most so many lines, and the bytes that the drain's share allows.
    pub(crate) fn new(
        lines: usize,
        share: Arc<Share>,
        gathering: Option<Gathering>,
        encoder: Box<dyn Encode>,
    ) -> Self {
        Self {
            lines,
            share,
            gathering,
            encoder,
            skip: 0,
            bytes: Vec::new(),
            begun_at: Timestamp::default(),
            due: None,
            ends: Vec::new(),
            reached: None,
            redacted: 0,
            made: 0,
            full: VecDeque::new(),
        }
    }

    /// Throws everything away, to be given it again from there on.
    pub(crate) fn resume(&mut self, from: &Resume) {
        self.bytes = Vec::new();
        self.ends.clear();
        self.full.clear();
        (self.due, self.reached, self.redacted) = (None, None, 0);
        (self.made, self.skip) = (from.bytes, from.lines);
    }

    /// Adds a line.
    pub(crate) fn add(&mut self, line: &Line<'_>) {
        if self.skip > 0 {
            self.skip -= 1;
            self.encoder.encode(line, &mut self.bytes);
            self.made += self.bytes.len() as u64;
            return self.bytes.clear();
        }
        if self.ends_before(line.at) {
            self.close();
        }
        self.encoder.encode(line, &mut self.bytes);
        let begin = self.ends.last().copied().unwrap_or_default();
        while self.bytes.len() >= self.share.batch() && self.share.grow_freely() {}
        let limit = self.share.batch();
        if self.bytes.len() > limit && begin > 0 {
            let encoded = self.bytes.split_off(begin);
            self.close();
            self.bytes.extend_from_slice(&encoded);
        }
        if self.ends.is_empty() {
            self.begun_at = line.at;
            self.due = self.gathering.map(|gathering| Instant::now() + gathering.wait);
        }
        self.ends.push(self.bytes.len());
        self.redacted += usize::from(line.extras.redacted);
        if self.ends.len() >= self.lines || self.bytes.len() >= limit {
            self.close();
        }
    }

    /// All lines up to this checkpoint were added.
    pub(crate) fn reached(&mut self, checkpoint: Checkpoint) {
        let bytes = self.made + self.bytes.len() as u64;
        let lines = self.ends.len();
        self.reached = Some(Reached { checkpoint, bytes, behind: lines, is_newest: false });
    }

    /// Whether there is something to take with [`Self::take`].
    pub(crate) fn has_some(&self) -> bool {
        !self.ends.is_empty() || self.reached.is_some()
    }

    /// When the lines that are there have been gathered for long enough; None where they are not
    /// gathered, or where there are none.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether there is a batch that is full, or due.
    pub(crate) fn has_full(&self) -> bool {
        !self.full.is_empty() || self.due.is_some_and(|due| due <= Instant::now())
    }

    /// The next batch that is full, or due.
    pub(crate) fn next_full(&mut self) -> Option<Batch> {
        if self.due.is_some_and(|due| due <= Instant::now()) {
            self.close();
        }
        self.full.pop_front()
    }

    /// What there is, full or not, where nothing more is to be read; it may be a checkpoint alone.
    pub(crate) fn take(&mut self) -> Option<Batch> {
        if self.full.is_empty() {
            self.close();
        }
        let mut batch = self.full.pop_front()?;
        if let Some(reached) = &mut batch.reached {
            reached.is_newest = self.full.is_empty();
        }
        Some(batch)
    }

    /// Whether a line of this time begins another hour. One that is late does not: lines of two hours
    /// that alternate would each have a batch of their own.
    fn ends_before(&self, at: Timestamp) -> bool {
        const HOUR: u64 = 3_600_000_000_000;
        self.gathering.is_some_and(|gathering| gathering.hourly)
            && !self.ends.is_empty()
            && at.nanos() / HOUR > self.begun_at.nanos() / HOUR
    }

    fn close(&mut self) {
        self.due = None;
        let mut reached = self.reached.take();
        if let Some(reached) = &mut reached {
            // Until now it was how many came before.
            reached.behind = self.ends.len() - reached.behind;
        }
        if self.ends.is_empty() && reached.is_none() {
            return;
        }
        self.made += self.bytes.len() as u64;
        // A full batch takes the buffer along; a small one must not hold much more than it has.
        let bytes = if self.bytes.len() > self.bytes.capacity() / 2 {
            let next = Vec::with_capacity(self.bytes.capacity().min(self.share.batch()));
            std::mem::replace(&mut self.bytes, next).into()
        } else {
            let copy = Bytes::copy_from_slice(&self.bytes);
            self.bytes.clear();
            self.bytes.shrink_to(self.share.batch());
            copy
        };
        let (begun_at, ends) = (self.begun_at, std::mem::take(&mut self.ends));
        let redacted = std::mem::take(&mut self.redacted);
        self.full.push_back(Batch { bytes, begun_at, ends, reached, redacted });
    }
}

#[cfg(test)]
mod tests {
    use destinations::{BodyFormat, Keys};

    use super::*;
    use crate::encode::json::JsonEncoder;
    use crate::encode::tests::origin;
    use crate::lines::Extras;
    use crate::room::Room;

    const HOUR: u64 = 3_600_000_000_000;

    fn batcher(bytes: usize, wait: Duration) -> Batcher {
        let gathering = Gathering { wait, hourly: true };
        let encoder = Box::new(JsonEncoder::new(BodyFormat::JsonLines, Keys::Spillway));
        let share = Arc::new(Share::new(Room::default(), bytes, 0));
        Batcher::new(usize::MAX, share, Some(gathering), encoder)
    }

    fn add(batcher: &mut Batcher, nanos: u64) {
        let origin = origin();
        let at = Timestamp::from_nanos(nanos);
        let message = b"a line".as_slice();
        batcher.add(&Line {
            origin: &origin,
            seq: 0,
            at,
            event: "line",
            span: None,
            message,
            extras: Extras::default(),
        });
    }

    #[test]
    fn halving_ends_at_single_lines_and_keeps_everything() {
        let reached = Some(Reached {
            checkpoint: Checkpoint::default(),
            bytes: 9,
            behind: 0,
            is_newest: false,
        });
        let whole = Batch {
            bytes: Bytes::from_static(b"a\nbb\nccc\n"),
            begun_at: Timestamp::from_nanos(7),
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

    #[test]
    fn gathered_lines_are_due_after_their_time_and_positions_alone_never() {
        let mut later = batcher(1 << 20, Duration::from_mins(1));
        later.reached(Checkpoint::default());
        assert!(later.due().is_none() && later.has_some());
        add(&mut later, 1);
        assert!(later.due().is_some_and(|due| due > Instant::now()) && later.next_full().is_none());
        // As at a drain's test.
        let batch = later.take().unwrap();
        assert_eq!(batch.lines(), 1);
        assert_eq!(batch.reached.map(|it| (it.bytes, it.is_newest)), Some((0, true)));
        assert!(later.due().is_none());

        let mut now = batcher(1 << 20, Duration::ZERO);
        add(&mut now, 1);
        assert_eq!(now.next_full().unwrap().lines(), 1);
        assert!(now.due().is_none() && now.next_full().is_none());
    }

    #[test]
    fn what_was_thrown_away_comes_again_without_what_was_delivered() {
        let mut batcher = batcher(1 << 20, Duration::from_mins(1));
        let block = |batcher: &mut Batcher, from: u64| {
            (from..from + 10).for_each(|nanos| add(batcher, nanos));
            batcher.reached(Checkpoint::default());
        };
        block(&mut batcher, 0);
        (20..23).for_each(|nanos| add(&mut batcher, nanos));
        let batch = batcher.take().unwrap();
        let reached = batch.reached.clone().unwrap();
        assert_eq!((batch.lines(), reached.behind), (13, 3));
        let begun: usize = (0..10).map(|it| batch.line(it).unwrap().len()).sum();
        assert_eq!(reached.bytes, begun as u64);
        add(&mut batcher, 23);

        // Of the second block, two lines are known to be delivered.
        batcher.resume(&Resume {
            checkpoint: Checkpoint::default(),
            bytes: reached.bytes,
            lines: 2,
        });
        block(&mut batcher, 20);
        let again = batcher.take().unwrap();
        assert_eq!((again.lines(), again.begun_at().nanos()), (8, 22));
        assert_eq!(again.line(0), batch.line(12));
        let all: u64 =
            begun as u64 + (10..12).map(|it| batch.line(it).unwrap().len() as u64).sum::<u64>();
        assert_eq!(
            again.reached.map(|it| (it.bytes, it.behind)),
            Some((all + again.bytes.len() as u64, 0))
        );
    }

    #[test]
    fn gathered_lines_end_with_their_size_or_hour() {
        let mut sized = batcher(1_000, Duration::from_mins(1));
        let mut hourly = batcher(1 << 20, Duration::from_mins(1));
        for nanos in 0..10 {
            add(&mut sized, nanos);
        }
        // The one that is late stays with the others.
        for nanos in [HOUR - 2, HOUR - 1, HOUR, HOUR - 1, HOUR + 1, 3 * HOUR] {
            add(&mut hourly, nanos);
        }
        let batches = |mut from: Batcher| {
            let all: Vec<_> = std::iter::from_fn(|| from.take()).collect();
            all.iter().map(|one| (one.lines(), one.begun_at().nanos())).collect::<Vec<_>>()
        };
        let sized = batches(sized);
        assert!(sized.len() > 2, "{sized:?}");
        assert_eq!(sized.iter().map(|(lines, _)| lines).sum::<usize>(), 10);
        assert_eq!(batches(hourly), [(2, HOUR - 2), (3, HOUR), (1, 3 * HOUR)]);
    }
}
