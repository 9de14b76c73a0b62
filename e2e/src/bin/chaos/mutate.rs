//! The proof that a run can fail: something is taken away on purpose before the check.

use clap::ValueEnum;

/// What is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mutation {
    /// A block of the stream; in a live run it is deleted in the database.
    Stream,
    /// A line at a receiver.
    Receiver,
    /// A byte that was shown is another.
    Shown,
}

/// Alters one byte.
pub(crate) fn alter(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
}
