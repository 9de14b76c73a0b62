//! Memory that all connections together may take beyond what each may.
//!
//! Invariant: what is kept of messages that are not complete, and of lines that wait for more, is in it, but for
//! [`super::buffer`]'s few KiB of each connection.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const ROOM_KIB: usize = 64 << 10;

/// The room. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Room(Arc<Semaphore>);

/// What somebody has of the room; given back with it.
#[derive(Debug)]
pub(crate) struct Share {
    room: Room,
    held: Option<OwnedSemaphorePermit>,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self::of_kib(ROOM_KIB)
    }

    pub(crate) fn of_kib(kib: usize) -> Self {
        Self(Arc::new(Semaphore::new(kib)))
    }

    /// Nothing of it yet.
    pub(crate) fn share(&self) -> Share {
        Share { room: self.clone(), held: None }
    }

    pub(crate) fn take(&self, kib: usize) -> Option<OwnedSemaphorePermit> {
        self.0.clone().try_acquire_many_owned(u32::try_from(kib).ok()?).ok()
    }

    #[cfg(test)]
    pub(crate) fn free_kib(&self) -> usize {
        self.0.available_permits()
    }
}

impl Share {
    /// Makes it hold enough for so many bytes; false where there is no room, and then it holds what it held.
    pub(crate) fn hold(&mut self, bytes: usize) -> bool {
        let needed = bytes.div_ceil(1024);
        if needed == 0 {
            self.held = None;
            return true;
        }
        let has = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if needed <= has {
            // Dropping it gives it back.
            drop(self.held.as_mut().and_then(|held| held.split(has - needed)));
            return true;
        }
        let Some(more) = self.room.take(needed - has) else { return false };
        match &mut self.held {
            Some(held) => held.merge(more),
            held => *held = Some(more),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_hold_what_is_needed_and_no_more() {
        let room = Room::of_kib(10);
        let (mut one, mut other) = (room.share(), room.share());
        assert!(one.hold(4 << 10) && other.hold((5 << 10) + 1));
        assert_eq!(room.free_kib(), 0);
        assert!(!one.hold((4 << 10) + 1));
        assert!(other.hold(1));
        assert_eq!(room.free_kib(), 5);
        assert!(one.hold(9 << 10));
        drop(one);
        assert!(other.hold(0));
        assert_eq!(room.free_kib(), 10);
    }
}
