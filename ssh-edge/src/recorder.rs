//! One session's records: numbered without a gap, in time's order, outputs with their offsets.

use std::sync::Arc;

use bytes::Bytes;
use model::{Event, Origin, OutputStream, Record, Timestamp};

use crate::gate::{Durable, Gate};

/// Numbers a session's records and submits them.
pub(crate) struct Recorder {
    gate: Gate,
    origin: Arc<Origin>,
    next_seq: u64,
    last_at: Timestamp,
    stdout_bytes: u64,
    stderr_bytes: u64,
}

impl Recorder {
    /// For a session that has no record yet.
    #[must_use]
    pub(crate) fn new(gate: Gate, origin: Origin) -> Self {
        Self::resume(gate, origin, 0, Timestamp::default())
    }

    /// For a session that has records up to `next_seq`, the last of them made at `last_at`.
    #[must_use]
    pub(crate) fn resume(gate: Gate, origin: Origin, next_seq: u64, last_at: Timestamp) -> Self {
        Self { gate, origin: Arc::new(origin), next_seq, last_at, stdout_bytes: 0, stderr_bytes: 0 }
    }

    /// Submits events in order; each future resolves to its event when that is durable.
    pub(crate) fn record(&mut self, events: impl IntoIterator<Item = Event>) -> Vec<Durable> {
        let records: Vec<Record> = events.into_iter().map(|event| self.number(event)).collect();
        self.gate.submit(self.origin.environment.id, records)
    }

    /// What a program wrote, as an event.
    pub(crate) fn output(&mut self, stream: OutputStream, bytes: Bytes) -> Event {
        let counter = match stream {
            OutputStream::Stdout => &mut self.stdout_bytes,
            OutputStream::Stderr => &mut self.stderr_bytes,
        };
        let offset = *counter;
        *counter += bytes.len() as u64;
        Event::Output { stream, offset, bytes }
    }

    /// Bytes of output so far, standard output and standard error together.
    #[must_use]
    pub(crate) const fn output_bytes(&self) -> u64 {
        self.stdout_bytes + self.stderr_bytes
    }

    fn number(&mut self, event: Event) -> Record {
        // The system's clock may be set back; a session's time is not.
        self.last_at = self.last_at.max(Timestamp::now());
        let record =
            Record { origin: self.origin.clone(), seq: self.next_seq, at: self.last_at, event };
        self.next_seq += 1;
        record
    }
}
