//! Lines into the stream.

use std::sync::Arc;

use model::LogLine;

use super::Refusal;
use super::keyed::{self, Key};
use super::lines::Outcome;
use super::memory::Held;
use crate::Intake;
use crate::sources::Source;

/// Puts lines into the stream; how the request went, once they are durable. Losing this future loses nothing
/// that anybody was told: lines may be in the stream, and the sender sends them again. What the request holds is
/// given back when none of its lines waits for the stream any more: a small one may keep all of the body.
pub(super) async fn deliver(
    intake: &Intake,
    source: &Source,
    key: Option<Key>,
    lines: Vec<LogLine>,
    outcome: Outcome,
    held: Held,
) -> Result<Outcome, Refusal> {
    let Some(key) = key else {
        let producer = source.shared_producer();
        let durable = intake.lanes.submit(source, producer, lines, Some(Arc::new(held))).await;
        durable.await.map_err(|_| Refusal::NotDurable)?;
        return Ok(outcome);
    };
    let delivered = keyed::deliver(intake, source, &key, lines, outcome).await;
    drop(held);
    delivered
}
