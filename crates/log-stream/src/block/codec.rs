//! Compression, with contexts and buffers that each thread keeps for its next block.

use std::cell::RefCell;
use std::io;

use bytes::Bytes;
use model::Record;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{self, CParameter};

use super::{DecodeError, EncodeError, MAX_UNCOMPRESSED, payload};

/// Higher levels gain little on log text.
const LEVEL: i32 = 1;
/// A buffer that has grown past this, by a block of unusual size, is not kept. The gate's blocks stay
/// below it.
const KEPT_BUFFER: usize = 4 << 20;

thread_local! {
    static PACKER: RefCell<Packer> = RefCell::default();
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// What packing needs beside the records; making it anew costs more than packing a key's echo.
#[derive(Default)]
struct Packer {
    compressor: Option<Compressor<'static>>,
    packed: Vec<u8>,
    compressed: Vec<u8>,
}

/// Packs and compresses; answers the length in between, too.
pub(super) fn pack(records: &[Record]) -> Result<(usize, Bytes), EncodeError> {
    PACKER.with_borrow_mut(|packer| {
        packer.packed.clear();
        payload::pack(records, &mut packer.packed)?;
        if packer.packed.len() > MAX_UNCOMPRESSED {
            return Err(EncodeError::TooLarge);
        }
        let payload = packer.compress().map_err(EncodeError::Compress)?;
        let length = packer.packed.len();
        for buffer in [&mut packer.packed, &mut packer.compressed] {
            if buffer.capacity() > KEPT_BUFFER {
                *buffer = Vec::new();
            }
        }
        Ok((length, payload))
    })
}

impl Packer {
    /// What is packed, compressed, in a buffer of just its length: a block may wait long.
    fn compress(&mut self) -> io::Result<Bytes> {
        let compressor = if let Some(compressor) = &mut self.compressor {
            compressor
        } else {
            let mut compressor = Compressor::new(LEVEL)?;
            compressor.set_parameter(CParameter::ChecksumFlag(true))?;
            self.compressor.insert(compressor)
        };
        self.compressed.clear();
        self.compressed.reserve(zstd_safe::compress_bound(self.packed.len()));
        compressor.compress_to_buffer(&self.packed, &mut self.compressed)?;
        Ok(Bytes::copy_from_slice(&self.compressed))
    }
}

pub(super) fn decompress(payload: &[u8], length: usize) -> Result<Bytes, DecodeError> {
    // Header and payload must agree before anything is reserved.
    match zstd_safe::get_frame_content_size(payload) {
        Ok(Some(size)) if size == length as u64 => {}
        _ => {
            return Err(DecodeError::Damaged(
                "its payload has another length than its header says",
            ));
        }
    }
    let packed = DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(decompressor) => decompressor,
            None => slot.insert(Decompressor::new()?),
        };
        decompressor.decompress(payload, length)
    });
    let packed = packed.map_err(|_| DecodeError::Damaged("its payload does not decompress"))?;
    if packed.len() == length {
        Ok(packed.into())
    } else {
        Err(DecodeError::Damaged("its payload is shorter than its header says"))
    }
}
