//! Bytes on their way out of the program.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use guest_protocol::{MAX_OUTPUT, Output};

use crate::edge::{Edge, Lost};
use crate::outgoing::Taken;

/// The most that is read from an output after the program has ended: what the largest pipe holds.
/// Without a bound, something left behind that writes for ever would never let the session end.
const LEFT_BEHIND: usize = 1 << 20;

/// Frames of one output before the others and the edge are looked at again.
const TURN: usize = 4;

/// One of the program's outputs.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) output: Output,
    end: OwnedFd,
    /// What may still be read once the program has ended.
    left: usize,
}

impl Source {
    pub(crate) fn new(output: Output, end: OwnedFd) -> Self {
        Self { output, end, left: LEFT_BEHIND }
    }

    /// Sends what can be read, within its turn; `false` when there will be no more. `ended` says
    /// that the program has: then what is there now is all that counts.
    pub(crate) fn forward(&mut self, edge: &mut Edge, ended: bool) -> Result<bool, Lost> {
        for _ in 0..TURN {
            match edge.put_output(self.output, self.end.as_fd()) {
                Taken::Bytes(length) => {
                    edge.flush()?;
                    if ended {
                        self.left = self.left.saturating_sub(length);
                        if self.left == 0 {
                            return Ok(false);
                        }
                    } else if length < MAX_OUTPUT {
                        return Ok(true);
                    }
                }
                Taken::Nothing => return Ok(!ended),
                Taken::End => return Ok(false),
            }
            if !edge.is_idle() {
                break;
            }
        }
        Ok(true)
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}
