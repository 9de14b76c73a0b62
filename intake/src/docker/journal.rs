//! A container's records into the stream, each once.
//!
//! Before a block is appended, its id and the position after it are written down; the next write says that it is
//! there. Who goes on after a crash makes sure that the block's appender appends nothing any more, however many
//! have claimed the container since, looks whether the block is in the stream, and so knows where to read on.
//! Blocks have an appender of this way in's own: being fenced off ends it and no other.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use log_stream::{AppendError, Block, LogStream as _};
use model::{Event, Id, Origin, Record, Timestamp};
use serde_json::Value;
use store::container_logs::Advance;
use tokio::time::sleep;
use uuid::Uuid;

use super::Docker;
use super::position::Position;
use crate::loops::SourceOf;
use crate::sources::Source;

const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(2);

/// The process stops, or another has taken the containers over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopped;

/// A container is followed no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// Nor is any other.
    Stopped,
    /// What was written down of this one is gone.
    Forgotten,
}

/// What is written down of a container.
pub(super) struct Journal {
    docker: Docker,
    container: String,
    origin: Arc<Origin>,
    source: SourceOf,
    position: Position,
    /// The last block is not written down as being there.
    is_pending: bool,
}

impl Journal {
    /// Claims a container, and finds out how far its log is in the stream.
    pub(super) async fn open(
        docker: &Docker,
        container: &str,
        daemon: &str,
        source: &Source,
    ) -> Result<Self, Over> {
        let (store, appender) = (&docker.intake.store, docker.stream.appender());
        let start = json(&Position::default());
        let (environment, producer) = (source.environment(), Id::generate());
        let mut patience = Patience::new(docker, "containers cannot be claimed");
        let claim = loop {
            let claim = store.claim_container_log(
                container,
                daemon,
                environment,
                appender,
                producer,
                &start,
            );
            match claim.await {
                Ok(Some(claim)) => break claim,
                Ok(None) => return Err(docker.lost().into()),
                Err(error) => patience.wait(&error).await?,
            }
        };
        let mut position = claim.position;
        let is_pending = claim.pending.is_some();
        if let Some(pending) = claim.pending {
            if pending.appender != appender {
                docker.fence(pending.appender).await?;
            }
            let mut patience = Patience::new(docker, "the log stream cannot be asked for blocks");
            let is_there = loop {
                match store.has_block(pending.id).await {
                    Ok(is_there) => break is_there,
                    Err(error) => patience.wait(&error).await?,
                }
            };
            if is_there {
                position = pending.position;
            }
        }
        let position = serde_json::from_value(position).map_err(|error| {
            tracing::error!(container, "what is kept of the container cannot be read: {error}");
            Over::Stopped
        })?;
        let origin = source.origin_as(claim.producer);
        let container = container.to_owned();
        let (docker, source) = (docker.clone(), source.of());
        let mut journal = Self { docker, container, origin, source, position, is_pending };
        journal.settle().await?;
        Ok(journal)
    }

    /// How far the log is in the stream.
    pub(super) const fn position(&self) -> &Position {
        &self.position
    }

    /// What the records are about, where that has changed.
    pub(super) fn set_source(&mut self, source: &Source) {
        self.origin = source.origin_as(self.origin.producer);
        self.source = source.of();
    }

    /// Appends records of events, after which this is the position. They are in the stream then.
    pub(super) async fn append(
        &mut self,
        mut events: Vec<Event>,
        mut next: Position,
    ) -> Result<(), Over> {
        self.docker.intake.lanes.loops().mark_events(self.source, &mut events);
        // The system's clock may be set back; a producer's time is not. No two records have the same one: receivers
        // drop what has the same time and text as repeats.
        let now = Timestamp::now().nanos();
        next.last_at = self.position.last_at;
        next.next_seq = self.position.next_seq;
        let mut records = Vec::with_capacity(events.len());
        for event in events {
            next.last_at = now.max(next.last_at.saturating_add(1));
            let (origin, at) = (self.origin.clone(), Timestamp::from_nanos(next.last_at));
            records.push(Record { origin, seq: next.next_seq, at, event });
            next.next_seq += 1;
        }
        if records.is_empty() {
            // What was read and gave nothing is read again, if need be.
            return Ok(());
        }
        let block = Block::encode_as(Uuid::now_v7(), self.origin.environment.id, &records);
        let block = block.map_err(|error| {
            tracing::error!(container = self.container, "lines cannot be recorded: {error}");
            Over::Stopped
        })?;
        self.write(Some((block.id(), &json(&next)))).await?;
        let block = Arc::new(block);
        let mut patience =
            Patience::new(&self.docker, "lines are not durable yet; containers wait");
        loop {
            match self.docker.stream.append(block.clone()).await {
                Ok(()) => break,
                Err(AppendError::Fenced) => return Err(self.docker.lost().into()),
                Err(error) => patience.wait(&error).await?,
            }
        }
        self.position = next;
        self.is_pending = true;
        Ok(())
    }

    /// Writes down that the last block is there.
    pub(super) async fn settle(&mut self) -> Result<(), Over> {
        if self.is_pending {
            self.write(None).await?;
            self.is_pending = false;
        }
        Ok(())
    }

    async fn write(&self, pending: Option<(Uuid, &Value)>) -> Result<(), Over> {
        let (docker, position) = (&self.docker, json(&self.position));
        let appender = docker.stream.appender();
        let store = &docker.intake.store;
        let mut patience = Patience::new(docker, "positions of containers cannot be written");
        loop {
            let id = &self.container;
            match store.advance_container_log(id, appender, &position, pending).await {
                Ok(Advance::Done) => return Ok(()),
                Ok(Advance::Claimed) => return Err(docker.lost().into()),
                Ok(Advance::Forgotten) => {
                    tracing::warn!(
                        container = id,
                        "the container is forgotten; what it still says is not recorded"
                    );
                    return Err(Over::Forgotten);
                }
                Err(error) => patience.wait(&error).await?,
            }
        }
    }
}

/// Between tries, until one succeeds or the stop: then what was tried may or may not have been done.
pub(super) struct Patience<'a> {
    docker: &'a Docker,
    what: &'a str,
    delay: Duration,
}

impl<'a> Patience<'a> {
    /// `what` says what it is that does not succeed.
    pub(super) const fn new(docker: &'a Docker, what: &'a str) -> Self {
        Self { docker, what, delay: FIRST_RETRY }
    }

    /// Waits after a failure.
    pub(super) async fn wait(
        &mut self,
        error: &(dyn fmt::Display + Send + Sync),
    ) -> Result<(), Stopped> {
        if self.docker.stop.is_cancelled() {
            return Err(Stopped);
        }
        self.docker.say_once(self.what, error);
        // Losing either arm loses nothing.
        tokio::select! {
            () = self.docker.stop.cancelled() => {}
            () = sleep(self.delay) => {}
        }
        self.delay = (self.delay * 2).min(LONGEST_RETRY);
        Ok(())
    }
}

impl From<Stopped> for Over {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}

fn json(position: &Position) -> Value {
    // A structure of numbers always is JSON.
    serde_json::to_value(position).unwrap_or_default()
}
