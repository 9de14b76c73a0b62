//! Looking around in the stream, in either direction: headers first, then the blocks that are wanted.
//!
//! Who searches reads many headers and few payloads, which are stored apart. Invariant: what is found lies
//! within an [`Extent`], of which nothing is open any more, so a search back and a reader that follows from
//! its end see every block once.

use std::time::SystemTime;

use model::{Environment, Id};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::reader::{Readers, position};
use super::session::Failure;
use crate::{Block, DecodeError, Header, Position, ReadError};

/// The blocks of an environment that are kept and settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// They are after this: its horizon, up to which nothing is kept.
    pub after: Position,
    /// They are at or before this.
    pub end: Position,
}

/// Which blocks of an environment are looked for.
#[derive(Debug, Clone, Copy)]
pub struct Search {
    /// They are after this.
    pub after: Position,
    /// They are at or before this.
    pub end: Position,
    /// Those next to the end come first, rather than those next to the beginning.
    pub backwards: bool,
    /// They were made at this time or later, ...
    pub made_since: SystemTime,
    /// ... and at this time or earlier.
    pub made_until: SystemTime,
}

/// A block of which the records were not read.
#[derive(Debug)]
pub struct Head {
    /// Where it is.
    pub position: Position,
    /// What it says of its records, if that can be read.
    pub header: Result<Header, DecodeError>,
    /// Bytes of the records as they are kept.
    pub payload_bytes: usize,
    id: Uuid,
    made_at: SystemTime,
    header_bytes: Vec<u8>,
}

impl Head {
    /// As many as are found at a time.
    pub const MOST: usize = 256;
}

// No seq reaches 2^62: a position with it is after all of its transaction.
const LAST_SEQ: u64 = 1 << 62;

const EXTENT: &str = "\
    select stream.settled_below()::text::bigint, h.xid::text::bigint, h.seq \
    from (select) one left join stream.horizons h on h.environment_id = $1";

// In the order of an index of each partition, of which no more is read than is answered. So there is one rule for
// `made_at` that leaves out partitions, and another that no plan builds upon: two that did would have the planner
// believe that few rows fit, and sort them all.
macro_rules! search {
    ($order:literal) => {
        concat!(
            "select b.xid::text::bigint, b.seq, b.id, b.made_at, b.header, octet_length(b.payload) \
             from stream.blocks b \
             where environment_id = $1 and (xid, seq) > ($2::text::xid8, $3::bigint) \
                 and (xid, seq) <= ($4::text::xid8, $5::bigint) \
                 and made_at >= $6 and (made_at > $7) is not true order by ",
            $order,
            " limit 256"
        )
    };
}
const FORWARDS: &str = search!("b.xid, b.seq");
const BACKWARDS: &str = search!("b.xid desc, b.seq desc");

// One look for each, by the primary key and on its day only.
const PAYLOADS: &str = "\
    select wanted.place, found.payload \
    from unnest($1::timestamptz[], $2::uuid[]) with ordinality wanted (made_at, id, place), \
        lateral (select payload from stream.blocks b \
            where b.made_at = wanted.made_at and b.id = wanted.id offset 0) found";

impl Readers {
    pub(super) async fn extent(&self, environment: Id<Environment>) -> Result<Extent, ReadError> {
        let mut lease = self.lease().await?;
        let rows = lease.query(EXTENT, &[&environment.uuid()]).await?;
        let extent = rows.first().map(|row| {
            let settled_below: i64 = row.try_get(0)?;
            let (xid, seq): (Option<i64>, Option<i64>) = (row.try_get(1)?, row.try_get(2)?);
            Ok::<_, tokio_postgres::Error>(Extent {
                after: Position {
                    xid: xid.unwrap_or_default().cast_unsigned(),
                    seq: seq.unwrap_or_default().cast_unsigned(),
                },
                end: Position {
                    xid: settled_below.cast_unsigned().saturating_sub(1),
                    seq: LAST_SEQ,
                },
            })
        });
        let extent = extent.ok_or_else(|| Failure::unknown("no answer"))?.map_err(Failure::from)?;
        self.give_back(lease);
        Ok(extent)
    }

    pub(super) async fn heads(
        &self,
        environment: Id<Environment>,
        search: &Search,
    ) -> Result<Vec<Head>, ReadError> {
        let mut lease = self.lease().await?;
        let place = |it: Position| (it.xid.to_string(), it.seq.min(LAST_SEQ).cast_signed());
        let (after, end) = (place(search.after), place(search.end));
        let parameters: [&(dyn ToSql + Sync); 7] = [
            &environment.uuid(),
            &after.0,
            &after.1,
            &end.0,
            &end.1,
            &search.made_since,
            &search.made_until,
        ];
        let statement = if search.backwards { BACKWARDS } else { FORWARDS };
        let rows = lease.query(statement, &parameters).await?;
        self.give_back(lease);
        let mut heads = Vec::with_capacity(rows.len());
        for row in rows {
            let position = position(&row)?;
            let header_bytes: Vec<u8> = row.try_get(4).map_err(Failure::from)?;
            let payload_bytes: i32 = row.try_get(5).map_err(Failure::from)?;
            let header = Header::parse(&header_bytes).and_then(|header| {
                if header.environment == environment {
                    Ok(header)
                } else {
                    Err(DecodeError::Damaged("it stands under another environment"))
                }
            });
            heads.push(Head {
                position,
                header,
                payload_bytes: usize::try_from(payload_bytes).unwrap_or_default(),
                id: row.try_get(2).map_err(Failure::from)?,
                made_at: row.try_get(3).map_err(Failure::from)?,
                header_bytes,
            });
        }
        Ok(heads)
    }

    /// The blocks in the order of their heads; without those that are not kept any more.
    pub(super) async fn blocks(&self, heads: &[Head]) -> Result<Vec<(Position, Block)>, ReadError> {
        let mut lease = self.lease().await?;
        let made_at: Vec<SystemTime> = heads.iter().map(|head| head.made_at).collect();
        let ids: Vec<Uuid> = heads.iter().map(|head| head.id).collect();
        let rows = lease.query(PAYLOADS, &[&made_at, &ids]).await?;
        self.give_back(lease);
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let place: i64 = row.try_get(0).map_err(Failure::from)?;
            let payload: Vec<u8> = row.try_get(1).map_err(Failure::from)?;
            let head = usize::try_from(place - 1).ok().and_then(|place| heads.get(place));
            let head = head.ok_or_else(|| Failure::unknown("a block that was not asked for"))?;
            let block = Block::from_parts(head.id, head.header_bytes.clone(), payload);
            let damaged = |source| ReadError::Damaged { position: head.position, source };
            found.push((place, head.position, block.map_err(damaged)?));
        }
        found.sort_unstable_by_key(|(place, ..)| *place);
        Ok(found.into_iter().map(|(_, position, block)| (position, block)).collect())
    }
}
