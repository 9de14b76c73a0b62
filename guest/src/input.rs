//! Bytes on their way into the program, held back by credit.
//!
//! Invariant: what waits here is never more than [`INITIAL_CREDIT`]: credit is given back only for
//! bytes that the program's pipe or terminal has taken.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bytes::{Buf, Bytes};
use guest_protocol::INITIAL_CREDIT;
use rustix::io::Errno;

use crate::edge::Lost;

/// Credit is granted in pieces of at least this, or when nothing waits.
const BATCH: u32 = 32 * 1024;

#[derive(Debug)]
pub(crate) struct Input {
    sink: Option<OwnedFd>,
    waiting: VecDeque<Bytes>,
    /// What the edge may still send.
    credit: u32,
    /// What was taken and not yet granted again.
    taken: u32,
    ends: bool,
    tell_closed: bool,
}

impl Input {
    pub(crate) fn new(sink: OwnedFd) -> Self {
        Self {
            sink: Some(sink),
            waiting: VecDeque::new(),
            credit: INITIAL_CREDIT,
            taken: 0,
            ends: false,
            tell_closed: false,
        }
    }

    /// Takes bytes from the edge; those for a closed input are dropped.
    pub(crate) fn push(&mut self, bytes: Bytes) -> Result<(), Lost> {
        let length = u32::try_from(bytes.len()).map_err(|_| Lost::NoCredit)?;
        self.credit = self.credit.checked_sub(length).ok_or(Lost::NoCredit)?;
        if self.sink.is_some() && !self.ends {
            self.waiting.push_back(bytes);
        }
        Ok(())
    }

    /// Closes the program's input when what waits has been written.
    pub(crate) fn end(&mut self) {
        self.ends = true;
        if self.waiting.is_empty() {
            self.sink = None;
        }
    }

    /// Writes what the program takes without waiting.
    pub(crate) fn write(&mut self) {
        while let (Some(sink), Some(bytes)) = (&self.sink, self.waiting.front_mut()) {
            match rustix::io::write(sink, bytes) {
                Ok(written) => {
                    bytes.advance(written);
                    self.taken += u32::try_from(written).unwrap_or(0);
                    if bytes.is_empty() {
                        self.waiting.pop_front();
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => self.closed(),
            }
        }
        if self.ends && self.waiting.is_empty() {
            self.sink = None;
        }
    }

    /// The program no longer reads.
    pub(crate) fn closed(&mut self) {
        self.tell_closed |= self.sink.is_some() && !self.ends;
        self.drop_all();
    }

    pub(crate) fn drop_all(&mut self) {
        self.sink = None;
        self.waiting.clear();
    }

    /// The sink, and whether something waits to be written to it.
    pub(crate) fn sink(&self) -> Option<(BorrowedFd<'_>, bool)> {
        self.sink.as_ref().map(|sink| (sink.as_fd(), !self.waiting.is_empty()))
    }

    /// Whether the edge is to be told, once, that the program closed its input.
    pub(crate) fn take_closed(&mut self) -> bool {
        std::mem::take(&mut self.tell_closed)
    }

    /// Credit to be granted now.
    pub(crate) fn take_credit(&mut self) -> Option<u32> {
        let due = self.taken >= BATCH || (self.taken > 0 && self.waiting.is_empty());
        (due && self.sink.is_some()).then(|| {
            self.credit += self.taken;
            std::mem::take(&mut self.taken)
        })
    }
}
