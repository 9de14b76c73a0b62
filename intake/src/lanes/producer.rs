//! Who numbers records.
//!
//! Invariant: numbers have no gap, and no record is made before or at the same time as the one before it.

use std::sync::{Arc, Mutex, PoisonError};

use model::{Event, Origin, Record, Timestamp};

/// Numbers records: of a connection, a container, or a source's requests.
#[derive(Debug)]
pub(crate) struct Producer {
    origin: Arc<Origin>,
    state: Mutex<Numbered>,
}

#[derive(Debug, Default)]
struct Numbered {
    next_seq: u64,
    last_at: Timestamp,
}

impl Producer {
    /// Of records with this origin.
    pub(crate) fn new(origin: Arc<Origin>) -> Self {
        Self { origin, state: Mutex::default() }
    }

    /// Appends events as the next records.
    pub(super) fn number(
        &self,
        events: impl IntoIterator<Item = Event>,
        records: &mut Vec<Record>,
    ) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // The system's clock may be set back; a producer's time is not. No two have the same time: receivers drop
        // what has the same time and text as repeats.
        let now = Timestamp::now().nanos();
        for event in events {
            let at = Timestamp::from_nanos(now.max(state.last_at.nanos().saturating_add(1)));
            records.push(Record { origin: self.origin.clone(), seq: state.next_seq, at, event });
            state.next_seq += 1;
            state.last_at = at;
        }
    }
}
