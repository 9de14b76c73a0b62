//! Requests that have a key of their own: however often one is sent, its lines are in the stream once.
//!
//! The id of a request's first block is written down before anything is appended; those of the others are derived
//! from it, and so is its records' producer. Whoever appends again, after whatever, appends under the same
//! ids, and the stream keeps the first block of an id. So it holds across a crash at any place.
//!
//! Invariant: how lines are divided into blocks depends on the request's body alone, and what is appended under its ids
//! on that and on the first of these, times included; only which drains have delivered a line before may be noted on
//! it by one attempt and not by another.

use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_TYPE;
use log_stream::{Block, EncodeError};
use model::{Event, Id, LogLine, Record, Timestamp};
use sha2::{Digest as _, Sha256};
use uuid::{Builder, Uuid};

use super::Refusal;
use super::lines::Outcome;
use crate::Intake;
use crate::lanes::{BLOCK_BYTES, BLOCK_RECORDS, split};
use crate::loops::Loops;
use crate::sources::Source;

/// The headers that a key may be in; the first that is there counts.
const HEADERS: [&str; 3] = ["Idempotency-Key", "Spillway-Batch-Id", LOGPLEX];
const LOGPLEX: &str = "Logplex-Frame-Id";
/// Characters of a key at most.
const LONGEST: usize = 255;

/// A key as it was sent.
#[derive(Debug)]
pub(super) struct KeyHeader {
    name: &'static str,
    key: String,
}

/// A key with what it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    hash: [u8; 32],
    body_hash: [u8; 32],
}

impl KeyHeader {
    /// The request's, if it has one.
    pub(super) fn of(request: &HttpRequest) -> Result<Option<Self>, Refusal> {
        let mut found =
            HEADERS.into_iter().filter_map(|name| Some((name, request.headers().get(name)?)));
        let Some((name, value)) = found.next() else { return Ok(None) };
        let key = value.to_str().map_err(|_| Refusal::Key(name))?;
        let is_key =
            (1..=LONGEST).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
        if is_key { Ok(Some(Self { name, key: key.to_owned() })) } else { Err(Refusal::Key(name)) }
    }

    /// With what the request says, which is all that its lines depend on.
    pub(super) fn with(self, request: &HttpRequest, body: &[u8]) -> Key {
        let path = request.uri().path_and_query().map_or("", |path| path.as_str());
        let kind = request.headers().get(CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
        self.over(&[path.as_bytes(), kind, body])
    }

    fn over(self, parts: &[&[u8]]) -> Key {
        let body_hash = hash(parts);
        let named: [&[u8]; 3] = [self.name.as_bytes(), self.key.as_bytes(), &body_hash];
        // Logplex drops what is refused, so a frame that comes again and is another is another request.
        let hash = if self.name == LOGPLEX { hash(&named) } else { hash(&named[..2]) };
        Key { hash, body_hash }
    }
}

/// Of each part with its length, so that no two lists are the same bytes.
fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// Puts the lines into the stream, if they are not there; how the request went the first time.
pub(super) async fn deliver(
    intake: &Intake,
    source: &Source,
    key: &Key,
    lines: Vec<LogLine>,
    outcome: Outcome,
) -> Result<Outcome, Refusal> {
    let failed = |error: store::StoreError| {
        tracing::warn!(source = %source.id(), "a request with a key cannot be written down: {error}");
        Refusal::NotDurable
    };
    let begun = intake
        .store
        .begin_intake_request(source.id(), &key.hash, &key.body_hash, Uuid::now_v7())
        .await
        .map_err(failed)?;
    if begun.body_hash != key.body_hash {
        return Err(Refusal::KeyUsed);
    }
    if let Some(answer) = begun.answer {
        // An answer of another version tells the same as what was read now.
        return Ok(serde_json::from_value(answer).unwrap_or(outcome));
    }
    let (count, bytes) = size(&lines);
    for block in blocks(intake.lanes.loops(), source, begun.block_id, lines) {
        let block = block.map_err(|error| {
            tracing::error!(source = %source.id(), "lines cannot be recorded: {error}");
            Refusal::NotDurable
        })?;
        intake.lanes.append(block).await.map_err(|_| Refusal::NotDurable)?;
    }
    let answer = serde_json::to_value(&outcome).unwrap_or_default();
    match intake.store.finish_intake_request(source.id(), &key.hash, &answer).await {
        // Of several that appended at the same time, one counts.
        Ok(is_first) if is_first => intake.counts.durable(source.id(), count, bytes),
        Ok(_) => {}
        // They are durable all the same.
        Err(error) => {
            tracing::warn!(source = %source.id(), "a request's end cannot be written down: {error}");
        }
    }
    Ok(outcome)
}

/// How many lines, and the bytes of their texts and fields.
fn size(lines: &[LogLine]) -> (usize, usize) {
    let bytes = lines.iter().map(|line| line.text.len() + line.fields.packed().len());
    (lines.len(), bytes.sum())
}

/// The lines' blocks, each packed when it is asked for.
fn blocks(
    loops: &Loops,
    source: &Source,
    first: Uuid,
    lines: Vec<LogLine>,
) -> impl Iterator<Item = Result<Block, EncodeError>> {
    let (environment, origin) = (source.environment(), source.origin_as(Id::from_uuid(first)));
    let (of, at) = (source.of(), millis(first) * 1_000_000);
    let mut records = (0..)
        .zip(lines.into_iter().flat_map(split))
        .map(move |(seq, mut line)| {
            let bytes = line.text.len() + line.fields.packed().len();
            loops.mark(of, &mut line);
            let event = Event::Line(Box::new(line));
            // No two at the same time: receivers drop what has the same time and text as repeats.
            let at = Timestamp::from_nanos(at.saturating_add(seq));
            (Record { origin: origin.clone(), seq, at, event }, bytes)
        })
        .peekable();
    let mut number = 0;
    std::iter::from_fn(move || {
        records.peek()?;
        let (mut block, mut bytes) = (Vec::new(), 0);
        while bytes < BLOCK_BYTES
            && block.len() < BLOCK_RECORDS
            && let Some((record, more)) = records.next()
        {
            bytes += more;
            block.push(record);
        }
        let id = block_id(first, number);
        number += 1;
        Some(Block::encode_as(id, environment, &block))
    })
}

/// The id of a request's block: a `UUIDv7` of the same time.
fn block_id(first: Uuid, number: u64) -> Uuid {
    if number == 0 {
        return first;
    }
    let hash = hash(&[first.as_bytes(), &number.to_be_bytes()]);
    let random = hash.first_chunk().copied().unwrap_or_default();
    Builder::from_unix_timestamp_millis(millis(first), &random).into_uuid()
}

/// Milliseconds since the Unix epoch at which a `UUIDv7` was made.
fn millis(id: Uuid) -> u64 {
    let (seconds, nanos) = id.get_timestamp().map_or((0, 0), |at| at.to_unix());
    seconds * 1000 + u64::from(nanos / 1_000_000)
}

#[cfg(test)]
mod tests;
