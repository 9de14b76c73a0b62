//! The log stream on a real PostgreSQL.

#![allow(clippy::expect_used, reason = "what a test prepares itself is valid")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::postgres::TestDatabase;
use futures_util::StreamExt as _;
use log_stream::{Block, LogStream as _, Position, PostgresSettings, PostgresStream, ReadError};
use model::{
    Environment, EnvironmentTag, Event, Id, Origin, OutputStream, Producer, Record, Secret, Source,
    Timestamp,
};
use tokio::time::timeout;
use uuid::Uuid;

mod disk;
mod faults;
mod fences;
mod memory;
mod order;
mod partitions;
mod reading;
mod roles;
mod standby;

/// Far more than anything here takes.
const DEADLINE: Duration = Duration::from_mins(1);

async fn open(database_url: &str) -> Result<PostgresStream> {
    let url = Secret::new(database_url.to_owned());
    Ok(PostgresStream::connect(PostgresSettings::new(url)).await?)
}

async fn open_new() -> Result<(TestDatabase, PostgresStream)> {
    let database = TestDatabase::create().await?;
    let stream = open(database.admin_url()).await?;
    Ok((database, stream))
}

/// Numbers the records of one producer.
struct Appender {
    origin: Arc<Origin>,
    next_seq: u64,
}

impl Appender {
    fn new(environment: Id<Environment>) -> Self {
        let environment = EnvironmentTag {
            id: environment,
            handle: "production".parse().expect("a handle"),
            organization: Id::generate(),
        };
        let origin = Origin {
            producer: Id::generate(),
            source: Source::EphemeralSession,
            environment,
            app: None,
            database: None,
            session: None,
        };
        Self { origin: Arc::new(origin), next_seq: 0 }
    }

    fn producer(&self) -> Id<Producer> {
        self.origin.producer
    }

    fn record(&mut self, bytes: &[u8]) -> Record {
        let seq = self.next_seq;
        self.next_seq += 1;
        let event =
            Event::Output { stream: OutputStream::Stdout, offset: 0, bytes: bytes.to_vec().into() };
        Record { origin: Arc::clone(&self.origin), seq, at: Timestamp::now(), event }
    }

    /// A block of one record.
    fn block(&mut self, bytes: &[u8]) -> Arc<Block> {
        let record = self.record(bytes);
        let environment = self.origin.environment.id;
        Arc::new(Block::encode(environment, &[record]).expect("a block"))
    }
}

/// Reads until `count` blocks have come.
async fn read(
    stream: &PostgresStream,
    environment: Id<Environment>,
    from: Position,
    count: usize,
) -> Result<Vec<(Position, Block)>> {
    let blocks = stream.read(environment, from).take(count).collect::<Vec<_>>();
    let blocks = timeout(DEADLINE, blocks).await.context("the reader waits for more")?;
    Ok(blocks.into_iter().collect::<Result<_, ReadError>>()?)
}

fn ids(blocks: &[(Position, Block)]) -> Vec<Uuid> {
    blocks.iter().map(|(_, block)| block.id()).collect()
}

/// Fails unless positions rise and each producer's records come from 0, in order, without gaps.
fn assert_in_order(blocks: &[(Position, Block)]) -> Result<()> {
    assert!(blocks.is_sorted_by(|(one, _), (other, _)| one < other), "positions rise");
    let mut next = HashMap::new();
    for (_, block) in blocks {
        for record in block.records()? {
            let next = next.entry(record.origin.producer).or_insert(0);
            assert_eq!(record.seq, *next, "producer {}", record.origin.producer);
            *next += 1;
        }
    }
    Ok(())
}
