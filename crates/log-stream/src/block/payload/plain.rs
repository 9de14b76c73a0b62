//! The usual record without the general decoder: output, whose fields stand in the order in which they are
//! written. Most of a block is such records, and this takes a third of the time.
//!
//! Invariant: whatever is answered, the general decoder answers, too.

use crate::block::event::Output;

/// Field 4, length-delimited (protobuf.dev, "Encoding").
const OUTPUT: u8 = 4 << 3 | 2;

/// What [`Record`](crate::block::event::Record) says, of output.
#[derive(Debug, PartialEq)]
pub(super) struct Plain {
    pub(super) origin: u32,
    pub(super) seq_skip: u64,
    pub(super) at_change: i64,
    pub(super) output: Output,
}

/// None where it is something else, or is not written as it usually is.
pub(super) fn output(message: &[u8]) -> Option<Plain> {
    let mut rest = message;
    let origin = field(&mut rest, 1)?;
    let seq_skip = field(&mut rest, 2)?;
    let at_change = field(&mut rest, 3)?;
    let (&tag, after) = rest.split_first()?;
    rest = after;
    let length = varint(&mut rest)?;
    if tag != OUTPUT || length != rest.len() as u64 {
        return None;
    }
    let stream = field(&mut rest, 1)?;
    let offset = field(&mut rest, 2)?;
    let length = field(&mut rest, 3)?;
    let at_change = (at_change >> 1).cast_signed() ^ -(at_change & 1).cast_signed();
    let (origin, stream) = (u32::try_from(origin).ok()?, u32::try_from(stream).ok()?);
    let output = Output { stream, offset, length };
    rest.is_empty().then_some(Plain { origin, seq_skip, at_change, output })
}

/// A number that is the next field, or 0 where another is.
fn field(rest: &mut &[u8], number: u8) -> Option<u64> {
    match rest.split_first() {
        Some((&tag, after)) if tag == number << 3 => {
            *rest = after;
            varint(rest)
        }
        _ => Some(0),
    }
}

/// None where it is not whole, or has more than 63 bits.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (at, &byte) in rest.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            *rest = rest.get(at + 1..)?;
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::block::event::{Event, Record};

    fn by_prost(message: &[u8]) -> Option<Plain> {
        let Record { origin, seq_skip, at_change, event } = Record::decode(message).ok()?;
        let Some(Event::Output(output)) = event else { return None };
        Some(Plain { origin, seq_skip, at_change, output })
    }

    proptest! {
        #[test]
        fn usual_records_are_what_the_general_decoder_finds(
            origin in any::<u32>(), seq_skip in 0..1_u64 << 63, at_change in -1_i64 << 62..1 << 62,
            stream in 0..3_u32, offset in 0..1_u64 << 63, length in 0..1_u64 << 63,
            small in any::<[bool; 6]>(),
        ) {
            let shrink = |value: u64, at: usize| if small[at] { value % 3 } else { value };
            let output = Output {
                stream: u32::try_from(shrink(stream.into(), 3)).unwrap(),
                offset: shrink(offset, 4),
                length: shrink(length, 5),
            };
            let record = Record {
                origin: u32::try_from(shrink(origin.into(), 0)).unwrap(),
                seq_skip: shrink(seq_skip, 1),
                at_change: if small[2] { at_change % 3 } else { at_change },
                event: Some(Event::Output(output)),
            };
            let message = record.encode_to_vec();
            prop_assert_eq!(super::output(&message), by_prost(&message));
            prop_assert!(super::output(&message).is_some());
        }

        #[test]
        fn whatever_is_found_the_general_decoder_finds_too(
            bytes in proptest::collection::vec(
                prop_oneof![prop_oneof![Just(8_u8), Just(16), Just(24), Just(34)], 0..12_u8, any::<u8>()],
                0..24,
            ),
        ) {
            if let Some(found) = output(&bytes) {
                prop_assert_eq!(Some(found), by_prost(&bytes));
            }
        }
    }
}
