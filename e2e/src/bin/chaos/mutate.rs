//! The proof that a run can fail: something is taken away on purpose before the check.

use clap::ValueEnum;
use log_stream::Block;
use model::{Event, Record, Source};

use crate::lines::Way;

/// What is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mutation {
    /// A block of the stream with a session's output; in a live run it is deleted in the database.
    Stream,
    /// A line at a receiver.
    Receiver,
    /// A byte that was shown is another.
    Shown,
    /// A block with lines that were acknowledged over HTTP; the same.
    StreamLines,
    /// A line of an app at a receiver.
    ReceiverLines,
    /// A byte that a container printed is another.
    Printed,
}

impl Mutation {
    /// Which blocks it is about, if it takes one of the stream.
    pub(crate) fn block(self) -> Option<fn(&Block) -> bool> {
        match self {
            Self::Stream => Some(has_output),
            Self::StreamLines => Some(has_acknowledged_lines),
            Self::Receiver | Self::Shown | Self::ReceiverLines | Self::Printed => None,
        }
    }
}

fn has_output(block: &Block) -> bool {
    block.header().producers.iter().any(|span| span.output_bytes > 0)
}

fn has_acknowledged_lines(block: &Block) -> bool {
    let is_one = |record: &Record| match &record.event {
        Event::Line(line) => Way::of(&line.text) == Some(Way::Http),
        _ => false,
    };
    block.header().sources.contains(&Source::App)
        && block.records().is_ok_and(|records| records.iter().any(is_one))
}

/// Alters one byte.
pub(crate) fn alter(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
}
