//! How a connection holds its client's input back.
//!
//! russh grants window by itself: when a channel's window has fallen below half of a target, it
//! grants up to the target, then asks for the next target. While a session has too much unread
//! input, the answer is [`TRICKLE`]: the window is then granted only when it is used up, and only
//! two bytes at a time, each after a pause. So the client stays connected and heard (its window
//! adjustments, signals and keep-alives stand behind its data), and what waits here is bounded by
//! the limits below plus the windows that were granted before. Not reading the socket at all would
//! bound it, too, but deadlock a program that answers its input: `ssh host cat < large-file`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// A channel's full window, in bytes.
pub(crate) const WINDOW: u32 = 2 << 20;
/// The target that grants as good as nothing. (1 would never grant again.)
const TRICKLE: u32 = 2;
/// A channel with more unread input than this is throttled.
const CHANNEL_LIMIT: usize = 1 << 20;
/// All channels of a connection with more unread input than this are throttled.
const CONNECTION_LIMIT: usize = 16 << 20;
/// No client that keeps to its windows gets here.
const HARD_LIMIT: usize = 64 << 20;
const PAUSE: Duration = Duration::from_millis(10);

/// Counts the unread input of a connection's channels.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    bytes: AtomicUsize,
    fell: Notify,
}

impl Backlog {
    pub(crate) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(crate) fn remove(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.fell.notify_waiters();
    }

    /// Whether the client has sent more than any window allowed.
    pub(crate) fn is_abused(&self) -> bool {
        self.bytes.load(Ordering::Acquire) > HARD_LIMIT
    }

    /// The target for the next grant, for a channel with this much unread input that is `wanted`.
    pub(crate) fn target(&self, unread: usize, wanted: bool) -> u32 {
        let over = unread > CHANNEL_LIMIT || self.bytes.load(Ordering::Acquire) > CONNECTION_LIMIT;
        if over || !wanted { TRICKLE } else { WINDOW }
    }

    /// Waits before the next grant, if `length` bytes came through a window of this `target`.
    pub(crate) async fn pause(&self, target: u32, length: usize) {
        if target == TRICKLE && length <= TRICKLE as usize {
            // Either arm may be lost: both only end the pause.
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.fell.notified() => {}
            }
        }
    }
}
