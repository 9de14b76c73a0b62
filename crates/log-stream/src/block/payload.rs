//! The payload before compression: the bytes that records carry, one after the other; then the
//! origins, each once; then the records, which refer to both.
//!
//! Layout: length of the bytes (varint), the bytes, number of origins (varint), the origins and then
//! the records, each as a length-delimited protobuf message. Bulk output is therefore copied once on
//! the way in and once on the way out, and one record at a time is unpacked, so that a hostile
//! payload cannot make many of nothing.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use model::{Event, Origin, Record, Timestamp};
use prost::Message as _;

use super::{DecodeError, EncodeError, MAX_UNCOMPRESSED, event, wire};

mod plain;

/// What the messages of a record take at most beside its texts: to reserve once, mostly.
const RECORD_BYTES: usize = 32;

/// Packs into `packed`, which is empty.
pub(super) fn pack(records: &[Record], packed: &mut Vec<u8>) -> Result<(), EncodeError> {
    let carried = records
        .iter()
        .map(|record| carried(&record.event).map(<[u8]>::len).iter().sum::<usize>())
        .sum::<usize>();
    if carried > MAX_UNCOMPRESSED {
        return Err(EncodeError::TooLarge);
    }
    packed.reserve(carried + 512 + records.len() * RECORD_BYTES);
    // Appending to a Vec does not run out of room, which is the only error there is.
    let full = |_| EncodeError::TooLarge;
    prost::encode_length_delimiter(carried, packed).map_err(full)?;
    for record in records {
        for part in self::carried(&record.event) {
            packed.extend_from_slice(part);
        }
    }

    let mut origins = Origins::default();
    let places: Vec<usize> = records.iter().map(|record| origins.place(&record.origin)).collect();
    prost::encode_length_delimiter(origins.list.len(), packed).map_err(full)?;
    for origin in &origins.list {
        wire::origin(origin).encode_length_delimited(packed).map_err(full)?;
    }

    let mut state = Deltas::new(origins.list.len());
    for (record, place) in records.iter().zip(places) {
        let (seq_skip, at_change) = state.difference(place, record.seq, record.at);
        let origin = u32::try_from(place).map_err(|_| EncodeError::TooLarge)?;
        let event = Some(event::pack(&record.event));
        let message = event::Record { origin, seq_skip, at_change, event };
        message.encode_length_delimited(packed).map_err(full)?;
    }
    Ok(())
}

/// The records' bytes are slices of `packed`, so each of them keeps all of it in memory.
pub(super) fn unpack(packed: &Bytes, expected: u32) -> Result<Vec<Record>, DecodeError> {
    let mut rest: &[u8] = packed;
    let carried = prost::decode_length_delimiter(&mut rest)?;
    let (carried, mut rest) = rest
        .split_at_checked(carried)
        .ok_or(DecodeError::Damaged("its records' bytes are cut off"))?;
    let mut carried = packed.slice_ref(carried);

    let count = prost::decode_length_delimiter(&mut rest)?;
    if count > expected as usize {
        return Err(DecodeError::Damaged("it has more origins than records"));
    }
    let mut origins = Vec::new();
    for _ in 0..count {
        let origin = wire::Origin::decode_length_delimited(&mut rest)?;
        origins.push(Arc::new(wire::parse_origin(origin)?));
    }

    let mut state = Deltas::new(origins.len());
    // Each record takes at least two bytes, so this reserves no more than what came pays for.
    let mut records = Vec::with_capacity((expected as usize).min(rest.len() / 2));
    while rest.has_remaining() {
        if records.len() >= expected as usize {
            return Err(DecodeError::Damaged("it has more records than its header says"));
        }
        let length = prost::decode_length_delimiter(&mut rest)?;
        let message;
        (message, rest) =
            rest.split_at_checked(length).ok_or(DecodeError::Damaged("a record is cut off"))?;
        let mut origin = |place: u32, seq_skip, at_change| {
            let place = place as usize;
            let origin =
                origins.get(place).ok_or(DecodeError::Damaged("a record has no origin"))?;
            let (seq, at) = state.sum(place, seq_skip, at_change);
            Ok::<_, DecodeError>((Arc::clone(origin), seq, at))
        };
        if let Some(plain) = plain::output(message) {
            let (origin, seq, at) = origin(plain.origin, plain.seq_skip, plain.at_change)?;
            let event = event::unpack_output(&plain.output, &mut carried)?;
            records.push(Record { origin, seq, at, event });
        } else {
            let record = event::Record::decode(message)?;
            let (origin, seq, at) = origin(record.origin, record.seq_skip, record.at_change)?;
            let event = record.event.ok_or(DecodeError::UnknownKind("event"))?;
            let event = event::unpack(event, &mut carried)?;
            records.push(Record { origin, seq, at, event });
        }
    }
    if records.len() == expected as usize && carried.is_empty() {
        Ok(records)
    } else {
        Err(DecodeError::Damaged("it has fewer records than its header says"))
    }
}

/// The bytes that stand apart from the record's message.
fn carried(event: &Event) -> [&[u8]; 2] {
    match event {
        Event::Output { bytes, .. } | Event::Input { bytes, .. } => [bytes, &[]],
        Event::Line(line) => [&line.text, line.fields.packed()],
        Event::Exec { command } => [command, &[]],
        _ => [&[], &[]],
    }
}

/// The table of origins while it is made.
#[derive(Default)]
struct Origins<'a> {
    list: Vec<&'a Origin>,
    places: HashMap<&'a Origin, usize>,
    last: Option<(&'a Arc<Origin>, usize)>,
}

impl<'a> Origins<'a> {
    fn place(&mut self, origin: &'a Arc<Origin>) -> usize {
        // Neighbours mostly share one; that spares hashing its texts.
        if let Some((last, place)) = self.last
            && Arc::ptr_eq(last, origin)
        {
            return place;
        }
        let place = *self.places.entry(origin).or_insert(self.list.len());
        if place == self.list.len() {
            self.list.push(origin);
        }
        self.last = Some((origin, place));
        place
    }
}

/// Numbers and times as differences to what is expected, so that they take few bytes. Wrapping:
/// every number comes back, whatever came before it.
struct Deltas {
    next_seq: Vec<u64>,
    last_at: u64,
}

impl Deltas {
    fn new(origins: usize) -> Self {
        Self { next_seq: vec![0; origins], last_at: 0 }
    }

    fn difference(&mut self, origin: usize, seq: u64, at: Timestamp) -> (u64, i64) {
        let mut skip = seq;
        if let Some(next) = self.next_seq.get_mut(origin) {
            skip = seq.wrapping_sub(*next);
            *next = seq.wrapping_add(1);
        }
        let change = at.nanos().wrapping_sub(self.last_at).cast_signed();
        self.last_at = at.nanos();
        (skip, change)
    }

    fn sum(&mut self, origin: usize, skip: u64, change: i64) -> (u64, Timestamp) {
        let mut seq = skip;
        if let Some(next) = self.next_seq.get_mut(origin) {
            seq = skip.wrapping_add(*next);
            *next = seq.wrapping_add(1);
        }
        self.last_at = self.last_at.wrapping_add_signed(change);
        (seq, Timestamp::from_nanos(self.last_at))
    }
}
