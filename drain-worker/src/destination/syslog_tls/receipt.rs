//! What a receiver has surely read, as far as its TCP tells (pure).
//!
//! A receiver's kernel acknowledges bytes before its program reads them, and what the program has not
//! read when it ends is lost. But the kernel also says for how many more bytes it has room, and what
//! it holds and what it has room for are together no more than its buffer. So at least
//! `acknowledged + window - buffer` bytes are read. How large the buffer is, is not told. It counts as
//! as large as the drain allows for until it is known:
//! - when the window has shrunk for the first time, by what the program has yet to read: what was
//!   acknowledged by then and the window have all come out of one buffer, or into it;
//! - when so many bytes have come, and the window neither shrank nor grew: it is the buffer. (Linux
//!   widens the window with the bytes that come, while there is room.)

/// A program has a little in buffers of its own; and a window settles at the buffer less what the
/// program usually has yet to read.
const MARGIN: u64 = 256 * 1024;

/// One connection's receiver.
#[derive(Debug, Clone, Copy)]
pub(super) struct Receipt {
    /// The largest buffer that is reckoned with.
    assumed: u64,
    widest: u64,
    /// Bytes acknowledged when the window last grew.
    grown_at: u64,
    window: u64,
    /// The buffer was no larger than this, or than the widest window.
    buffer: Option<u64>,
}

impl Receipt {
    pub(super) const fn new(assumed: u64) -> Self {
        Self { assumed, widest: 0, grown_at: 0, window: 0, buffer: None }
    }

    /// Takes what the receiver's TCP says; answers how many bytes its program has surely read.
    pub(super) fn read(&mut self, acknowledged: u64, window: u64) -> u64 {
        if window > self.widest.saturating_add(self.widest / 8) {
            self.grown_at = acknowledged;
        }
        self.window = window;
        self.widest = self.widest.max(window);
        if self.buffer.is_none() {
            self.buffer = if self.lags() {
                Some(self.assumed.min(acknowledged + window))
            } else {
                (acknowledged.saturating_sub(self.grown_at) >= self.assumed).then_some(0)
            };
        }
        let buffer = self.buffer.unwrap_or(self.assumed).max(self.widest);
        (acknowledged + window).saturating_sub(buffer + MARGIN)
    }

    /// Whether the receiver has visibly much to read. Linux tells of the room that reading makes only
    /// when it doubles the window, and only of a window below half of the buffer.
    pub(super) const fn lags(&self) -> bool {
        self.window < self.widest / 4
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_fast_reader_is_soon_known_to_have_read_nearly_all() {
        let mut receipt = Receipt::new(4 * MIB);
        assert_eq!(receipt.read(0, 64 * 1024), 0);
        assert_eq!(receipt.read(3 * MIB, 64 * 1024), 0);
        assert_eq!(receipt.read(8 * MIB, 64 * 1024), 8 * MIB - MARGIN);
    }

    #[test]
    fn a_reader_that_stalls_from_the_beginning_has_read_nothing() {
        let mut receipt = Receipt::new(4 * MIB);
        for acknowledged in (0..=3 * MIB).step_by(32 * 1024) {
            let window = (3 * MIB - acknowledged).min(64 * 1024);
            assert_eq!(receipt.read(acknowledged, window), 0);
        }
        assert!(receipt.lags());
    }

    #[test]
    fn a_reader_that_stalls_lags() {
        let mut receipt = Receipt::new(4 * MIB);
        receipt.read(0, 2 * MIB);
        receipt.read(10 * MIB, 2 * MIB);
        assert!(!receipt.lags());
        assert_eq!(receipt.read(12 * MIB, 0), 10 * MIB - MARGIN);
        assert!(receipt.lags());
    }

    proptest! {
        // A model of a receiver under Linux: its window grows with what comes while there is room,
        // and is never more than the room; the program keeps up but for some stalls.
        #[test]
        fn nothing_unread_counts_as_read(
            buffer in 64 * 1024..4 * MIB,
            steps in proptest::collection::vec(
                (
                    0..256 * 1024_u64,
                    prop_oneof![3 => Just(u64::MAX), 1 => 0..512 * 1024_u64, 1 => Just(0)],
                ),
                1..400,
            ),
        ) {
            let mut receipt = Receipt::new(4 * MIB);
            let (mut acknowledged, mut read, mut limit) = (0, 0, 64 * 1024_u64);
            for (comes, reads) in steps {
                let held: u64 = acknowledged - read;
                let window = limit.min(buffer - held);
                let comes = comes.min(window);
                acknowledged += comes;
                let room = buffer - (acknowledged - read);
                limit = limit.max(room.min(limit + 2 * comes));
                let window = limit.min(room);
                prop_assert!(receipt.read(acknowledged, window) <= read);
                read += reads.min(acknowledged - read);
            }
        }
    }
}
