//! Encoded lines that are sent together.
//!
//! Invariant: a batch does not change once it is made, so that it is the same when it is sent
//! again, and so is its id.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::{Origin, Source, Timestamp};

use crate::concurrency::Concurrency;
use crate::encode::Encode;
use crate::lines::{Checkpoint, Line};
use crate::room::Share;

mod lanes;

pub(crate) use lanes::Lane;

/// Bytes of a buffer that is kept for the next batch, which may be a while.
const KEPT: usize = 32 * 1024;
/// Encoded.
const USUAL_LINE: usize = 1024;

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
#[derive(Debug, Clone, Default)]
pub(crate) struct Batch {
    bytes: Bytes,
    /// When the first line of it, or of the batch that it was divided from, was recorded.
    begun_at: Timestamp,
    /// Where each line ends in `bytes`.
    ends: Vec<usize>,
    /// Of each line, what it shares with those that it must not overtake: the end of its source's id. Empty
    /// where none can overtake another.
    lanes: Vec<u32>,
    /// With it, so many more lines are delivered in the order in which they were read: all, but for a part of
    /// a batch whose other parts may be delivered before.
    pub(crate) counted: usize,
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
    /// Lines after it that are delivered with the batch, or were before.
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
        let bytes = bytes.into();
        Self { counted: ends.len(), bytes, begun_at: Timestamp::now(), ends, ..Self::default() }
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
        let digest = blake3::hash(&self.bytes);
        let first = digest.as_bytes().first_chunk().copied().map(u128::from_be_bytes);
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
        let lanes = self.lanes.split_at(count.min(self.lanes.len()));
        let is_whole = self.counted == self.ends.len();
        let counted = if is_whole { count } else { 0 };
        Some((
            Self {
                bytes: self.bytes.slice(..at),
                begun_at: self.begun_at,
                ends: first.to_vec(),
                lanes: lanes.0.to_vec(),
                counted,
                ..Self::default()
            },
            Self {
                bytes: self.bytes.slice(at..),
                begun_at: self.begun_at,
                ends: second.iter().map(|end| end - at).collect(),
                lanes: lanes.1.to_vec(),
                counted: self.counted - counted,
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
    /// Lines of a request at most.
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
    lanes: Vec<u32>,
    /// And how many lines of the batch came before it.
    reached: Option<(usize, Reached)>,
    redacted: usize,
    /// Bytes of the batches that were made.
    made: u64,
    full: VecDeque<Batch>,
}

impl Batcher {
    /// Batches have at most so many lines, for each request at a time, and the bytes that the drain's share allows.
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
            lanes: Vec::new(),
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
        self.lanes.clear();
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
            self.close(KEPT);
        }
        let begin = self.bytes.len();
        self.encoder.encode(line, &mut self.bytes);
        self.share.hold(self.bytes.len() - begin);
        let limit = self.share.batch(self.bytes.len());
        if self.bytes.len() > limit && begin > 0 {
            let encoded = self.bytes.split_off(begin);
            self.close(limit);
            self.bytes.extend_from_slice(&encoded);
        }
        if self.ends.is_empty() {
            self.begun_at = line.at;
            self.due = self.gathering.map(|gathering| Instant::now() + gathering.wait);
        }
        self.ends.push(self.bytes.len());
        let at_a_time = self.share.concurrency().map(Concurrency::get);
        if at_a_time.is_some() {
            self.lanes.push(lane(line.origin));
        }
        self.redacted += usize::from(line.extras.redacted);
        let lines = self.lines.saturating_mul(at_a_time.unwrap_or(1));
        if self.ends.len() >= lines || self.bytes.len() >= limit {
            self.close(limit);
        }
    }

    /// All lines up to this checkpoint were added.
    pub(crate) fn reached(&mut self, checkpoint: Checkpoint) {
        let bytes = self.made + self.bytes.len() as u64;
        // Those that are left out come after it, too.
        let reached = Reached { checkpoint, bytes, behind: self.skip, is_newest: false };
        self.reached = Some((self.ends.len(), reached));
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
            self.close(KEPT);
        }
        self.full.pop_front()
    }

    /// What there is, full or not, where nothing more is to be read, as far as is known; it may be a checkpoint
    /// alone.
    pub(crate) fn take(&mut self, is_newest: bool) -> Option<Batch> {
        if self.full.is_empty() {
            self.close(KEPT);
        }
        let mut batch = self.full.pop_front()?;
        if let Some(reached) = &mut batch.reached {
            reached.is_newest = is_newest && self.full.is_empty();
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

    /// Ends a batch; the next one is taken to have so many bytes.
    fn close(&mut self, next: usize) {
        self.due = None;
        let reached = self.reached.take().map(|(before, mut reached)| {
            reached.behind += self.ends.len() - before;
            reached
        });
        if self.ends.is_empty() && reached.is_none() {
            return;
        }
        self.made += self.bytes.len() as u64;
        // A full batch takes the buffer along; a small one must not hold much more than it has.
        let bytes = if self.bytes.len() > self.bytes.capacity() / 2 {
            // The line after the last one is encoded to it, too.
            let next = Vec::with_capacity(self.bytes.capacity().min(next + USUAL_LINE));
            std::mem::replace(&mut self.bytes, next).into()
        } else {
            let copy = Bytes::copy_from_slice(&self.bytes);
            self.bytes.clear();
            self.bytes.shrink_to(KEPT);
            copy
        };
        let ends = std::mem::take(&mut self.ends);
        self.full.push_back(Batch {
            bytes,
            begun_at: self.begun_at,
            lanes: std::mem::take(&mut self.lanes),
            counted: ends.len(),
            ends,
            reached,
            redacted: std::mem::take(&mut self.redacted),
        });
    }
}

/// The end of the id of what a line is of: an app, a database, a session, or the environment's activity.
fn lane(origin: &Origin) -> u32 {
    let id = match (origin.source, &origin.app, &origin.database) {
        (Source::App, Some(app), _) => app.id.uuid(),
        (Source::Database, _, Some(database)) => database.id.uuid(),
        // Each is a producer of its own.
        (Source::Activity, ..) => origin.environment.id.uuid(),
        _ => origin.producer.uuid(),
    };
    // The random part of it.
    id.as_bytes().last_chunk().copied().map_or(0, u32::from_be_bytes)
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
            counted: 3,
            reached,
            redacted: 1,
            ..Batch::default()
        };
        let (first, second) = whole.halves().unwrap();
        assert_eq!((first.bytes().as_ref(), first.lines()), (b"a\n".as_slice(), 1));
        assert!(first.reached.is_none() && second.reached.is_some());
        let (third, fourth) = second.halves().unwrap();
        assert_eq!(third.bytes().as_ref(), b"bb\n");
        assert_eq!(fourth.bytes().as_ref(), b"ccc\n");
        assert_eq!([&first, &second, &third, &fourth].map(|it| it.counted), [1, 2, 1, 1]);
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
        let batch = later.take(true).unwrap();
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
        let batch = batcher.take(true).unwrap();
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
        let again = batcher.take(true).unwrap();
        assert_eq!((again.lines(), again.begun_at().nanos()), (8, 22));
        assert_eq!(again.line(0), batch.line(12));
        let all: u64 =
            begun as u64 + (10..12).map(|it| batch.line(it).unwrap().len() as u64).sum::<u64>();
        assert_eq!(
            again.reached.as_ref().map(|it| (it.bytes, it.behind)),
            Some((all + again.bytes.len() as u64, 0))
        );

        // All of the first block and two lines of the second: those come after its end, too.
        batcher.resume(&Resume { lines: 12, ..Resume::default() });
        block(&mut batcher, 0);
        (20..23).for_each(|nanos| add(&mut batcher, nanos));
        let once_more = batcher.take(true).unwrap();
        assert_eq!(once_more.lines(), 1);
        assert_eq!(once_more.reached.map(|it| (it.bytes, it.behind)), Some((begun as u64, 3)));
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
            let all: Vec<_> = std::iter::from_fn(|| from.take(true)).collect();
            all.iter().map(|one| (one.lines(), one.begun_at().nanos())).collect::<Vec<_>>()
        };
        let sized = batches(sized);
        assert!(sized.len() > 2, "{sized:?}");
        assert_eq!(sized.iter().map(|(lines, _)| lines).sum::<usize>(), 10);
        assert_eq!(batches(hourly), [(2, HOUR - 2), (3, HOUR), (1, 3 * HOUR)]);
    }
}
