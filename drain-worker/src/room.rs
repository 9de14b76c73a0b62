//! Memory for the encoded lines of all drains.
//!
//! Each drain has a little of its own. For what it holds beyond that it takes from what all share, as long as
//! there is plenty; then only when its endpoint has taken what filled what it had. It gives that back
//! when nothing is left to send; in halves where it has more than is left for others, so that the last to come
//! finds some; and all of it where others may want some and its endpoint fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::concurrency::Concurrency;

/// Bytes of each drain.
const OWN: usize = 128 * 1024;
/// Of them, the bytes of a batch when there are no others, and when there are: one is filled, one waits.
const BATCH_ALONE: usize = 96 * 1024;
const BATCH: usize = 16 * 1024;
/// Of them, the bytes that are sent before some are confirmed.
const WINDOW: usize = 64 * 1024;
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
    /// Bytes of a request.
    largest: usize,
    /// How many requests a batch may be sent as; None where it is always one.
    concurrency: Option<Concurrency>,
    /// Besides [`OWN`].
    extra: AtomicUsize,
    /// Bytes of lines that are encoded and not delivered.
    held: AtomicUsize,
}

impl Share {
    /// Of a drain whose batches have so many bytes at most, and which sends so many before they are confirmed.
    pub(crate) fn new(room: Room, largest: usize, window: usize) -> Self {
        let most = (2 * window).max(4 * largest).min(MOST);
        let (extra, held) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { room, most, largest, concurrency: None, extra, held }
    }

    /// Its batches may be so many times as large as a request.
    pub(crate) fn with_concurrency(mut self, concurrency: Option<Concurrency>) -> Self {
        self.concurrency = concurrency;
        self
    }

    pub(crate) const fn concurrency(&self) -> Option<&Concurrency> {
        self.concurrency.as_ref()
    }

    fn extra(&self) -> usize {
        self.extra.load(Ordering::Relaxed)
    }

    fn bytes(&self) -> usize {
        OWN + self.extra()
    }

    fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// So many bytes of lines more are held.
    pub(crate) fn hold(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes are held no more.
    pub(crate) fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes after which a batch, which has so many, is full. Grows where that makes it larger.
    pub(crate) fn batch(&self, has: usize) -> usize {
        let largest = self.largest();
        loop {
            let is_full = self.held() > self.bytes();
            let limit = if is_full { BATCH } else { BATCH_ALONE.max(self.bytes() / 4) };
            if has < limit || limit >= largest || !self.grow_freely() {
                return largest.min(limit);
            }
        }
    }

    /// Whether so many bytes may be sent and not confirmed. Grows where that makes it so.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        while bytes >= WINDOW && self.held() > self.bytes() {
            if !self.grow_freely() {
                return false;
            }
        }
        true
    }

    /// Whether what is held fills what there is, or a batch of so many bytes was limited by that.
    pub(crate) fn is_full(&self, batch: usize) -> bool {
        let quarter = self.bytes() / 4;
        let limit = BATCH_ALONE.max(quarter);
        self.held() >= 3 * quarter || (limit..self.largest()).contains(&batch)
    }

    /// Bytes of a batch at most.
    fn largest(&self) -> usize {
        self.largest.saturating_mul(self.concurrency().map_or(1, Concurrency::get))
    }

    /// There is use for more; false if there is none to be had.
    fn grow_freely(&self) -> bool {
        let more = OWN.min(self.more());
        self.extra() + more <= FREELY && self.room.left() >= PLENTY + more && self.add(more)
    }

    /// The endpoint has taken what filled what there was.
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

    /// All that was held has been thrown away.
    pub(crate) fn forget(&self) {
        self.held.store(0, Ordering::Relaxed);
        self.give_back();
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

    fn share(room: &Room) -> Share {
        Share::new(room.clone(), 1 << 20, 8 << 20)
    }

    /// Its endpoint takes whatever there is.
    fn grown(room: &Room) -> Share {
        let share = share(room);
        for _ in 0..20 {
            share.grow();
        }
        share
    }

    #[test]
    fn a_drain_alone_has_all_that_it_has_use_for_and_gives_it_back() {
        let room = Room::default();
        let share = grown(&room);
        share.hold(MOST);
        assert!(share.has_room(8 << 20) && share.is_full(0));
        assert_eq!((share.extra(), share.batch(0)), (MOST - OWN, 1 << 20));
        share.forget();
        assert_eq!((share.batch(0), room.left()), (BATCH_ALONE, SHARED));
        drop(grown(&room));
        assert_eq!(room.left(), SHARED);
    }

    #[test]
    fn what_there_is_plenty_of_is_taken_without_asking_and_others_want_it_when_there_is_not() {
        let room = Room::default();
        let shares: Vec<_> = (0..10).map(|_| share(&room)).collect();
        assert_eq!(shares[0].batch(1 << 20), 1 << 20);
        assert!(!shares[0].is_wanted(), "4 MiB are taken of it");
        for share in &shares {
            share.hold(8 << 20);
            share.has_room(8 << 20);
        }
        assert!(room.left() >= PLENTY && shares[0].extra() <= FREELY);
        assert!(!shares[9].has_room(WINDOW) && shares[9].has_room(WINDOW - 1));
        assert_eq!(shares[9].batch(BATCH), BATCH);
        shares[9].grow();
        shares[9].grow();
        assert!(shares[0].is_wanted() && room.left() < PLENTY);
    }

    #[test]
    fn a_drain_that_holds_little_takes_nothing_of_what_all_share() {
        let room = Room::default();
        let share = share(&room);
        share.hold(90 * 1024);
        assert!(share.batch(90 * 1024) > 90 * 1024 && share.has_room(90 * 1024));
        assert_eq!(room.left(), SHARED);
        share.release(90 * 1024);
        assert_eq!(share.held(), 0);
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
