//! How much of a session may be read and not yet shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Past this many bytes, the guest's socket is not read, so its program waits.
const LIMIT: usize = 2 << 20;

/// Counts the bytes between the guest and the client. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Window(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    used: AtomicUsize,
    freed: Notify,
}

impl Window {
    pub(crate) fn has_room(&self) -> bool {
        self.used() < LIMIT
    }

    pub(crate) fn used(&self) -> usize {
        self.0.used.load(Ordering::Acquire)
    }

    pub(crate) fn take(&self, bytes: usize) {
        self.0.used.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(crate) fn free(&self, bytes: usize) {
        self.0.used.fetch_sub(bytes, Ordering::AcqRel);
        // One session, one waiter; the permit is kept if it does not wait yet.
        self.0.freed.notify_one();
    }

    /// Waits until something has been freed since the last wait.
    pub(crate) async fn freed(&self) {
        self.0.freed.notified().await;
    }
}
