//! Lines into the stream.

use model::LogLine;

use super::Refusal;
use super::keyed::{self, Key};
use super::lines::Outcome;
use crate::Intake;
use crate::sources::Source;

/// Puts lines into the stream; how the request went, once they are durable. Losing this future loses nothing
/// that anybody was told: lines may be in the stream, and the sender sends them again.
pub(super) async fn deliver(
    intake: &Intake,
    source: &Source,
    key: Option<Key>,
    lines: Vec<LogLine>,
    outcome: Outcome,
) -> Result<Outcome, Refusal> {
    let Some(key) = key else {
        let durable = intake.lanes.submit(source, source.shared_producer(), lines).await;
        durable.await.map_err(|_| Refusal::NotDurable)?;
        return Ok(outcome);
    };
    keyed::deliver(intake, source, &key, lines, outcome).await
}
