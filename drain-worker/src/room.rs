//! Memory for the encoded lines of all drains.
//!
//! Each drain has a little of its own. One whose endpoint takes full batches gets more, of what all share:
//! twice as much each time. It gives that back when nothing is left to send, when its endpoint fails, and in
//! halves where others have more than is left, so that the last to come finds some.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of each drain.
const OWN: usize = 128 * 1024;
/// Bytes of all drains together.
const SHARED: usize = 32 << 20;

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

/// What a drain has. One task changes it, others look.
#[derive(Debug)]
pub(crate) struct Share {
    room: Room,
    most: usize,
    /// Besides [`OWN`].
    extra: AtomicUsize,
}

impl Share {
    /// Of a drain that has use for so many bytes at most.
    pub(crate) const fn new(room: Room, most: usize) -> Self {
        Self { room, most, extra: AtomicUsize::new(0) }
    }

    fn extra(&self) -> usize {
        self.extra.load(Ordering::Relaxed)
    }

    /// Bytes of a batch: one is filled and one waits.
    pub(crate) fn batch(&self) -> usize {
        (OWN + self.extra()) / 4
    }

    /// Bytes of batches that are sent.
    pub(crate) fn window(&self) -> usize {
        (OWN + self.extra()) / 2
    }

    /// The endpoint has taken as much as there was.
    pub(crate) fn grow(&self) {
        let (extra, left) = (self.extra(), self.room.left());
        if extra > left {
            self.extra.store(extra / 2, Ordering::Relaxed);
            return self.room.give_back(extra - extra / 2);
        }
        let more = (OWN + extra).min(self.most.saturating_sub(OWN + extra));
        if self.room.take(more) {
            self.extra.store(extra + more, Ordering::Relaxed);
        }
    }

    /// Whether there is anything that others could have.
    pub(crate) fn is_large(&self) -> bool {
        self.extra() > 0
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
        let share = Share::new(room.clone(), 16 << 20);
        for _ in 0..20 {
            share.grow();
        }
        share
    }

    #[test]
    fn a_drain_alone_has_all_that_it_has_use_for_and_gives_it_back() {
        let room = Room::default();
        let share = grown(&room);
        assert_eq!((share.window(), share.batch()), (8 << 20, 4 << 20));
        share.give_back();
        assert_eq!((share.batch(), room.left()), (32 << 10, SHARED));
        drop(grown(&room));
        assert_eq!(room.left(), SHARED);
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
