//! The header: what a reader can know of a block without unpacking its records.

use std::collections::HashMap;
use std::sync::Arc;

use model::{Environment, Event, Id, Origin, Producer, Record, Source, Timestamp};
use prost::Message as _;

use super::wire::{self, VERSION};
use super::{DecodeError, MAX_HEADER, MAX_RECORDS, MAX_UNCOMPRESSED};

/// What a reader can know of a block without unpacking its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The environment that every record belongs to.
    pub environment: Id<Environment>,
    /// How many records the block has.
    pub records: u32,
    /// When its earliest record happened.
    pub first_at: Timestamp,
    /// When its latest record happened.
    pub last_at: Timestamp,
    /// The sources present, in their own order.
    pub sources: Vec<Source>,
    /// Which records of which producers it has, in order of their first records.
    pub producers: Vec<ProducerSpan>,
    /// Bytes of the packed records before compression.
    pub uncompressed_bytes: usize,
}

/// One producer's records in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerSpan {
    /// Who numbered them.
    pub producer: Id<Producer>,
    /// The first record's number.
    pub first_seq: u64,
    /// The last record's number.
    pub last_seq: u64,
    /// When the last one happened.
    pub last_at: Timestamp,
    /// How many there are.
    pub records: u32,
    /// Bytes of output, standard output and standard error together, that they hold.
    pub output_bytes: u64,
    /// If the last one is a session's end: whether the session was aborted. Blocks of earlier
    /// versions do not say.
    pub aborted: Option<bool>,
}

impl Header {
    /// Reads a header as it is kept. Its claims are within the limits of a block.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_HEADER {
            return Err(DecodeError::TooLarge("header"));
        }
        let header = wire::Header::decode(bytes)?;
        if header.version != VERSION {
            return Err(DecodeError::UnknownVersion(header.version));
        }
        let uncompressed_bytes = usize::try_from(header.uncompressed_bytes).unwrap_or(usize::MAX);
        if uncompressed_bytes > MAX_UNCOMPRESSED {
            return Err(DecodeError::TooLarge("uncompressed length"));
        }
        if header.records as usize > MAX_RECORDS {
            return Err(DecodeError::TooLarge("number of records"));
        }
        Ok(Self {
            environment: wire::parse_id(&header.environment)?,
            records: header.records,
            first_at: Timestamp::from_nanos(header.first_at),
            last_at: Timestamp::from_nanos(header.last_at),
            sources: header
                .sources
                .into_iter()
                .map(wire::parse_source)
                .collect::<Result<_, _>>()?,
            producers: header.producers.iter().map(parse_span).collect::<Result<_, _>>()?,
            uncompressed_bytes,
        })
    }

    pub(super) fn of(
        environment: Id<Environment>,
        records: &[Record],
        uncompressed_bytes: usize,
    ) -> Self {
        let mut producers: Vec<ProducerSpan> = Vec::new();
        let mut places = HashMap::new();
        let mut sources = [false; Source::ALL.len()];
        let mut last: Option<(&Arc<Origin>, usize)> = None;
        for record in records {
            // Neighbours mostly share their origin; that spares looking for its place.
            let place = match last {
                Some((origin, place)) if Arc::ptr_eq(origin, &record.origin) => place,
                _ => {
                    for (source, present) in Source::ALL.iter().zip(&mut sources) {
                        *present |= *source == record.origin.source;
                    }
                    *places.entry(record.origin.producer).or_insert(producers.len())
                }
            };
            last = Some((&record.origin, place));
            if place == producers.len() {
                producers.push(ProducerSpan {
                    producer: record.origin.producer,
                    first_seq: record.seq,
                    last_seq: record.seq,
                    last_at: record.at,
                    records: 0,
                    output_bytes: 0,
                    aborted: None,
                });
            }
            if let Some(span) = producers.get_mut(place) {
                span.last_seq = record.seq;
                span.last_at = record.at;
                span.records = span.records.saturating_add(1);
                span.aborted = match record.event {
                    Event::SessionEnded { aborted, .. } => Some(aborted),
                    _ => None,
                };
                if let Event::Output { bytes, .. } = &record.event {
                    span.output_bytes = span.output_bytes.saturating_add(bytes.len() as u64);
                }
            }
        }
        let times = records.iter().map(|record| record.at);
        Self {
            environment,
            records: u32::try_from(records.len()).unwrap_or(u32::MAX),
            first_at: times.clone().min().unwrap_or_default(),
            last_at: times.max().unwrap_or_default(),
            sources: Source::ALL
                .into_iter()
                .zip(sources)
                .filter_map(|(source, present)| present.then_some(source))
                .collect(),
            producers,
            uncompressed_bytes,
        }
    }

    /// Whether this header is that of records with the header `found`. It may say less.
    pub(super) fn describes(&self, mut found: Self) -> bool {
        for (span, found) in self.producers.iter().zip(&mut found.producers) {
            if span.aborted.is_none() {
                found.aborted = None;
            }
        }
        *self == found
    }

    pub(super) fn pack(&self) -> Vec<u8> {
        wire::Header {
            version: VERSION,
            environment: wire::id(self.environment),
            records: self.records,
            first_at: self.first_at.nanos(),
            last_at: self.last_at.nanos(),
            sources: self.sources.iter().copied().map(wire::source).collect(),
            producers: self.producers.iter().map(span).collect(),
            uncompressed_bytes: self.uncompressed_bytes as u64,
        }
        .encode_to_vec()
    }
}

fn span(span: &ProducerSpan) -> wire::ProducerSpan {
    wire::ProducerSpan {
        producer: wire::id(span.producer),
        first_seq: span.first_seq,
        last_seq: span.last_seq,
        last_at: span.last_at.nanos(),
        records: span.records,
        output_bytes: span.output_bytes,
        aborted: span.aborted,
    }
}

fn parse_span(span: &wire::ProducerSpan) -> Result<ProducerSpan, DecodeError> {
    Ok(ProducerSpan {
        producer: wire::parse_id(&span.producer)?,
        first_seq: span.first_seq,
        last_seq: span.last_seq,
        last_at: Timestamp::from_nanos(span.last_at),
        records: span.records,
        output_bytes: span.output_bytes,
        aborted: span.aborted,
    })
}
