//! A test of a drain: one line, on a connection of its own, and what came of each step.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{EnvironmentTag, Id, Origin, Source, Timestamp};
use serde_json::Value;
use store::leases::WorkableDrain;
use tokio::time::timeout;
use uuid::Uuid;

use crate::batch::Batcher;
use crate::drain::{self, Drain};
use crate::lines::{Extras, Line};
use crate::pipeline::Context;
use crate::room::Share;
use crate::trace::{Step, Trace};

/// The asker gives up a little later.
const DEADLINE: Duration = Duration::from_secs(8);

/// Tests a drain and answers.
pub(crate) async fn run(context: &Context, row: &WorkableDrain, test: Uuid) {
    let mut trace = Trace::default();
    let started = Instant::now();
    let ok = timeout(DEADLINE, send_line(context, row, &mut trace)).await;
    if ok.is_err() {
        trace.gave_up(format!("no result within {DEADLINE:?}"), started);
    }
    let ok = ok.unwrap_or(false);
    let steps = serde_json::to_value(&trace).unwrap_or(Value::Null);
    if let Err(error) = context.store.finish_drain_test(test, ok, &steps).await {
        tracing::warn!(drain = %row.id, "the test's result cannot be written: {error}");
    }
}

async fn send_line(context: &Context, row: &WorkableDrain, trace: &mut Trace) -> bool {
    let started = Instant::now();
    let Drain { encoder, shaper, mut destination, .. } = match drain::prepare(context, row) {
        Ok(drain) => drain,
        Err(error) => {
            trace.tried(Step::Resolve, false, error.to_string(), started);
            return false;
        }
    };
    let environment = EnvironmentTag {
        id: row.environment_id,
        handle: row.environment_handle.clone(),
        organization: row.organization_id,
    };
    let at = Timestamp::now();
    let message = format!("This is a test of the log drain {} by Spillway at {at}.", row.handle);
    let origin = Arc::new(Origin {
        producer: Id::generate(),
        source: Source::Activity,
        environment,
        app: None,
        database: None,
        session: None,
    });
    let share = Arc::new(Share::new(context.room.clone(), context.batch.bytes, 0));
    let mut batcher = Batcher::new(context.batch.lines, share, None, encoder);
    let line = Line {
        origin: &origin,
        seq: 0,
        at,
        event: "test",
        span: None,
        message: message.as_bytes(),
        extras: Extras::default(),
    };
    shaper.shape(&line, |line| batcher.add(line));
    let Some(batch) = batcher.take(true) else { return false };
    if destination.send(&batch, trace).await.is_err() {
        return false;
    }
    if trace.last() == Some(Step::Answer) {
        // Which may be to ask again later.
        let begun = Instant::now();
        let confirmed = destination.confirmed(false).await;
        if let Err(failure) = &confirmed {
            trace.tried(Step::Answer, false, failure.message.clone(), begun);
        }
        return confirmed.is_ok();
    }
    // Without an answer, that the endpoint keeps the connection is all there is to know.
    trace
        .step(Step::Answer, destination.confirmed(false), |_| {
            "acknowledged by the endpoint's TCP, and the connection has lived on".to_owned()
        })
        .await
        .is_ok()
}
