//! The first half of a pipeline: from the stream to batches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use log_stream::{Block, LogStream, Pages, Position, ReadError};
use model::{Environment, Event, Id, Record, Timestamp};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Status;
use crate::batch::{Batch, Batcher, Resume};
use crate::lines::{Assembler, Checkpoint, Shaper};

const READ_AGAIN: Duration = Duration::from_secs(1);
/// After this long without a block the next one is new.
const CAUGHT_UP: Duration = Duration::from_secs(1);
/// A damaged block is read again in case somebody repairs it: going past it would lose records.
const READ_DAMAGED_AGAIN: Duration = Duration::from_mins(1);

/// Bytes, and lines, of output that become lines at a time. An empty line of one byte is sent with hundreds of
/// bytes of tags, so this bounds what waits to be handed over.
const PIECE: usize = 2 * 1024;
const PIECE_LINES: usize = 64;
/// Bytes after which other drains have their turn: to mask what is in them may take a while.
const TURN: usize = 64 * 1024;

/// A block that waits for the endpoint for so long is thrown away, with its page, and read again when the
/// endpoint has taken something.
const PATIENCE: Duration = Duration::from_millis(250);
/// The same where other drains may wait for pages: far more than an endpoint takes that works.
const PATIENCE_CONTENDED: Duration = Duration::from_millis(50);

pub(super) struct Reader {
    pub(super) stream: Arc<dyn LogStream>,
    pub(super) environment: Id<Environment>,
    /// Everything up to here was read.
    pub(super) from: Position,
    pub(super) assembler: Assembler,
    pub(super) shaper: Shaper,
    pub(super) batcher: Batcher,
    pub(super) reached: Option<Checkpoint>,
    /// Pieces of the next block that have become lines.
    pub(super) pieces: usize,
    /// Of all readers.
    pub(super) pages: Pages,
    pub(super) status: Arc<Status>,
}

/// Why a block is not taken to its end.
enum Stopped {
    /// Nobody takes batches any more, or the pipeline is to stop.
    Over,
    /// The endpoint takes nothing.
    Waits,
    Failed(ReadError),
}

impl Reader {
    /// Begins anew there.
    pub(super) fn resume(&mut self, from: &mut Resume) {
        self.from = from.checkpoint.low;
        if !self.assembler.repeats_from(self.from) {
            // Lines that may come in another order are not left out by their number.
            from.lines = 0;
        }
        self.assembler.resume(from.checkpoint.clone());
        self.batcher.resume(from);
        // It is reached again before anything else is.
        (self.reached, self.pieces) = (Some(from.checkpoint.clone()), 0);
    }

    /// Reads until `stop`, or until nobody takes batches any more.
    pub(super) async fn run(
        mut self,
        batches: mpsc::Sender<Batch>,
        stop: CancellationToken,
    ) -> Self {
        // Losing the reading is safe: what it had not handed over is read again.
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.read(batches) => {}
        }
        self
    }

    async fn read(&mut self, batches: mpsc::Sender<Batch>) {
        let mut blocks =
            self.stream.read_at_leisure(self.environment, self.from, self.status.leisure());
        let mut read_at = tokio::time::Instant::now();
        loop {
            let (due, complete) = (self.batcher.due(), self.assembler.joined_until());
            let caught_up = read_at + CAUGHT_UP;
            // Reading goes first, so that a busy endpoint gets full batches and an idle one gets
            // its lines at once, unless they are gathered. Losing an arm is safe: blocks are whole when
            // they come, and the others only wait.
            let block = tokio::select! {
                biased;
                block = blocks.next() => Some(block),
                permit = batches.reserve(), if due.is_none() && self.batcher.has_some() => {
                    let Ok(permit) = permit else { return };
                    // Those that wait for a page cannot know.
                    let is_newest = !self.pages.are_scarce();
                    if let Some(batch) = self.batcher.take(is_newest) {
                        permit.send(batch);
                    }
                    None
                }
                // What is due is handed over below.
                () = until(due) => None,
                () = async { tokio::join!(sleep_until(caught_up), until_clock(complete)); } => {
                    let Self { assembler, shaper, batcher, .. } = self;
                    assembler.deliver_joined(Timestamp::now(), &mut |line| {
                        shaper.shape(line, |line| batcher.add(line));
                    });
                    None
                }
            };
            let taken = match block {
                None => Ok(()),
                Some(Some(Ok((position, block)))) => {
                    let taken = self.take(position, &block, &batches).await;
                    read_at = tokio::time::Instant::now();
                    taken
                }
                Some(Some(Err(error))) => Err(Stopped::Failed(error)),
                Some(None) => Err(Stopped::Failed(ReadError::Unavailable("it ended".to_owned()))),
            };
            self.reached();
            let handed_over = match taken {
                Ok(()) => self.hand_over(&batches).await,
                stopped => stopped,
            };
            match handed_over {
                Ok(()) => continue,
                Err(Stopped::Over) => return,
                Err(Stopped::Waits) => {
                    // With its page.
                    drop(blocks);
                    while self.batcher.has_full() {
                        let Ok(permit) = batches.reserve().await else { return };
                        if let Some(batch) = self.batcher.next_full() {
                            permit.send(batch);
                        }
                    }
                }
                Err(Stopped::Failed(error)) => {
                    drop(blocks);
                    sleep(self.trouble(&error)).await;
                }
            }
            blocks =
                self.stream.read_at_leisure(self.environment, self.from, self.status.leisure());
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
    ) -> Result<(), Stopped> {
        let records = block
            .records()
            .map_err(|source| Stopped::Failed(ReadError::Damaged { position, source }))?;
        let Self { assembler, shaper, batcher, .. } = self;
        assembler.repeat_clocked(&mut |line| shaper.shape(line, |line| batcher.add(line)));
        self.assembler.begin_block(position);
        let (mut piece, mut taken) = (0, 0);
        for record in &records {
            if taken >= TURN {
                taken = 0;
                yield_now().await;
            }
            let (stream, offset, bytes) = match &record.event {
                Event::Output { stream, offset, bytes } if piece_end(bytes) < bytes.len() => {
                    (*stream, *offset, bytes)
                }
                event => {
                    taken += content(event);
                    if self.push(record, &mut piece) {
                        self.hand_over(batches).await?;
                    }
                    continue;
                }
            };
            let mut rest = bytes.clone();
            while !rest.is_empty() {
                if taken >= TURN {
                    taken = 0;
                    yield_now().await;
                }
                let offset = offset + (bytes.len() - rest.len()) as u64;
                let event =
                    Event::Output { stream, offset, bytes: rest.split_to(piece_end(&rest)) };
                taken += content(&event);
                let part = Record { event, origin: record.origin.clone(), ..*record };
                if self.push(&part, &mut piece) {
                    self.hand_over(batches).await?;
                }
            }
        }
        self.assembler.end_block();
        (self.from, self.pieces) = (position, 0);
        Ok(())
    }

    /// Takes the next piece of a block, unless that was done before the block was thrown away; whether there
    /// is something to hand over.
    fn push(&mut self, record: &Record, piece: &mut usize) -> bool {
        *piece += 1;
        if *piece <= self.pieces {
            return false;
        }
        let Self { assembler, shaper, batcher, .. } = self;
        assembler.push(record, &mut |line| shaper.shape(line, |line| batcher.add(line)));
        self.pieces = *piece;
        batcher.has_full()
    }

    async fn hand_over(&mut self, to: &mpsc::Sender<Batch>) -> Result<(), Stopped> {
        while self.batcher.has_full() {
            let since = Instant::now();
            let permit = loop {
                match timeout(PATIENCE_CONTENDED, to.reserve()).await {
                    Ok(permit) => break permit.map_err(|_| Stopped::Over)?,
                    Err(_) if since.elapsed() >= PATIENCE || self.pages.are_scarce() => {
                        return Err(Stopped::Waits);
                    }
                    Err(_) => {}
                }
            };
            if let Some(batch) = self.batcher.next_full() {
                permit.send(batch);
            }
        }
        Ok(())
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

/// Bytes of a record that become text of lines.
fn content(event: &Event) -> usize {
    match event {
        Event::Output { bytes, .. } | Event::Input { bytes, .. } => bytes.len(),
        Event::Line(line) => line.text.len(),
        _ => 0,
    }
}

/// How long the first piece is.
fn piece_end(bytes: &[u8]) -> usize {
    let piece = bytes.get(..PIECE).unwrap_or(bytes);
    let end = memchr::memchr_iter(b'\n', piece).nth(PIECE_LINES - 1).map(|at| at + 1);
    end.unwrap_or(piece.len())
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

async fn until_clock(at: Option<Timestamp>) {
    match at {
        Some(at) => sleep(at.since(Timestamp::now())).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn pieces_have_few_lines_and_few_bytes() {
        let whole = Bytes::from(["\n".repeat(3000), "a".repeat(5000), "b\n".repeat(100)].concat());
        let mut rest = whole.clone();
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            pieces.push(rest.split_to(piece_end(&rest)));
        }
        assert_eq!(pieces.concat(), whole);
        for piece in pieces {
            let lines = memchr::memchr_iter(b'\n', &piece).count();
            assert!(!piece.is_empty() && piece.len() <= PIECE && lines <= PIECE_LINES, "{piece:?}");
        }
    }
}
