//! The customers' endpoints: they keep what they are sent, and misbehave as they are told.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use tokio::time::Instant;

use crate::evidence::{self, Arrival};

pub(crate) mod https;
pub(crate) mod syslog;

/// Where a receiver writes what it has.
#[derive(Debug)]
pub(crate) struct Ledger {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: BufWriter<File>,
    last_arrival: Option<Instant>,
    failure: Option<String>,
}

impl Ledger {
    fn create(path: &Path) -> Result<Self> {
        let file = BufWriter::new(File::create(path)?);
        Ok(Self { state: Mutex::new(State { file, last_arrival: None, failure: None }) })
    }

    fn keep(&self, arrivals: &[Arrival]) {
        let mut state = self.lock();
        state.last_arrival = Some(Instant::now());
        for arrival in arrivals {
            if let Err(error) = evidence::write_arrival(&mut state.file, arrival) {
                state.failure = Some(error.to_string());
            }
        }
    }

    fn complain(&self, what: String) {
        self.lock().failure.get_or_insert(what);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When something arrived last.
    pub(crate) fn last_arrival(&self) -> Option<Instant> {
        self.lock().last_arrival
    }

    /// Writes out what is buffered; an error if anything was not kept.
    pub(crate) fn finish(&self) -> Result<()> {
        let mut state = self.lock();
        state.file.flush()?;
        match state.failure.take() {
            Some(failure) => anyhow::bail!("a receiver could not keep what it got: {failure}"),
            None => Ok(()),
        }
    }
}
