//! The durable ordered stream: the one place where records live.
//!
//! A **record** is one thing that happened; a **block** is records of one environment from one
//! producer process and the unit of durability. Appenders append blocks, readers read blocks in
//! order from a position of their own.
//!
//! Invariants: a block is in the stream once, however often its append is tried; every reader sees
//! every block, in the same order; blocks of one environment appended one after the other by one
//! process are read in that order.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use model::{Environment, Id};

mod block;
mod postgres;

pub use block::{Block, DecodeError, EncodeError, Header, ProducerSpan};
pub use postgres::{
    ConnectError, Extent, Head, Pages, PostgresSettings, PostgresStream, ProducerTail, Search,
};

/// A place in the stream: everything at or before it has been read. Positions order as the stream
/// does; [`Position::START`] is before the first block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// The id of the transaction that appended the block.
    pub xid: u64,
    /// The block's number, rising within a transaction.
    pub seq: u64,
}

impl Position {
    /// Before everything.
    pub const START: Self = Self { xid: 0, seq: 0 };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.xid, self.seq)
    }
}

/// Why an append did not return a success. Unless it is fenced, the caller appends the same block
/// again, later: it keeps its id, so it is in the stream once.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The store answered: it did not keep the block (full disk, missing right, ...).
    #[error("the log stream refused the block: {0}")]
    Refused(String),
    /// No answer: the block may or may not be in the stream.
    #[error("the log stream did not answer: {0}")]
    Unknown(String),
    /// This appender was taken for dead and fenced off, for ever: what it has not appended yet, it
    /// never may. Not to be tried again.
    #[error("this process was taken for dead: it may append no more under this identity")]
    Fenced,
}

/// Why reading stopped; reading again from the last position continues without a gap.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store cannot be reached or failed.
    #[error("the log stream cannot be read: {0}")]
    Unavailable(String),
    /// A block cannot be decoded.
    #[error("the block at {position} of the log stream is damaged: {source}")]
    Damaged {
        /// Where it is.
        position: Position,
        /// What is wrong.
        source: DecodeError,
    },
}

/// A durable ordered stream of blocks.
#[async_trait]
pub trait LogStream: Send + Sync + 'static {
    /// Appends a block; it is durable when this returns. Concurrent calls share commits. A block
    /// that is in the stream already counts as a success.
    async fn append(&self, block: Arc<Block>) -> Result<(), AppendError>;

    /// The blocks of one environment after `from`, in order; at the end it waits for more and never
    /// ends. After an error it is over: read again from the last position.
    fn read(
        &self,
        environment: Id<Environment>,
        from: Position,
    ) -> BoxStream<'static, Result<(Position, Block), ReadError>>;

    /// The same, but what is new may come a second late while `leisure` is set: many readers that are in no
    /// hurry do not hold up those that are.
    fn read_at_leisure(
        &self,
        environment: Id<Environment>,
        from: Position,
        leisure: Arc<AtomicBool>,
    ) -> BoxStream<'static, Result<(Position, Block), ReadError>> {
        drop(leisure);
        self.read(environment, from)
    }
}
