//! How much of the edge's output waits in this process to be written.
//!
//! Invariant: past [`LIMIT`] nothing more is taken from the connection until enough is written.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Past this many bytes the connection is held back.
const LIMIT: usize = 1 << 20;
/// What a piece takes besides its bytes, generously, so that tiny pieces are bounded, too.
const OVERHEAD: usize = 1024;
/// No more pieces than these wait before the connection is held back.
pub(super) const MAX_PIECES: usize = LIMIT / OVERHEAD + 1;

/// Counts what waits, for both outputs of a session.
#[derive(Debug, Default)]
pub(crate) struct Backlog(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    size: usize,
    held_back: Option<Waker>,
}

impl Backlog {
    /// A piece of this many bytes waits.
    pub(super) fn add(&self, length: usize) {
        self.state().size += length + OVERHEAD;
    }

    /// A piece that was added waits no more.
    pub(super) fn remove(&self, length: usize) {
        let mut state = self.state();
        state.size -= length + OVERHEAD;
        if state.size <= LIMIT
            && let Some(waker) = state.held_back.take()
        {
            waker.wake();
        }
    }

    /// Ready when more may be taken from the connection. One task may wait.
    pub(super) fn poll_room(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.size <= LIMIT {
            return Poll::Ready(());
        }
        state.held_back = Some(context.waker().clone());
        Poll::Pending
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiny_pieces_fill_it_before_they_are_too_many() {
        let (backlog, context) = (Backlog::default(), Context::from_waker(Waker::noop()));
        let pieces = (0..).take_while(|_| {
            backlog.add(1);
            backlog.poll_room(&context).is_ready()
        });
        assert!(pieces.count() < MAX_PIECES);
    }
}
