//! Records to blocks and back: protobuf, then zstd (pure).
use model::{Environment, Id, Producer, Record, Source, Timestamp};
/// Placeholder.
#[derive(Debug, thiserror::Error)]
#[error("encode")]
pub struct EncodeError;
/// Placeholder.
#[derive(Debug, thiserror::Error)]
#[error("decode")]
pub struct DecodeError;
/// What a reader can know of a block without decoding its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// How many records the block has.
    pub records: u32,
    /// When its first record happened.
    pub first_at: Timestamp,
    /// When its last record happened.
    pub last_at: Timestamp,
    /// The sources present.
    pub sources: Vec<Source>,
    /// Which records of which producers it has.
    pub producers: Vec<ProducerSpan>,
}
/// A run of one producer's records in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerSpan {
    /// Who numbered them.
    pub producer: Id<Producer>,
    /// The first record's number.
    pub first_seq: u64,
    /// The last record's number.
    pub last_seq: u64,
}
/// Records of one environment from one producer process: the unit of durability.
#[derive(Debug, Clone)]
pub struct Block;
impl Block {
    /// Packs records, which are all of one environment, in order.
    pub fn encode(_environment: Id<Environment>, _records: &[Record]) -> Result<Self, EncodeError> {
        Err(EncodeError)
    }
    /// Unpacks the records.
    pub fn records(&self) -> Result<Vec<Record>, DecodeError> {
        Err(DecodeError)
    }
}
