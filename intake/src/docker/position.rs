//! How far a container's log has been taken (pure).
//!
//! Docker gives no offsets, so a position is a time: of the last piece that was taken of each output, with the
//! bytes that were taken at exactly that time, for several pieces may have it. All pieces of one long line do.

use model::{OutputStream, Timestamp};
use serde::{Deserialize, Serialize};

/// An output's lines may be written to the log this much later than those of the other that have the same time.
/// Docker takes the time right before it writes, so only a daemon that stands still in between comes near it.
const DISORDER_NANOS: u64 = 10_000_000_000;

/// How far a container's log has been taken, and what comes next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Of standard output, or the terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stdout: Option<Taken>,
    /// Of standard error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stderr: Option<Taken>,
    /// The next record's number.
    pub(super) next_seq: u64,
    /// When the last record was made.
    pub(super) last_at: u64,
    /// What is recorded of the container's life.
    pub(super) life: Life,
}

/// What has been taken of an output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Taken {
    /// The time of the last piece.
    pub(super) at: u64,
    /// Bytes of pieces with that time.
    pub(super) bytes: u64,
    /// More was read that is not taken: of a line that has not ended, or that waits for others.
    #[serde(default)]
    pub(super) more: bool,
}

/// What is recorded of a container's life: times are Docker's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Life {
    /// When it last started or exited.
    pub(super) at: u64,
    /// It started and has not exited.
    pub(super) is_up: bool,
    /// When it last was out of memory.
    pub(super) out_of_memory_at: u64,
}

impl Position {
    pub(super) const fn of(&self, output: OutputStream) -> Option<Taken> {
        match output {
            OutputStream::Stdout => self.stdout,
            OutputStream::Stderr => self.stderr,
        }
    }

    pub(super) const fn set(&mut self, output: OutputStream, taken: Option<Taken>) {
        match output {
            OutputStream::Stdout => self.stdout = taken,
            OutputStream::Stderr => self.stderr = taken,
        }
    }

    /// The time from which to read on; what comes earlier in the log was taken.
    ///
    /// An output that was silent for long must not have the other read again from there.
    pub(super) fn since(&self) -> Option<Timestamp> {
        let outputs = [self.stdout, self.stderr];
        let newest = outputs.into_iter().flatten().map(|taken| taken.at).max()?;
        let settled = newest.saturating_sub(DISORDER_NANOS);
        let since = outputs
            .into_iter()
            .flatten()
            .map(|taken| if taken.more { taken.at } else { taken.at.max(settled) });
        let mut since = since.min()?;
        if outputs.contains(&None) {
            since = since.min(settled);
        }
        Some(Timestamp::from_nanos(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    const fn taken(seconds: u64, more: bool) -> Taken {
        Taken { at: seconds * SECOND, bytes: 1, more }
    }

    fn since(stdout: impl Into<Option<Taken>>, stderr: impl Into<Option<Taken>>) -> Option<u64> {
        let (stdout, stderr) = (stdout.into(), stderr.into());
        let position = Position { stdout, stderr, ..Position::default() };
        position.since().map(|at| at.nanos() / SECOND)
    }

    #[test]
    fn silent_output_does_not_have_the_other_read_again() {
        assert_eq!(since(None, None), None);
        assert_eq!(since(taken(100, false), None), Some(90));
        assert_eq!(since(taken(100, false), taken(20, false)), Some(90));
        assert_eq!(since(taken(100, false), taken(95, false)), Some(95));
    }

    #[test]
    fn line_that_has_not_ended_is_read_again() {
        assert_eq!(since(taken(100, false), taken(20, true)), Some(20));
        assert_eq!(since(taken(20, true), None), Some(10));
    }
}
