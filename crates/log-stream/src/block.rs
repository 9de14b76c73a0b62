//! Records to blocks and back: protobuf, then zstd (pure).
//!
//! A block is a header, which a reader can look at alone, and a payload, which holds the records.
//! Invariants: what was packed is unpacked exactly, or not at all; what is unpacked is of untrusted
//! size, so nothing is reserved that the limits below do not allow.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use model::{Environment, Id, Record};
use uuid::Uuid;

mod codec;
mod event;
mod header;
mod payload;
mod wire;

pub use header::{Header, ProducerSpan};

/// The most bytes that a block's records may have before compression.
const MAX_UNCOMPRESSED: usize = 64 << 20;
/// The most bytes of a header.
const MAX_HEADER: usize = 4 << 20;
/// The most records of a block.
const MAX_RECORDS: usize = 1 << 17;

/// The records cannot be packed into one block.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// A block without records would say nothing.
    #[error("a block needs at least one record")]
    Empty,
    /// A record belongs to another environment than the block.
    #[error("a record of environment {found} cannot be in a block of environment {expected}")]
    OtherEnvironment {
        /// The record's.
        found: Id<Environment>,
        /// The block's.
        expected: Id<Environment>,
    },
    /// More than a block may hold: pack fewer records.
    #[error(
        "the records do not fit into a block of at most {MAX_RECORDS} records and {MAX_UNCOMPRESSED} bytes"
    )]
    TooLarge,
    /// The compressor failed.
    #[error("the records cannot be compressed: {0}")]
    Compress(#[source] std::io::Error),
    /// A block's day is in its id.
    #[error("a block's id must be a UUIDv7")]
    NotVersion7,
}

/// Bytes are not a block, or not one that this version can read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A later version wrote it.
    #[error(
        "the block has format version {0}, which this version of Spillway cannot read: update this process"
    )]
    UnknownVersion(u32),
    /// A later version wrote it, or it is damaged.
    #[error(
        "the block has an {0} of a kind that this version of Spillway does not know: update this process"
    )]
    UnknownKind(&'static str),
    /// It claims to be larger than a block may be.
    #[error("the block's {0} is larger than a block may have")]
    TooLarge(&'static str),
    /// It is not what was written.
    #[error("the block is damaged: {0}")]
    Damaged(&'static str),
    /// A part is not protobuf.
    #[error("the block is damaged: {0}")]
    Protobuf(#[from] prost::DecodeError),
}

/// Records of one environment from one producer process: the unit of durability. Its id is fixed
/// when it is packed, so appending it twice keeps it once.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    id: Uuid,
    header: Header,
    header_bytes: Bytes,
    payload: Bytes,
}

impl Block {
    /// Packs records, which are all of one environment, in order. A block holds at most 131,072
    /// records and 64 MiB.
    pub fn encode(environment: Id<Environment>, records: &[Record]) -> Result<Self, EncodeError> {
        Self::encode_as(Uuid::now_v7(), environment, records)
    }

    /// The same under an id, a `UUIDv7`, that outlives the caller: whoever packs and appends under it, and
    /// however often, the first of those blocks is in the stream and no other.
    pub fn encode_as(
        id: Uuid,
        environment: Id<Environment>,
        records: &[Record],
    ) -> Result<Self, EncodeError> {
        if id.get_version_num() != 7 {
            return Err(EncodeError::NotVersion7);
        }
        if records.is_empty() {
            return Err(EncodeError::Empty);
        }
        if records.len() > MAX_RECORDS {
            return Err(EncodeError::TooLarge);
        }
        let mut environments = records.iter().map(|record| record.origin.environment.id);
        if let Some(found) = environments.find(|found| *found != environment) {
            return Err(EncodeError::OtherEnvironment { found, expected: environment });
        }
        let (length, payload) = codec::pack(records)?;
        let header = Header::of(environment, records, length);
        let header_bytes = Bytes::from(header.pack());
        if header_bytes.len() > MAX_HEADER {
            return Err(EncodeError::TooLarge);
        }
        Ok(Self { id, header, header_bytes, payload })
    }

    /// A block as it was kept. The header is checked now, the payload when it is unpacked.
    pub fn from_parts(
        id: Uuid,
        header: impl Into<Bytes>,
        payload: impl Into<Bytes>,
    ) -> Result<Self, DecodeError> {
        if id.get_version_num() != 7 {
            return Err(DecodeError::Damaged("its id is not a UUIDv7"));
        }
        let (header_bytes, payload) = (header.into(), payload.into());
        Ok(Self { id, header: Header::parse(&header_bytes)?, header_bytes, payload })
    }

    /// Unpacks the records, and checks them against the header. Their bytes are slices of one buffer of
    /// [`Header::uncompressed_bytes`], which is freed with the last of them.
    pub fn records(&self) -> Result<Vec<Record>, DecodeError> {
        let length = self.header.uncompressed_bytes;
        let packed = codec::decompress(&self.payload, length)?;
        let records = payload::unpack(&packed, self.header.records)?;
        // The payload has zstd's checksum; this one comparison covers the header.
        let found = Header::of(self.header.environment, &records, packed.len());
        if !self.header.describes(found)
            || records.iter().any(|r| r.origin.environment.id != self.header.environment)
        {
            return Err(DecodeError::Damaged("its header does not describe its records"));
        }
        Ok(records)
    }

    /// The block's id: unique, and the same however often it is appended.
    #[must_use]
    pub const fn id(&self) -> Uuid {
        self.id
    }

    /// When it was packed, by this producer's clock, to the millisecond.
    #[must_use]
    pub fn made_at(&self) -> SystemTime {
        let (seconds, nanos) = self.id.get_timestamp().map_or((0, 0), |at| at.to_unix());
        UNIX_EPOCH + Duration::new(seconds, nanos)
    }

    /// What the block says of its records.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The header as it is kept.
    #[must_use]
    pub fn header_bytes(&self) -> &[u8] {
        &self.header_bytes
    }

    /// The packed records as they are kept.
    #[must_use]
    pub fn payload_bytes(&self) -> &[u8] {
        &self.payload
    }

    /// Bytes that the block takes in the stream.
    #[must_use]
    pub const fn stored_bytes(&self) -> usize {
        self.header_bytes.len() + self.payload.len()
    }
}

/// Without the payload: records do not belong into log lines.
impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("id", &self.id)
            .field("header", &self.header)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
