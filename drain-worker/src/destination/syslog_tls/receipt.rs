//! What a receiver has surely read, as far as its TCP tells (pure).
//!
//! A receiver's kernel acknowledges bytes before its program reads them, and what the program has not
//! read when it ends is lost. But with each acknowledgement the kernel says for how many more bytes it
//! has room. How large its buffer is, it does not say, and Linux makes it larger at any time. So only
//! this counts: where a program reads nothing, its window does not stay as it is. It widens as long as
//! the kernel has room to give (Linux: by two bytes for each that comes), and then shrinks by every byte
//! that comes. A window that is as wide as ever and stays so while many bytes come is that of a program
//! that reads what comes; if one looks often enough not to miss how it widened and shrank again. Of a window
//! that has become wider than any before, what was not read meanwhile may not show, and a program that then
//! reads as much as comes keeps it level: it must be level for much longer, as no such program goes on for long.
//!
//! Invariant: of a stretch in which the window stays level, the last bytes do not count as read: so
//! many as could have come unread without a look that shows it.

/// A window that was wider or narrower than ever before for so many bytes, and did not move, is how wide the
/// receiver's windows are now.
const SETTLES: u64 = 2 << 20;
/// What rounding, and a line that has just come, take from the window of a program that has read
/// everything.
const ROUNDING: u64 = 8 * 1024;

/// One connection's receiver.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Receipt {
    widest: u64,
    /// The widest that has been level for long.
    proven: u64,
    window: u64,
    level: Stretch,
    /// Bytes acknowledged when last looked.
    looked: u64,
    read: u64,
}

/// For how long the window has been level.
#[derive(Debug, Clone, Copy, Default)]
struct Stretch {
    window: u64,
    /// Bytes acknowledged at its beginning.
    since: u64,
    /// The most bytes between two looks.
    unseen: u64,
}

impl Receipt {
    /// Takes what the receiver's TCP says; answers how many bytes its program has surely read.
    pub(super) fn note(&mut self, acknowledged: u64, window: u64) -> u64 {
        // What is unacknowledged counts what TLS has added, so it may seem to be fewer than before.
        let acknowledged = acknowledged.max(self.looked);
        let play = self.play();
        if self.looked == 0 && acknowledged <= play {
            // What has come, and could be unread, is less than what never counts.
            self.proven = window;
        }
        let unseen = acknowledged - self.looked;
        self.looked = acknowledged;
        self.window = window;
        self.widest = self.widest.max(window);
        let moved = window > self.level.window + play / 4 || window + play < self.level.window;
        if moved || unseen > 4 * play {
            // What reading has given back of a window is no widening.
            let window = if window + play >= self.widest { self.widest } else { window };
            self.level = Stretch { window, since: acknowledged, unseen: 0 };
        }
        self.level.unseen = self.level.unseen.max(unseen.min(acknowledged - self.level.since));
        // Unread, it could have widened for the first half of the play, shrunk for as much as all of
        // it, and turned between two looks.
        let unsure = 2 * play + self.level.unseen;
        let is_proven = self.widest <= self.proven + play;
        let wanted = if is_proven && self.level.window + play >= self.widest {
            unsure
        } else if self.level.window >= self.widest / 2 {
            SETTLES.max(unsure)
        } else {
            return self.read;
        };
        if acknowledged - self.level.since >= wanted {
            (self.widest, self.proven) = (self.level.window, self.level.window);
            self.read = self.read.max(acknowledged - unsure);
        }
        self.read
    }

    /// By how much a window may move and still be level: the one that is told with a piece of 64 KiB is
    /// without it.
    fn play(&self) -> u64 {
        (self.widest / 16).clamp(72 * 1024, 128 * 1024)
    }

    /// Whether the receiver has but little to read.
    pub(super) fn keeps_up(&self) -> bool {
        self.window + self.play() >= self.widest
    }

    /// Whether nothing shows that the receiver has something to read. A window may be an old one: what
    /// reading makes room for is told with the next bytes, or the next keep-alive.
    pub(super) const fn is_idle(&self) -> bool {
        self.window + ROUNDING >= self.widest
    }

    /// Takes the window that there is as the widest: it has been so for long enough.
    pub(super) const fn settle(&mut self) {
        self.widest = self.window;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// So many bytes come while the window stays as it is.
    fn flow(receipt: &mut Receipt, bytes: u64, window: u64) -> u64 {
        let from = receipt.looked;
        for acknowledged in (from..=from + bytes).step_by(64 * 1024) {
            receipt.note(acknowledged, window);
        }
        receipt.read
    }

    #[test]
    fn a_program_that_keeps_up_has_read_nearly_all() {
        let mut receipt = Receipt::default();
        let kib = |count: u64| count * 1024;
        assert_eq!(flow(&mut receipt, kib(256), kib(64)), kib(256 - 2 * 72 - 64));
        let before = receipt.read;
        assert_eq!(flow(&mut receipt, kib(256), 4 * MIB), before);
        let unsure = kib(2 * 128 + 64);
        assert_eq!(flow(&mut receipt, MIB, 4 * MIB), before, "it is wider than ever");
        assert_eq!(flow(&mut receipt, 2 * MIB, 4 * MIB), receipt.looked - unsure);
        assert_eq!(flow(&mut receipt, MIB, 4 * MIB - kib(64)), receipt.looked - unsure);
        assert!(!receipt.is_idle());
        flow(&mut receipt, MIB, 4 * MIB);
        assert!(receipt.is_idle());
    }

    #[test]
    fn what_happened_between_two_looks_is_not_known() {
        let mut receipt = Receipt::default();
        assert_eq!(receipt.note(0, 4 * MIB), 0);
        assert_eq!(receipt.note(2 * MIB, 4 * MIB), 0);
    }

    #[test]
    fn a_program_that_reads_nothing_has_read_nothing() {
        let mut receipt = Receipt::default();
        for acknowledged in (0..=3 * MIB).step_by(32 * 1024) {
            // 64 KiB at first, and two more for each that comes while there is room in 3 MiB.
            let window = (64 * 1024 + 2 * acknowledged).min(3 * MIB - acknowledged);
            assert_eq!(receipt.note(acknowledged, window), 0);
        }
        assert!(!receipt.is_idle());
    }

    #[test]
    fn what_was_not_read_while_the_window_widened_does_not_count_soon() {
        let mut receipt = Receipt::default();
        let (buffer, initial) = (3 * MIB, 64 * 1024);
        // Nothing is read until there is no room to widen; then as much as comes.
        let (mut acknowledged, mut window) = (0, initial);
        while initial + 2 * acknowledged < buffer - acknowledged {
            acknowledged += 32 * 1024;
            window = (initial + 2 * acknowledged).min(buffer - acknowledged);
            assert_eq!(receipt.note(acknowledged, window), 0);
        }
        assert_eq!(flow(&mut receipt, MIB, window), 0);
    }

    #[test]
    fn windows_that_stay_narrower_count_after_a_while() {
        let mut receipt = Receipt::default();
        receipt.note(0, 4 * MIB);
        assert_eq!(flow(&mut receipt, MIB, 3 * MIB), 0);
        assert!(flow(&mut receipt, 2 * MIB, 3 * MIB) > 2 * MIB);
        assert!(receipt.is_idle());
    }

    proptest! {
        // A model of a receiver under Linux: its window widens with what comes while there is room,
        // and is never more than the room; the buffer grows at any time at which the program reads.
        #[test]
        fn nothing_unread_counts_as_read(
            mut buffer in 64 * 1024..4 * MIB,
            steps in proptest::collection::vec(
                (
                    0..128 * 1024_u64,
                    prop_oneof![3 => Just(u64::MAX), 1 => 0..512 * 1024_u64, 2 => Just(0)],
                    prop_oneof![9 => Just(1), 1 => 2..8_u64],
                ),
                1..400,
            ),
        ) {
            let mut receipt = Receipt::default();
            let (mut acknowledged, mut read, mut limit) = (0, 0, 64 * 1024_u64);
            for (comes, reads, grows) in steps {
                let held: u64 = acknowledged - read;
                let comes = comes.min(limit.min(buffer - held));
                acknowledged += comes;
                let room = buffer - (acknowledged - read);
                limit = limit.max(room.min(limit + 2 * comes));
                prop_assert!(receipt.note(acknowledged, limit.min(room)) <= read);
                let reads = reads.min(acknowledged - read);
                read += reads;
                if reads > 0 {
                    buffer = (buffer * grows).min(32 * MIB);
                }
            }
        }
    }
}
