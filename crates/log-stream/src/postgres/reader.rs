//! Pages of the stream, read over a few connections that all readers share.
//!
//! Invariant: a page ends before the first block whose transaction id is not below every
//! transaction still open that appends, because one of those may yet add a block in front of it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use model::{Environment, Id, Producer};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};
use uuid::Uuid;

use super::ProducerTail;
use super::session::{Dialer, Failure, Session};
use crate::{Block, DecodeError, Header, Position, ReadError};

/// A page has no more blocks than this.
const PAGE_BLOCKS: u32 = 64;
/// Headers that are looked at in one go.
const HEADERS: u32 = 1_000;
/// A block is made by its producer's clock and asked for by another's.
const CLOCK_SKEW: Duration = Duration::from_mins(10);

/// The first day that there can be.
pub(super) const EVERY_DAY: SystemTime = SystemTime::UNIX_EPOCH;

// `octet_length` of a value stored apart does not fetch it, so the running sum is cheap. What is not
// settled is not sent, only that it is there. `made_at` leaves out days before the plan is run. Blocks are
// settled below every open transaction, and below what was found out by `SETTLED_BELOW` before.
const PAGE: &str = "\
    select xid::text::bigint, seq, id, settled, \
        case when settled then header end, case when settled then payload end \
    from (select *, sum(octet_length(payload)) over (order by xid, seq) \
            - octet_length(payload) as bytes_before \
        from (select id, xid, seq, header, payload, \
                xid < (select greatest($7::text::xid8, pg_snapshot_xmin(pg_current_snapshot()))) \
                    as settled \
            from stream.blocks \
            where environment_id = $1 and (xid, seq) > ($2::text::xid8, $3::bigint) \
                and made_at >= $6 \
            order by xid, seq limit $5::bigint) next) page \
    where bytes_before < $4::bigint order by page.xid, page.seq";

// It looks at all locks, so it is asked only where an open transaction is in the way. A statement of its
// own: the page's snapshot is taken after it.
const SETTLED_BELOW: &str = "select stream.settled_below()::text";

const PRODUCER_HEADERS: &str = "\
    select xid::text::bigint, seq, header from stream.blocks \
    where environment_id = $1 and (xid, seq) > ($2::text::xid8, $3::bigint) \
        and made_at >= $4 and position($5::bytea in header) > 0 \
    order by xid, seq limit $6::bigint";

/// The connections that readers share.
pub(super) struct Readers {
    dialer: Dialer,
    page_bytes: u32,
    permits: Semaphore,
    idle: Mutex<Vec<Reader>>,
}

struct Reader {
    session: Session,
    page: Statement,
    settled_below: Statement,
    /// Those that not every reader needs.
    others: HashMap<&'static str, Statement>,
}

/// Blocks that follow one another, and what is after them.
pub(super) struct Page {
    pub(super) blocks: Vec<Result<(Position, Block), ReadError>>,
    pub(super) after: After,
}

/// What follows a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// More, probably.
    More,
    /// Blocks that wait for an append that is still open.
    Unsettled,
    /// Nothing yet.
    Nothing,
}

impl Readers {
    pub(super) fn new(dialer: Dialer, connections: usize, page_bytes: u32) -> Self {
        let permits = Semaphore::new(connections.max(1));
        Self { dialer, page_bytes, permits, idle: Mutex::default() }
    }

    /// The blocks after `from`, of those made at `since` or later.
    pub(super) async fn page(
        &self,
        environment: Id<Environment>,
        from: Position,
        since: SystemTime,
    ) -> Result<Page, Failure> {
        let lease = self.lease().await?;
        let (xid, seq) = (from.xid.to_string(), from.seq.cast_signed());
        let environment_id = environment.uuid();
        let (bytes, count) = (i64::from(self.page_bytes), i64::from(PAGE_BLOCKS));
        let Reader { session, page: statement, settled_below: ask, .. } = &lease.reader;
        let mut settled_below = "0".to_owned();
        let page = loop {
            let parameters: [&(dyn ToSql + Sync); 7] =
                [&environment_id, &xid, &seq, &bytes, &count, &since, &settled_below];
            let rows = session.query(statement, &parameters).await?;
            let page = page(environment, &rows, self.page_bytes as usize)?;
            let is_held_back = page.blocks.is_empty() && page.after == After::Unsettled;
            if !is_held_back || settled_below != "0" {
                break page;
            }
            let rows = session.query(ask, &[]).await?;
            settled_below = rows.first().map_or(Ok(settled_below), |row| row.try_get(0))?;
        };
        self.give_back(lease);
        Ok(page)
    }

    /// No block made before this can be appended any more.
    pub(super) async fn open_since(&self) -> Result<SystemTime, Failure> {
        let lease = self.lease().await?;
        let statement = "select greatest(stream.open_since(), to_timestamp(0))";
        let rows = lease.reader.session.query(statement, &[]).await?;
        self.give_back(lease);
        let since = rows.first().map_or(Ok(EVERY_DAY), |row| row.try_get(0));
        Ok(since?)
    }

    /// Fails where the position cannot come from this database: it was restored from a dump, and
    /// counts transactions anew. What is appended now would stand before the position, unread.
    pub(super) async fn check(&self, from: Position) -> Result<(), Failure> {
        let lease = self.lease().await?;
        let statement = "select $1::text::xid8 < pg_snapshot_xmax(pg_current_snapshot())";
        let rows = lease.reader.session.query(statement, &[&from.xid.to_string()]).await?;
        self.give_back(lease);
        match rows.first().map(|row| row.try_get(0)) {
            Some(Ok(true)) => Ok(()),
            _ => Err(Failure::unknown(&format!(
                "position {from} is ahead of the database, which was restored from a dump or lost \
                 commits in a failover; raise its next transaction id with pg_resetwal"
            ))),
        }
    }

    pub(super) async fn tail_of(
        &self,
        environment: Id<Environment>,
        producer: Id<Producer>,
        since: SystemTime,
    ) -> Result<Option<ProducerTail>, ReadError> {
        let lease = self.lease().await?;
        let session = &lease.reader.session;
        let since = since.checked_sub(CLOCK_SKEW).unwrap_or(SystemTime::UNIX_EPOCH);
        let (environment_id, needle) = (environment.uuid(), producer.uuid());
        let needle: &[u8] = needle.as_bytes();
        let mut from = Position::START;
        let mut tail: Option<ProducerTail> = None;
        loop {
            let (xid, seq) = (from.xid.to_string(), from.seq.cast_signed());
            let parameters: [&(dyn ToSql + Sync); 6] =
                [&environment_id, &xid, &seq, &since, &needle, &i64::from(HEADERS)];
            let rows = session.query(PRODUCER_HEADERS, &parameters).await?;
            for row in &rows {
                from = position(row)?;
                let header = row.try_get::<_, &[u8]>(2).map_err(Failure::from)?;
                let header = Header::parse(header)
                    .map_err(|source| ReadError::Damaged { position: from, source })?;
                for span in header.producers.iter().filter(|span| span.producer == producer) {
                    let output = tail.map_or(0, |tail| tail.output_bytes);
                    tail = Some(ProducerTail {
                        last_seq: span.last_seq,
                        last_at: span.last_at,
                        output_bytes: output.saturating_add(span.output_bytes),
                        aborted: span.aborted,
                    });
                }
            }
            if rows.len() < HEADERS as usize {
                self.give_back(lease);
                return Ok(tail);
            }
        }
    }

    /// A connection, for as long as the lease lives.
    pub(super) async fn lease(&self) -> Result<Lease<'_>, Failure> {
        // Who is in front waits for the server no longer than its deadline, but many may be.
        let patience = self.dialer.deadline() * 3;
        let permit = tokio::time::timeout(patience, self.permits.acquire()).await;
        let permit = permit.map_err(|_| Failure::late(patience))?;
        let permit = permit.map_err(|_| Failure::unknown("the stream is closed"))?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let reader = match idle {
            Some(reader) if !reader.session.is_closed() => reader,
            _ => {
                let session = self.dialer.dial().await?;
                let page = session.prepare(PAGE).await?;
                let settled_below = session.prepare(SETTLED_BELOW).await?;
                Reader { session, page, settled_below, others: HashMap::new() }
            }
        };
        Ok(Lease { reader, _permit: permit })
    }

    /// Only after success: a connection with an answer outstanding is closed instead.
    pub(super) fn give_back(&self, lease: Lease<'_>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(lease.reader);
    }
}

/// A connection that nobody else uses.
pub(super) struct Lease<'a> {
    reader: Reader,
    _permit: SemaphorePermit<'a>,
}

impl Lease<'_> {
    /// Runs a statement, which the connection remembers: there may be many partitions to plan for.
    pub(super) async fn query(
        &mut self,
        statement: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failure> {
        let Reader { session, others, .. } = &mut self.reader;
        let prepared = if let Some(prepared) = others.get(statement) {
            prepared.clone()
        } else {
            let prepared = session.prepare(statement).await?;
            others.insert(statement, prepared.clone());
            prepared
        };
        session.query(&prepared, parameters).await
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").field("dialer", &self.dialer).finish_non_exhaustive()
    }
}

fn page(environment: Id<Environment>, rows: &[Row], limit: usize) -> Result<Page, Failure> {
    let (mut blocks, mut bytes) = (Vec::with_capacity(rows.len()), 0);
    for row in rows {
        if !row.try_get::<_, bool>(3)? {
            return Ok(Page { blocks, after: After::Unsettled });
        }
        let position = position(row)?;
        let (header, payload) = (row.try_get::<_, Vec<u8>>(4)?, row.try_get::<_, Vec<u8>>(5)?);
        bytes += payload.len();
        let block =
            Block::from_parts(row.try_get::<_, Uuid>(2)?, header, payload).and_then(|block| {
                if block.header().environment == environment {
                    Ok((position, block))
                } else {
                    Err(DecodeError::Damaged("it stands under another environment"))
                }
            });
        blocks.push(block.map_err(|source| ReadError::Damaged { position, source }));
    }
    let cut = rows.len() >= PAGE_BLOCKS as usize || bytes >= limit;
    Ok(Page { blocks, after: if cut { After::More } else { After::Nothing } })
}

pub(super) fn position(row: &Row) -> Result<Position, Failure> {
    let xid = row.try_get::<_, i64>(0)?.cast_unsigned();
    let seq = row.try_get::<_, i64>(1)?.cast_unsigned();
    Ok(Position { xid, seq })
}
