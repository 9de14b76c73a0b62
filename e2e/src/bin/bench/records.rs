//! Records as a session makes them, for measuring what comes after the edge.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use log_stream::Block;
use model::{
    AppTag, Environment, EnvironmentTag, Event, Id, Origin, OutputStream, Record, SessionTag,
    Source, Timestamp,
};

/// What the edge puts into one block of small records.
pub(crate) const RECORDS_PER_BLOCK: usize = 2048;

/// One session in an environment.
#[derive(Debug)]
pub(crate) struct Session {
    origin: Arc<Origin>,
    seq: u64,
    offset: u64,
}

impl Session {
    /// The first session of this environment.
    pub(crate) fn new(environment: Id<Environment>) -> Result<Self> {
        let id = Id::generate();
        let origin = Origin {
            producer: id.producer(),
            source: Source::EphemeralSession,
            environment: EnvironmentTag {
                id: environment,
                handle: "production".parse()?,
                organization: Id::generate(),
            },
            app: Some(AppTag { id: Id::generate(), handle: "web".parse()? }),
            database: None,
            session: Some(SessionTag {
                id,
                user: Id::generate(),
                user_email: "ada@example.com".to_owned(),
                user_name: "Ada Lovelace".to_owned(),
            }),
        };
        Ok(Self { origin: Arc::new(origin), seq: 0, offset: 0 })
    }

    /// The next record: this output.
    pub(crate) fn output(&mut self, bytes: Bytes) -> Record {
        let (seq, offset) = (self.seq, self.offset);
        self.seq += 1;
        self.offset += bytes.len() as u64;
        let event = Event::Output { stream: OutputStream::Stdout, offset, bytes };
        Record { origin: Arc::clone(&self.origin), seq, at: Timestamp::now(), event }
    }

    /// A block of these outputs.
    pub(crate) fn block(&mut self, outputs: impl IntoIterator<Item = Bytes>) -> Result<Arc<Block>> {
        let records: Vec<Record> = outputs.into_iter().map(|bytes| self.output(bytes)).collect();
        Ok(Arc::new(Block::encode(self.origin.environment.id, &records)?))
    }
}
