//! Memory for the encoded lines of all drains.
//!
//! Each drain has a little of its own. As long as there is plenty of what all share, it gets more when it has
//! use for it, twice as much each time; then only when its endpoint has taken a full batch. It gives that back
//! when nothing is left to send; in halves where it has more than is left for others, so that the last to come
//! finds some; and all of it where others may want some and its endpoint fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of each drain.
const OWN: usize = 128 * 1024;
/// Bytes of all drains together.
const SHARED: usize = 32 << 20;
/// As long as so much is left, there is plenty.
const PLENTY: usize = SHARED / 2;
/// What one drain gets of plenty.
const FREELY: usize = SHARED / 4;
/// What one drain gets.
const MOST: usize = SHARED / 2;

/// What is left of that which all share.
#[derive(Debug, Clone)]
pub(crate) struct Room(Arc<AtomicUsize>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(SHARED)))
    }
}

impl Room {
    fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let taken = |left: usize| left.checked_sub(bytes);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What a drain has.
#[derive(Debug)]
pub(crate) struct Share {
    room: Room,
    most: usize,
    largest_batch: usize,
    /// Besides [`OWN`].
    extra: AtomicUsize,
}

impl Share {
    /// Of a drain whose batches have so many bytes at most, and which sends so many before they are confirmed.
    pub(crate) fn new(room: Room, largest_batch: usize, window: usize) -> Self {
        let most = (2 * window).max(4 * largest_batch).min(MOST);
        Self { room, most, largest_batch, extra: AtomicUsize::new(0) }
    }

    fn extra(&self) -> usize {
        self.extra.load(Ordering::Relaxed)
    }

    fn bytes(&self) -> usize {
        OWN + self.extra()
    }

    /// Bytes of a batch: one is filled and one waits.
    pub(crate) fn batch(&self) -> usize {
        self.largest_batch.min(self.bytes() / 4)
    }

    /// Bytes of batches that are sent.
    pub(crate) fn window(&self) -> usize {
        self.bytes() / 2
    }

    /// There is use for more; false if there is none to be had.
    pub(crate) fn grow_freely(&self) -> bool {
        let more = self.more();
        self.extra() + more <= FREELY && self.room.left() >= PLENTY + more && self.add(more)
    }

    /// The endpoint has taken as much as there was.
    pub(crate) fn grow(&self) {
        let extra = self.extra();
        if extra <= self.room.left() {
            self.add(self.more());
        } else {
            let half = extra / 2;
            let order = Ordering::Relaxed;
            if self.extra.compare_exchange(extra, half, order, order).is_ok() {
                self.room.give_back(extra - half);
            }
        }
    }

    fn more(&self) -> usize {
        self.bytes().min(self.most.saturating_sub(self.bytes()))
    }

    fn add(&self, more: usize) -> bool {
        let is_taken = more > 0 && self.room.take(more);
        if is_taken {
            self.extra.fetch_add(more, Ordering::Relaxed);
        }
        is_taken
    }

    /// Whether it has something that others may want.
    pub(crate) fn is_wanted(&self) -> bool {
        self.extra() > 0 && self.room.left() < PLENTY
    }

    /// Leaves the drain's own.
    pub(crate) fn give_back(&self) {
        self.room.give_back(self.extra.swap(0, Ordering::Relaxed));
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grown(room: &Room) -> Share {
        let share = Share::new(room.clone(), 1 << 20, 8 << 20);
        for _ in 0..20 {
            share.grow();
        }
        share
    }

    #[test]
    fn a_drain_alone_has_all_that_it_has_use_for_and_gives_it_back() {
        let room = Room::default();
        let share = grown(&room);
        assert_eq!((share.window(), share.batch()), (8 << 20, 1 << 20));
        share.give_back();
        assert_eq!((share.batch(), room.left()), (32 << 10, SHARED));
        drop(grown(&room));
        assert_eq!(room.left(), SHARED);
    }

    #[test]
    fn what_there_is_plenty_of_is_taken_without_asking_and_others_want_it_when_there_is_not() {
        let room = Room::default();
        let shares: Vec<_> = (0..10).map(|_| Share::new(room.clone(), 1 << 20, 8 << 20)).collect();
        while shares[0].grow_freely() {}
        assert_eq!((shares[0].batch(), shares[0].is_wanted()), (1 << 20, false));
        for share in &shares[1..] {
            while share.grow_freely() {}
        }
        assert!(room.left() >= PLENTY && shares[0].extra() <= FREELY);
        shares[9].grow();
        shares[9].grow();
        assert!(shares[0].is_wanted() && room.left() < PLENTY);
    }

    #[test]
    fn who_comes_last_gets_a_part_of_what_the_others_have() {
        let room = Room::default();
        let shares: Vec<_> = (0..10).map(|_| grown(&room)).collect();
        for _ in 0..20 {
            shares.iter().for_each(Share::grow);
        }
        let all: usize = shares.iter().map(Share::extra).sum();
        assert_eq!(all + room.left(), SHARED);
        let (least, most) = (
            shares.iter().map(Share::extra).min().unwrap(),
            shares.iter().map(Share::extra).max().unwrap(),
        );
        assert!(least >= 512 << 10 && most <= 8 << 20, "{least} {most}");
    }
}
