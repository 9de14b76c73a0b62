//! The first half of a pipeline: from the stream to batches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use log_stream::{Block, LogStream, Position, ReadError};
use model::{Environment, Event, Id, Record};
use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Status;
use crate::batch::{Batch, Batcher};
use crate::lines::{Assembler, Checkpoint, Shaper};

const READ_AGAIN: Duration = Duration::from_secs(1);
/// A damaged block is read again in case somebody repairs it: going past it would lose records.
const READ_DAMAGED_AGAIN: Duration = Duration::from_mins(1);

/// Bytes of output that become lines at a time. An empty line of one byte is sent with hundreds of
/// bytes of tags, so this bounds what waits to be handed over.
const PIECE: usize = 8 * 1024;

pub(super) struct Reader {
    pub(super) stream: Arc<dyn LogStream>,
    pub(super) environment: Id<Environment>,
    /// Everything up to here was read.
    pub(super) from: Position,
    pub(super) assembler: Assembler,
    pub(super) shaper: Shaper,
    pub(super) batcher: Batcher,
    pub(super) reached: Option<Checkpoint>,
    pub(super) status: Arc<Status>,
}

/// Nobody takes batches any more, or the pipeline is to stop.
struct Over;

impl Reader {
    /// Reads until `stop`.
    pub(super) async fn run(mut self, batches: mpsc::Sender<Batch>, stop: CancellationToken) {
        // Losing the reading is safe: what it had not handed over is read again.
        tokio::select! {
            () = stop.cancelled() => {}
            Over = self.read(batches) => {}
        }
    }

    async fn read(&mut self, batches: mpsc::Sender<Batch>) -> Over {
        let mut blocks = self.stream.read(self.environment, self.from);
        loop {
            let due = self.batcher.due();
            // Reading goes first, so that a busy endpoint gets full batches and an idle one gets
            // its lines at once, unless they are gathered. Losing an arm is safe: blocks are whole when
            // they come, and the others only wait.
            let block = tokio::select! {
                biased;
                block = blocks.next() => Some(block),
                permit = batches.reserve(), if due.is_none() && self.batcher.has_some() => {
                    let Ok(permit) = permit else { return Over };
                    if let Some(batch) = self.batcher.take() {
                        permit.send(batch);
                    }
                    None
                }
                // What is due is handed over below.
                () = until(due) => None,
            };
            let wait = match block {
                None => None,
                Some(Some(Ok((position, block)))) => {
                    match self.take(position, &block, &batches).await {
                        Ok(Ok(())) => None,
                        Ok(Err(error)) => Some(error),
                        Err(over) => return over,
                    }
                }
                Some(Some(Err(error))) => Some(error),
                Some(None) => Some(ReadError::Unavailable("it ended".to_owned())),
            };
            if let Some(error) = wait {
                sleep(self.trouble(&error)).await;
                blocks = self.stream.read(self.environment, self.from);
            }
            self.reached();
            if hand_over(&mut self.batcher, &batches).await.is_err() {
                return Over;
            }
        }
    }

    /// How long to wait before reading again.
    fn trouble(&self, error: &ReadError) -> Duration {
        match error {
            ReadError::Unavailable(_) => {
                tracing::warn!(environment = %self.environment, "{error}");
                READ_AGAIN
            }
            ReadError::Damaged { .. } => {
                self.status.failed(&error.to_string());
                READ_DAMAGED_AGAIN
            }
        }
    }

    async fn take(
        &mut self,
        position: Position,
        block: &Block,
        batches: &mpsc::Sender<Batch>,
    ) -> Result<Result<(), ReadError>, Over> {
        let records = match block.records() {
            Ok(records) => records,
            Err(source) => return Ok(Err(ReadError::Damaged { position, source })),
        };
        self.assembler.begin_block(position);
        for record in &records {
            let (stream, offset, bytes) = match &record.event {
                Event::Output { stream, offset, bytes } if bytes.len() > PIECE => {
                    (*stream, *offset, bytes)
                }
                _ => {
                    self.push(record);
                    hand_over(&mut self.batcher, batches).await?;
                    continue;
                }
            };
            for (piece, number) in bytes.chunks(PIECE).zip(0..) {
                let (offset, bytes) = (offset + number * PIECE as u64, bytes.slice_ref(piece));
                let event = Event::Output { stream, offset, bytes };
                let part = Record { event, origin: record.origin.clone(), ..*record };
                self.push(&part);
                hand_over(&mut self.batcher, batches).await?;
            }
        }
        self.assembler.end_block();
        self.from = position;
        Ok(Ok(()))
    }

    fn push(&mut self, record: &Record) {
        let Self { assembler, shaper, batcher, .. } = self;
        assembler.push(record, &mut |line| shaper.shape(line, |line| batcher.add(line)));
    }

    fn reached(&mut self) {
        let checkpoint = self.assembler.checkpoint();
        if checkpoint != self.reached
            && let Some(checkpoint) = checkpoint
        {
            self.reached = Some(checkpoint.clone());
            self.batcher.reached(checkpoint);
        }
    }
}

async fn hand_over(from: &mut Batcher, to: &mpsc::Sender<Batch>) -> Result<(), Over> {
    while let Some(batch) = from.next_full() {
        to.send(batch).await.map_err(|_| Over)?;
    }
    Ok(())
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
