//! Lines as the programs that wrote them mean them (pure).
//!
//! Invariant: no byte of a line's text is lost; what is not recognized passes as it came.

use std::time::Duration;

use model::LogLine;

/// What waits for more lines is complete after this long without one.
pub(crate) const COMPLETE_AFTER: Duration = Duration::from_millis(500);

/// Reads the lines of one producer.
#[derive(Debug, Default)]
pub(crate) struct Reader;

impl Reader {
    /// For an app (None), or for a database's engine.
    pub(crate) const fn new(_engine: Option<&str>) -> Self {
        Self
    }

    /// Takes a line; appends those that are complete.
    pub(crate) fn push(&mut self, line: LogLine, out: &mut Vec<LogLine>) {
        out.push(line);
    }

    /// Whether something waits for more lines. It is at most a line's limit.
    pub(crate) const fn is_waiting(&self) -> bool {
        false
    }

    /// Appends what waits, as it is: after [`COMPLETE_AFTER`], and at the end.
    pub(crate) fn flush(&mut self, _out: &mut Vec<LogLine>) {}
}
