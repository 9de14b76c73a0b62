//! Parts of a batch that may be sent at the same time.
//!
//! Invariant: lines of one source stay in their order, and in one part.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::{Batch, BatchLimits};

/// A part of fewer bytes is not worth a request beside others.
const SMALLEST: usize = 64 * 1024;

/// Batches to be sent one after the other.
pub(crate) type Lane = VecDeque<Batch>;

impl Batch {
    /// Whether it has enough for so many requests.
    pub(crate) const fn is_enough_for(&self, requests: usize) -> bool {
        self.bytes.len() / SMALLEST >= requests
    }

    /// Divides it into at most so many parts of about the same size, and those into batches within the limits.
    /// None of these is divided again.
    pub(crate) fn divide(&self, most: usize, limits: BatchLimits) -> Vec<Lane> {
        let fits = self.bytes.len() <= limits.bytes && self.ends.len() <= limits.lines;
        let most = most.min(self.bytes.len() / SMALLEST).max(1);
        if self.lanes.is_empty() || (fits && most == 1) {
            return vec![Lane::from([self.clone()])];
        }
        let lane_of = self.lanes_by_source(most);
        if lane_of.len() == 1 {
            return vec![self.within(limits)];
        }
        let mut lanes = vec![Lane::new(); most];
        // What each has of its next batch.
        let mut begun = vec![(Vec::new(), Vec::new()); most];
        for (number, source) in self.lanes.iter().enumerate() {
            let at = lane_of.get(source).copied().unwrap_or_default();
            let (Some(line), Some((bytes, ends))) = (self.line(number), begun.get_mut(at)) else {
                continue;
            };
            let is_full = bytes.len() + line.len() > limits.bytes || ends.len() >= limits.lines;
            if let (true, false, Some(batches)) = (is_full, ends.is_empty(), lanes.get_mut(at)) {
                batches.push_back(self.part(std::mem::take(bytes).into(), std::mem::take(ends)));
            }
            bytes.extend_from_slice(line);
            ends.push(bytes.len());
        }
        for (batches, (bytes, ends)) in lanes.iter_mut().zip(begun) {
            if !ends.is_empty() {
                batches.push_back(self.part(bytes.into(), ends));
            }
        }
        lanes.retain(|batches| !batches.is_empty());
        lanes
    }

    /// The part of each source: the largest ones first, each goes where there is least.
    fn lanes_by_source(&self, count: usize) -> HashMap<u32, usize> {
        let mut sizes: HashMap<u32, usize> = HashMap::new();
        let (mut line, mut begin) = (0, 0);
        for run in self.lanes.chunk_by(|one, next| one == next) {
            line += run.len();
            let end = line.checked_sub(1).and_then(|last| self.ends.get(last));
            let end = end.copied().unwrap_or(begin);
            if let Some(source) = run.first() {
                *sizes.entry(*source).or_default() += end - begin;
            }
            begin = end;
        }
        let mut sources: Vec<_> = sizes.into_iter().collect();
        // The same at each time.
        sources.sort_unstable_by_key(|&(source, size)| (std::cmp::Reverse(size), source));
        let mut filled = vec![0; count];
        let place = |(source, size)| {
            let least = filled.iter_mut().enumerate().min_by_key(|(_, filled)| **filled);
            let at = least.map_or(0, |(at, filled)| {
                *filled += size;
                at
            });
            (source, at)
        };
        sources.into_iter().map(place).collect()
    }

    /// All of it in its order, with nothing copied.
    fn within(&self, limits: BatchLimits) -> Lane {
        let mut lane = Lane::new();
        let (mut begin, mut ends) = (0, Vec::new());
        for &end in &self.ends {
            let is_full = end - begin > limits.bytes || ends.len() >= limits.lines;
            if let (true, Some(&length)) = (is_full, ends.last()) {
                let bytes = self.bytes.slice(begin..begin + length);
                lane.push_back(self.part(bytes, std::mem::take(&mut ends)));
                begin += length;
            }
            ends.push(end - begin);
        }
        if !ends.is_empty() {
            lane.push_back(self.part(self.bytes.slice(begin..), ends));
        }
        lane
    }

    fn part(&self, bytes: Bytes, ends: Vec<usize>) -> Self {
        Self { bytes, ends, begun_at: self.begun_at, ..Self::default() }
    }

    /// What of it is left, its other parts being delivered: with the last of these, all is.
    pub(crate) fn with_left(self, mut parts: Vec<Self>) -> Vec<Self> {
        if let Some(last) = parts.last_mut() {
            (last.counted, last.reached, last.redacted) =
                (self.counted, self.reached, self.redacted);
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of sources whose sizes differ, each with its source and number.
    fn batch(count: usize) -> Batch {
        let (mut bytes, mut ends, mut lanes) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..count {
            let source = u32::try_from((number * number) % 13).unwrap();
            bytes.extend_from_slice(format!("{source} {number:0500}\n").as_bytes());
            ends.push(bytes.len());
            lanes.push(source);
        }
        Batch { bytes: bytes.into(), counted: ends.len(), ends, lanes, ..Batch::default() }
    }

    #[test]
    fn parts_keep_the_order_of_each_source_and_are_within_the_limits() {
        let whole = batch(2000);
        let limits = BatchLimits { bytes: 100_000, lines: 150 };
        let lanes = whole.divide(4, limits);
        assert_eq!(lanes.len(), 4);
        let mut numbers: HashMap<String, Vec<usize>> = HashMap::new();
        let mut lane_of: HashMap<String, usize> = HashMap::new();
        for (at, lane) in lanes.iter().enumerate() {
            let bytes: usize = lane.iter().map(|part| part.bytes.len()).sum();
            assert!((150_000..450_000).contains(&bytes), "{bytes}");
            for part in lane {
                assert!(part.bytes.len() <= limits.bytes && part.lines() <= limits.lines);
                for number in 0..part.lines() {
                    let line = str::from_utf8(part.line(number).unwrap()).unwrap();
                    let (source, number) = line.trim().split_once(' ').unwrap();
                    assert_eq!(*lane_of.entry(source.to_owned()).or_insert(at), at);
                    numbers.entry(source.to_owned()).or_default().push(number.parse().unwrap());
                }
            }
        }
        assert!(numbers.values().all(|numbers| numbers.is_sorted()));
        let mut all: Vec<_> = numbers.into_values().flatten().collect();
        all.sort_unstable();
        assert_eq!(all, (0..2000).collect::<Vec<_>>());
    }

    #[test]
    fn what_one_source_wrote_stays_in_its_order_and_is_within_the_limits() {
        let mut whole = batch(1000);
        whole.lanes.fill(7);
        let lines = |part: &Batch| -> Vec<Vec<u8>> {
            (0..part.lines()).map(|number| part.line(number).unwrap().to_vec()).collect()
        };
        for (bytes, count, parts) in [(50_000, usize::MAX, 11), (usize::MAX, 110, 10)] {
            let divided = whole.divide(4, BatchLimits { bytes, lines: count });
            assert_eq!((divided.len(), divided[0].len()), (1, parts));
            assert_eq!(divided[0].iter().flat_map(lines).collect::<Vec<_>>(), lines(&whole));
            let fits = |part: &Batch| part.bytes.len() <= bytes && part.lines() <= count;
            assert!(divided[0].iter().all(fits));
        }
    }

    #[test]
    fn what_is_small_is_one_request() {
        let whole = batch(200);
        let lanes = whole.divide(4, BatchLimits { bytes: 1 << 20, lines: 1000 });
        assert_eq!((lanes.len(), lanes[0].len()), (1, 1));
        assert_eq!(lanes[0][0].id(), whole.id());
    }

    #[test]
    fn what_is_left_counts_as_all_with_its_last_part() {
        let whole = batch(1000);
        let limits = BatchLimits { bytes: 1 << 20, lines: 100 };
        let left = whole.divide(2, limits).remove(1);
        let count = left.len();
        let left = whole.with_left(left.into());
        let counted: Vec<_> = left.iter().map(|part| part.counted).collect();
        assert_eq!(counted[..count - 1], vec![0; count - 1]);
        assert_eq!(counted[count - 1], 1000);
        let (first, second) = left[count - 1].halves().unwrap();
        assert_eq!((first.counted, second.counted), (0, 1000));
        assert_eq!(second.divide(8, limits)[0].len(), 1, "a part is not divided");
    }
}
