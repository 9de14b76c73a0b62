//! Appending: what waits while a statement is in flight goes together into the next one.
//!
//! Writers take from one queue, so no timer delays an append when a writer is idle. Who awaits one
//! append before the next has them read in that order whichever writers they meet: the second's
//! transaction begins, and takes its id, after the first's has ended.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use model::{Appender, Id};
use tokio::sync::{Mutex, OwnedSemaphorePermit, mpsc, oneshot};
use tokio_postgres::Statement;
use uuid::Uuid;

use super::fence;
use super::notifier::Notifier;
use super::session::{Dialer, Failure, Session};
use crate::Block;

/// A statement takes no more blocks than this, ...
const GROUP_BLOCKS: usize = 8;
/// ... and no further block once it has these many bytes.
const GROUP_BYTES: usize = 512 << 10;
/// Between attempts to connect.
const RECONNECT: Duration = Duration::from_millis(100);

// `on conflict` names no target, for which the role would need to read the table: an append is
// tried again with the same id, and a row that is there is a success. A first try that is still in
// flight is waited for.
const INSERT: &str = "insert into stream.blocks (id, made_at, environment_id, header, payload) \
    select * from unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::bytea[], $5::bytea[]) \
    on conflict do nothing";

/// A block on its way, and who waits for it.
#[derive(Debug)]
pub(super) struct Append {
    block: Arc<Block>,
    answer: oneshot::Sender<Result<(), Failure>>,
    /// What the block takes of the queue's bytes, until it is answered.
    _room: OwnedSemaphorePermit,
}

impl Append {
    pub(super) fn new(
        block: Arc<Block>,
        room: OwnedSemaphorePermit,
    ) -> (Self, oneshot::Receiver<Result<(), Failure>>) {
        let (answer, outcome) = oneshot::channel();
        (Self { block, answer, _room: room }, outcome)
    }
}

/// Appends what comes from the queue, until it is closed.
pub(super) async fn run(
    dialer: Dialer,
    appender: Id<Appender>,
    queue: Arc<Mutex<mpsc::Receiver<Append>>>,
    notifier: Arc<Notifier>,
) {
    let mut writer = Writer { dialer, appender, session: None };
    loop {
        let group = take_group(&mut *queue.lock().await).await;
        if group.is_empty() {
            return;
        }
        let blocks: Vec<&Block> = group.iter().map(|append| &*append.block).collect();
        let outcome = writer.append(&blocks).await;
        match outcome {
            // One bad block must not have the others refused with it.
            Err(failure) if failure.refused && group.len() > 1 => {
                for Append { block, answer, .. } in group {
                    let outcome = writer.append(&[&block]).await;
                    if outcome.is_ok() {
                        notifier.appended(block.header().environment);
                    }
                    answer.send(outcome).ok();
                }
            }
            outcome => {
                for Append { block, answer, .. } in group {
                    if outcome.is_ok() {
                        notifier.appended(block.header().environment);
                    }
                    let outcome = outcome.as_ref().map_err(Failure::again).copied();
                    answer.send(outcome).ok();
                }
            }
        }
        if writer.session.is_none() {
            tokio::time::sleep(RECONNECT).await;
        }
    }
}

/// What waits, up to the limits; at least one unless the queue is closed.
async fn take_group(queue: &mut mpsc::Receiver<Append>) -> Vec<Append> {
    let (mut group, mut bytes) = (Vec::new(), 0);
    let mut next = queue.recv().await;
    while let Some(append) = next {
        // Who has given up appends again: writing this one as well would only cost time.
        if !append.answer.is_closed() {
            bytes += append.block.stored_bytes();
            group.push(append);
        }
        next = if group.is_empty() {
            queue.recv().await
        } else if group.len() < GROUP_BLOCKS && bytes < GROUP_BYTES {
            queue.try_recv().ok()
        } else {
            None
        };
    }
    group
}

struct Writer {
    dialer: Dialer,
    appender: Id<Appender>,
    session: Option<(Session, Statement)>,
}

impl Writer {
    async fn append(&mut self, blocks: &[&Block]) -> Result<(), Failure> {
        let session = match self.session.take() {
            Some((session, insert)) if !session.is_closed() => (session, insert),
            _ => {
                let session = self.dialer.dial().await?;
                fence::enter(&session, self.appender).await?;
                let insert = session.prepare(INSERT).await?;
                (session, insert)
            }
        };
        let outcome = append(&session.0, &session.1, blocks).await;
        // After any other failure the connection's state is not known.
        if outcome.as_ref().map_or_else(|failure| failure.refused, |()| true) {
            self.session = Some(session);
        }
        outcome
    }
}

async fn append(session: &Session, insert: &Statement, blocks: &[&Block]) -> Result<(), Failure> {
    match insert_once(session, insert, blocks).await {
        Err(failure) if failure.lacks_partition() => {
            let days = "select stream.ensure_partition(at) from unnest($1::timestamptz[]) at";
            let made_at: Vec<SystemTime> = blocks.iter().map(|block| block.made_at()).collect();
            session.execute(days, &[&made_at]).await?;
            insert_once(session, insert, blocks).await
        }
        outcome => outcome,
    }
}

async fn insert_once(
    session: &Session,
    insert: &Statement,
    blocks: &[&Block],
) -> Result<(), Failure> {
    let ids: Vec<Uuid> = blocks.iter().map(|block| block.id()).collect();
    let made_at: Vec<SystemTime> = blocks.iter().map(|block| block.made_at()).collect();
    let environments: Vec<Uuid> =
        blocks.iter().map(|block| block.header().environment.uuid()).collect();
    let headers: Vec<&[u8]> = blocks.iter().map(|block| block.header_bytes()).collect();
    let payloads: Vec<&[u8]> = blocks.iter().map(|block| block.payload_bytes()).collect();
    session.execute(insert, &[&ids, &made_at, &environments, &headers, &payloads]).await
}
