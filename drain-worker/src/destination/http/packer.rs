//! How bodies are compressed.

use bytes::Bytes;
use destinations::Compression;
use hyper::header::HeaderValue;
use libdeflater::{CompressionLvl, Compressor};

use super::Failure;

/// Level 1: 281 MB/s at a ratio of 3.85 on logs; more costs more than it saves.
const GZIP_LEVEL: i32 = 1;
/// On logs a better ratio than gzip's for less CPU time.
const ZSTD_LEVEL: i32 = 1;

/// What HTTP calls it; None where bodies are not compressed.
pub(super) const fn encoding(compression: Compression) -> Option<HeaderValue> {
    match compression {
        Compression::None => None,
        Compression::Gzip => Some(HeaderValue::from_static("gzip")),
        Compression::Zstd => Some(HeaderValue::from_static("zstd")),
    }
}

/// Compresses a body; the same for the same bytes.
pub(crate) fn pack(compression: Compression, body: &Bytes) -> Result<Bytes, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        super::retry(format!("the batch cannot be compressed: {error}"))
    };
    match compression {
        Compression::None => Ok(body.clone()),
        Compression::Gzip => {
            // 200 KiB, so that drains that wait keep none.
            let mut compressor =
                Compressor::new(CompressionLvl::new(GZIP_LEVEL).unwrap_or_default());
            let mut packed = vec![0; compressor.gzip_compress_bound(body.len())];
            let length =
                compressor.gzip_compress(body, &mut packed).map_err(|error| failed(&error))?;
            packed.truncate(length);
            packed.shrink_to_fit();
            Ok(packed.into())
        }
        Compression::Zstd => {
            zstd::bulk::compress(body, ZSTD_LEVEL).map(Bytes::from).map_err(|error| failed(&error))
        }
    }
}
