//! Decompression with a bound (pure).
//!
//! Invariant: no more is written than the limit, whatever the compressed bytes say, and no decompressor has a window
//! of more than 8 MiB.

use std::io::Read;

use bytes::Bytes;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use zstd::stream::read::Decoder as ZstdDecoder;

use super::Refusal;
use super::memory::Held;

/// What decoders have to read at least (RFC 9659).
const WINDOW_LOG: u32 = 23;
const PIECE: usize = 64 << 10;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Not at all.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// RFC 1950.
    Deflate,
    /// Snappy's block format, without a header.
    Snappy,
}

impl Encoding {
    /// What the header says.
    pub(super) fn parse(header: &str) -> Result<Self, Refusal> {
        match header.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            "deflate" => Ok(Self::Deflate),
            "snappy" => Ok(Self::Snappy),
            _ => Err(Refusal::Encoding),
        }
    }
}

/// The body, if it is at most this long. What it takes is taken of what the request holds.
pub(super) fn inflate(
    body: Bytes,
    encoding: Encoding,
    limit: usize,
    held: &mut Held,
) -> Result<Bytes, Refusal> {
    match encoding {
        Encoding::Identity => Ok(body),
        Encoding::Gzip => read(MultiGzDecoder::new(&body[..]), "gzip", limit, held),
        Encoding::Deflate => read(ZlibDecoder::new(&body[..]), "zlib", limit, held),
        Encoding::Zstd => {
            let mut decoder = ZstdDecoder::with_buffer(&body[..]).map_err(|_| Refusal::Busy)?;
            decoder.window_log_max(WINDOW_LOG).map_err(|_| Refusal::Busy)?;
            read(decoder, "zstd with a window of at most 8 MiB", limit, held)
        }
        Encoding::Snappy => {
            let unreadable = |_| Refusal::Unreadable("it is not snappy".to_owned());
            let length = snap::raw::decompress_len(&body).map_err(unreadable)?;
            if length > limit {
                return Err(Refusal::TooLarge(limit));
            }
            held.grow(length)?;
            let inflated = snap::raw::Decoder::new().decompress_vec(&body).map_err(unreadable)?;
            Ok(inflated.into())
        }
    }
}

fn read(
    mut decoder: impl Read,
    what: &str,
    limit: usize,
    held: &mut Held,
) -> Result<Bytes, Refusal> {
    let mut inflated = Vec::new();
    loop {
        held.grow(PIECE)?;
        let mut piece = (&mut decoder).take(PIECE as u64);
        let count = piece
            .read_to_end(&mut inflated)
            .map_err(|_| Refusal::Unreadable(format!("it is not {what}")))?;
        if inflated.len() > limit {
            return Err(Refusal::TooLarge(limit));
        }
        if count == 0 {
            return Ok(inflated.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use model::Id;
    use proptest::prelude::*;

    use super::*;
    use crate::http::memory::Memory;

    const LIMIT: usize = 256 << 10;

    fn compressed(text: &[u8], encoding: Encoding) -> Vec<u8> {
        match encoding {
            Encoding::Identity => text.to_vec(),
            Encoding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            Encoding::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            Encoding::Zstd => zstd::encode_all(text, 1).unwrap(),
            Encoding::Snappy => snap::raw::Encoder::new().compress_vec(text).unwrap(),
        }
    }

    fn inflated(body: Vec<u8>, encoding: Encoding) -> Result<Bytes, Refusal> {
        let mut held = Memory::for_bodies_of(8 << 20).hold(Id::generate());
        inflate(body.into(), encoding, LIMIT, &mut held)
    }

    const ALL: [Encoding; 4] =
        [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd, Encoding::Snappy];

    #[test]
    fn what_fits_comes_back_and_a_bomb_does_not() {
        for encoding in ALL {
            let fits = vec![b'x'; LIMIT];
            assert_eq!(inflated(compressed(&fits, encoding), encoding).unwrap(), fits);
            let bomb = compressed(&vec![b'x'; 16 * LIMIT], encoding);
            assert_eq!(inflated(bomb, encoding), Err(Refusal::TooLarge(LIMIT)), "{encoding:?}");
        }
    }

    #[test]
    fn a_large_window_is_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&vec![0; 1000]).unwrap();
        let body = encoder.finish().unwrap();
        assert!(matches!(inflated(body, Encoding::Zstd), Err(Refusal::Unreadable(_))));
    }

    proptest! {
        #[test]
        fn damaged_bytes_are_refused_or_read(
            mut text in prop::collection::vec(any::<u8>(), 1..300),
            at in any::<prop::sample::Index>(),
        ) {
            for encoding in ALL {
                let mut body = compressed(&text, encoding);
                let at = at.index(body.len());
                body[at] ^= 0x41;
                drop(inflated(body.clone(), encoding));
                body.truncate(at);
                drop(inflated(body, encoding));
            }
            text.truncate(1);
        }
    }
}
