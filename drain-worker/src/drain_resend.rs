//! Lines that an endpoint refused, sent again because somebody asked for it: beside the drain's
//! pipeline, on a connection of their own.
//!
//! Invariant: a line is kept until the endpoint has it.

use std::collections::VecDeque;
use std::time::Duration;

use store::StoreError;
use store::leases::{Lease, WorkableDrain};
use store::rejected_lines::LineToResend;
use tokio::time::timeout;
use uuid::Uuid;

use crate::batch::{Batch, BatchLimits};
use crate::destination::{Destination, Failure, Remedy};
use crate::drain::{self, Drain};
use crate::pipeline::Context;
use crate::trace::Trace;

/// Lines that are read at a time.
const AT_A_TIME: i64 = 500;
const CONFIRMED_WITHIN: Duration = Duration::from_mins(6);

/// Why it did not come to its end; what is left waits.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResendError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the endpoint does not take lines that were refused: {0}")]
    Endpoint(String),
}

/// Sends again what was asked for until all of it is settled.
pub(crate) async fn run(
    context: &Context,
    row: &WorkableDrain,
    lease: Lease,
) -> Result<(), ResendError> {
    let store = &context.store;
    let Drain { batch: limits, format, mut destination, .. } =
        drain::prepare(context, row).map_err(|error| ResendError::Endpoint(error.to_string()))?;
    loop {
        let lines = store.lines_to_resend(row.id, AT_A_TIME).await?;
        if lines.is_empty() {
            return Ok(());
        }
        let mut open = VecDeque::new();
        for LineToResend { id, encoded, format: encoded_as } in lines {
            if let Some(encoded) = encoded.filter(|_| encoded_as == format) {
                add(&mut open, limits, id, encoded);
            } else {
                let reason = "it was refused in another format than the drain's present one";
                store.line_refused_again(&lease, id, reason).await?;
            }
        }
        while let Some(part) = open.pop_front() {
            let batch = Batch::of(part.iter().map(|(_, line)| line.as_slice()));
            match deliver(destination.as_mut(), &batch).await {
                Ok(()) => store.lines_resent(&lease, &ids(&part)).await?,
                Err(failure) => settle(context, &lease, part, failure, &mut open).await?,
            }
        }
    }
}

type Part = Vec<(Uuid, Vec<u8>)>;

fn ids(part: &[(Uuid, Vec<u8>)]) -> Vec<Uuid> {
    part.iter().map(|(id, _)| *id).collect()
}

/// Adds a line to the last part, if it has room.
fn add(open: &mut VecDeque<Part>, limits: BatchLimits, id: Uuid, line: Vec<u8>) {
    let bytes = |part: &Part| part.iter().map(|(_, line)| line.len()).sum::<usize>();
    match open.back_mut() {
        Some(part) if part.len() < limits.lines && bytes(part) + line.len() <= limits.bytes => {
            part.push((id, line));
        }
        _ => open.push_back(vec![(id, line)]),
    }
}

async fn deliver(destination: &mut dyn Destination, batch: &Batch) -> Result<(), Failure> {
    destination.send(batch, &mut Trace::default()).await?;
    let late = || Failure::new(Remedy::Retry(None), "it does not confirm what it was sent");
    timeout(CONFIRMED_WITHIN, destination.confirmed(true)).await.map_err(|_| late())??;
    Ok(())
}

/// Settles what can be settled of a part that was not delivered, and puts the rest in front.
async fn settle(
    context: &Context,
    lease: &Lease,
    mut part: Part,
    failure: Failure,
    open: &mut VecDeque<Part>,
) -> Result<(), ResendError> {
    let store = &context.store;
    match failure.remedy {
        Remedy::Halve | Remedy::Isolate => {
            if let [(id, _)] = part.as_slice() {
                store.line_refused_again(lease, *id, &failure.message).await?;
                return Ok(());
            }
            let second = part.split_off(part.len() / 2);
            open.push_front(second);
            open.push_front(part);
            Ok(())
        }
        Remedy::Refuse { lines, upto }
            if (1..=part.len()).contains(&upto) && lines.iter().all(|(it, _)| *it < upto) =>
        {
            let rest = part.split_off(upto);
            for (number, reason) in &lines {
                if let Some((id, _)) = part.get(*number) {
                    store.line_refused_again(lease, *id, reason).await?;
                }
            }
            let refused: Vec<usize> = lines.into_iter().map(|(number, _)| number).collect();
            let delivered: Vec<Uuid> = ids(&part)
                .into_iter()
                .enumerate()
                .filter_map(|(number, id)| (!refused.contains(&number)).then_some(id))
                .collect();
            store.lines_resent(lease, &delivered).await?;
            if !rest.is_empty() {
                open.push_front(rest);
            }
            Ok(())
        }
        Remedy::Refuse { .. } | Remedy::Retry(_) | Remedy::Reconnect | Remedy::Park => {
            Err(ResendError::Endpoint(failure.message))
        }
    }
}
