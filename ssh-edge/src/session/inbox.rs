//! From a connection's callbacks to the session's task.
//!
//! The callbacks run inside the connection's loop and may not wait, so they only put things here.
//! Invariants: what is held is bounded. Notices: the oldest resize gives way, signals past the bound
//! are dropped. Input: by the windows that the connection grants (`flow`).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::flow::Backlog;

const MAX_NOTICES: usize = 32;

/// One session's inbox.
#[derive(Debug)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    noticed: Notify,
    input_changed: Notify,
    gone: CancellationToken,
    backlog: Arc<Backlog>,
}

#[derive(Debug, Default)]
struct State {
    notices: VecDeque<Notice>,
    input: BytesMut,
    input_ended: bool,
    dropping_input: bool,
    why_gone: Option<String>,
}

/// What the client told the running session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    Resize { columns: u16, rows: u16 },
    Signal(String),
}

/// The next of the client's input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    Bytes(Bytes),
    End,
}

impl Inbox {
    /// An empty one, of a connection whose waiting input `backlog` counts.
    pub(crate) fn new(backlog: Arc<Backlog>) -> Self {
        Self {
            state: Mutex::default(),
            noticed: Notify::new(),
            input_changed: Notify::new(),
            gone: CancellationToken::new(),
            backlog,
        }
    }

    pub(crate) fn notice(&self, notice: Notice) {
        let mut state = self.state();
        if matches!(notice, Notice::Resize { .. })
            && matches!(state.notices.back(), Some(Notice::Resize { .. }))
        {
            state.notices.pop_back();
        }
        if state.notices.len() < MAX_NOTICES {
            state.notices.push_back(notice);
            self.noticed.notify_one();
        }
    }

    pub(crate) fn input(&self, bytes: &[u8]) {
        let mut state = self.state();
        if !state.dropping_input && !state.input_ended {
            state.input.extend_from_slice(bytes);
            self.backlog.add(bytes.len());
            self.input_changed.notify_one();
        }
    }

    pub(crate) fn end_input(&self) {
        self.state().input_ended = true;
        self.input_changed.notify_one();
    }

    /// The client will neither send nor read any more.
    pub(crate) fn close(&self, why: &str) {
        let mut state = self.state();
        state.why_gone.get_or_insert_with(|| why.to_owned());
        drop(state);
        self.gone.cancel();
    }

    /// How much input waits, and whether any is wanted at all.
    pub(crate) fn waiting_input(&self) -> (usize, bool) {
        let state = self.state();
        (state.input.len(), !state.dropping_input)
    }

    pub(crate) async fn next_notice(&self) -> Notice {
        loop {
            if let Some(notice) = self.state().notices.pop_front() {
                return notice;
            }
            self.noticed.notified().await;
        }
    }

    /// The next input, at most `max` bytes. Its end comes once.
    pub(crate) async fn next_input(&self, max: usize) -> Input {
        loop {
            if let Some(input) = self.take_input(max) {
                return input;
            }
            self.input_changed.notified().await;
        }
    }

    fn take_input(&self, max: usize) -> Option<Input> {
        let mut state = self.state();
        let length = state.input.len().min(max);
        if length > 0 {
            let bytes = state.input.split_to(length).freeze();
            drop(state);
            self.backlog.remove(length);
            return Some(Input::Bytes(bytes));
        }
        if state.input_ended && !state.dropping_input {
            state.dropping_input = true;
            return Some(Input::End);
        }
        None
    }

    /// Drops what input waits and what comes.
    pub(crate) fn drop_input(&self) {
        let mut state = self.state();
        state.dropping_input = true;
        self.backlog.remove(std::mem::take(&mut state.input).len());
    }

    /// Cancelled when the client is gone.
    pub(crate) const fn gone(&self) -> &CancellationToken {
        &self.gone
    }

    /// Why it is gone.
    pub(crate) fn why_gone(&self) -> String {
        self.state().why_gone.clone().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.drop_input();
    }
}
