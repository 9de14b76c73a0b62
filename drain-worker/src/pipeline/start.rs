//! Where a pipeline begins to read.

use log_stream::Position;
use model::{Environment, Id, Source};
use store::StoreError;
use store::leases::{Lease, WorkableDrain};

use super::Context;
use super::commit::Lag;
use crate::lines::Checkpoint;

/// Blocks that are counted at a time.
const AT_A_TIME: u16 = 1_000;

/// Where the drain was told to begin at the earliest.
pub(super) fn skip_to(row: &WorkableDrain) -> Option<Position> {
    Some(at(row.skip_to_xid?, row.skip_to_seq?))
}

/// How far a drain has got. What it was told to leave out it passes first; None if it is another worker's by
/// then.
pub(super) async fn position(
    context: &Context,
    lease: &Lease,
    environment: Id<Environment>,
    skip_to: Option<Position>,
    sources: &[Source],
) -> Result<Option<Checkpoint>, StoreError> {
    let row = context.store.drain_position(lease.drain).await?;
    let from = Checkpoint {
        low: at(row.low_xid, row.low_seq),
        high: at(row.high_xid, row.high_seq),
        open: serde_json::from_value(row.open)
            .map_err(|error| StoreError::Invalid(format!("the position of a drain: {error}")))?,
    };
    let Some(to) = skip_to.filter(|to| from.high < *to) else { return Ok(Some(from)) };
    let skipped = count(context, environment, (from.high, to), sources).await?;
    let done = context.store.skip_drain(lease, numbers(to), skipped).await?;
    Ok(done.then(|| Checkpoint { low: to, high: to, ..Checkpoint::default() }))
}

/// Records of these sources between two positions.
async fn count(
    context: &Context,
    environment: Id<Environment>,
    (mut after, upto): (Position, Position),
    sources: &[Source],
) -> Result<i64, StoreError> {
    let mut records = 0;
    loop {
        let (from, to) = (numbers(after), numbers(upto));
        let blocks = context.store.block_headers(environment, from, to, AT_A_TIME).await?;
        let Some((xid, seq, _)) = blocks.last() else { return Ok(records) };
        after = at(*xid, *seq);
        let headers: Vec<_> = blocks.into_iter().map(|(_, _, header)| header).collect();
        records += Lag::of(&headers, sources).records;
    }
}

fn at(xid: i64, seq: i64) -> Position {
    let unsigned = |number: i64| u64::try_from(number).unwrap_or_default();
    Position { xid: unsigned(xid), seq: unsigned(seq) }
}

fn numbers(position: Position) -> (i64, i64) {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    (signed(position.xid), signed(position.seq))
}
