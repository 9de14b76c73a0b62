//! Where a pipeline begins to read.

use std::collections::BTreeMap;

use log_stream::Position;
use model::{Environment, Id, Source};
use store::StoreError;
use store::drain_positions::PassedOver;
use store::leases::{DrainOutline, Lease};

use super::Context;
use super::commit::Lag;
use crate::lines::Checkpoint;

/// Blocks that are counted at a time.
const AT_A_TIME: u16 = 1_000;

/// What a drain passes over before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PassOver {
    /// It was told to begin here at the earliest.
    skip_to: Option<Position>,
    /// Up to here nothing is kept for it.
    pub(crate) drop_to: Option<Position>,
}

impl PassOver {
    pub(crate) fn of(row: &DrainOutline) -> Self {
        let position = |xid: Option<i64>, seq: Option<i64>| Some(at(xid?, seq?));
        Self {
            skip_to: position(row.skip_to_xid, row.skip_to_seq),
            drop_to: position(row.drop_to_xid, row.drop_to_seq),
        }
    }
}

/// How far a drain has got, with what it is to pass over behind it; None if it is another worker's by then.
pub(super) async fn position(
    context: &Context,
    lease: &Lease,
    environment: Id<Environment>,
    pass_over: PassOver,
    sources: &[Source],
) -> Result<Option<Checkpoint>, StoreError> {
    let row = context.store.drain_position(lease.drain).await?;
    let mut from = Checkpoint {
        low: at(row.low_xid, row.low_seq),
        high: at(row.high_xid, row.high_seq),
        open: serde_json::from_value(row.open)
            .map_err(|error| StoreError::Invalid(format!("the position of a drain: {error}")))?,
    };
    let PassOver { skip_to, drop_to } = pass_over;
    for (to, reason) in [(skip_to, PassedOver::Skipped), (drop_to, PassedOver::Dropped)] {
        let Some(to) = to else { continue };
        while from.high < to {
            let (records, next) = count(context, environment, (from.high, to), sources).await?;
            // The beginning of a line is of a record that is behind.
            let open = from.open.values().map(BTreeMap::len).sum::<usize>();
            let records = records + i64::try_from(open).unwrap_or(i64::MAX);
            if !context.store.pass_over(lease, numbers(next), records, reason).await? {
                return Ok(None);
            }
            from = Checkpoint { low: next, high: next, ..Checkpoint::default() };
        }
    }
    Ok(Some(from))
}

/// Records of these sources in the first blocks between two positions, and how far that is.
async fn count(
    context: &Context,
    environment: Id<Environment>,
    (after, upto): (Position, Position),
    sources: &[Source],
) -> Result<(i64, Position), StoreError> {
    let (from, to) = (numbers(after), numbers(upto));
    let blocks = context.store.block_headers(environment, from, to, AT_A_TIME).await?;
    let next = match blocks.last() {
        Some((xid, seq, _)) if blocks.len() >= usize::from(AT_A_TIME) => at(*xid, *seq),
        _ => upto,
    };
    let headers: Vec<_> = blocks.into_iter().map(|(_, _, header)| header).collect();
    Ok((Lag::of(&headers, sources).records, next))
}

fn at(xid: i64, seq: i64) -> Position {
    let unsigned = |number: i64| u64::try_from(number).unwrap_or_default();
    Position { xid: unsigned(xid), seq: unsigned(seq) }
}

fn numbers(position: Position) -> (i64, i64) {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    (signed(position.xid), signed(position.seq))
}
