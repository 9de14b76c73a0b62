//! Reading what has piled up.

use std::time::Instant;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use e2e::postgres::TestDatabase;
use futures_util::StreamExt as _;
use log_stream::{LogStream as _, Position, PostgresStream};
use model::{Environment, Id};
use tokio::time::timeout;

use super::{DEADLINE, Table, Target, open};
use crate::log_text::log_text;
use crate::records::{RECORDS_PER_BLOCK, Session};

/// Log lines of one environment, a record for each.
pub(super) struct Backlog {
    stream: PostgresStream,
    environment: Id<Environment>,
    records: usize,
    bytes: usize,
    _database: TestDatabase,
}

impl Backlog {
    /// Appends so many.
    pub(super) async fn make(records: usize) -> Result<Self> {
        let (database, stream) = open().await?;
        let environment = Id::generate();
        let mut session = Session::new(environment)?;
        let text = log_text(records.min(100_000) * 256);
        let lines: Vec<Bytes> = text
            .split_inclusive('\n')
            .map(|line| Bytes::copy_from_slice(line.as_bytes()))
            .collect();
        let mut lines = lines.iter().cycle().cloned();
        let (mut left, mut bytes) = (records, 0);
        while left > 0 {
            let count = left.min(RECORDS_PER_BLOCK);
            let outputs: Vec<Bytes> = lines.by_ref().take(count).collect();
            bytes += outputs.iter().map(Bytes::len).sum::<usize>();
            stream.append(session.block(outputs)?).await?;
            left -= count;
        }
        Ok(Self { stream, environment, records, bytes, _database: database })
    }

    /// Reads all of it, records unpacked and checked.
    pub(super) async fn measure(&self, table: &mut Table) -> Result<()> {
        let begun = Instant::now();
        let mut blocks = self.stream.read(self.environment, Position::START);
        let mut read = 0;
        while read < self.records {
            let block = timeout(DEADLINE, blocks.next()).await?.context("it never ends")??.1;
            read += block.records()?.len();
        }
        let seconds = begun.elapsed().as_secs_f64();
        let what = format!("a reader {} million records behind", self.records as f64 / 1e6);
        let row = table.row(what.clone(), "records/s", &[Target::AtLeast(1e6)]);
        table.add(row, 0, self.records as f64 / seconds);
        let row = table.row(format!("{what}, log text"), "MB/s", &[]);
        table.add(row, 0, self.bytes as f64 / 1e6 / seconds);
        Ok(())
    }
}
