//! Shows what is durable, in order.
//!
//! Invariant: what is shown comes out of the gate, so it is in the stream. When records cannot be
//! kept for too long, the client is cut off, and what becomes durable after that is not shown.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::client::Client;
use super::life::unrecorded;
use super::window::Window;
use crate::gate::{Durable, NotDurable};

/// Enough for a full window of the smallest records; a full queue ends the session.
pub(crate) const QUEUE: usize = 10_000;

/// A record on its way to the client, and what it takes of the window.
pub(crate) struct Recorded {
    pub(crate) durable: Durable,
    pub(crate) cost: usize,
    pub(crate) submitted: Instant,
}

/// Why nothing more is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Halt {
    /// A record was not durable within the limit. It may become so yet.
    Unrecorded,
    /// Records will not become durable any more.
    NotDurable,
}

/// Shows everything that comes, until the session drops its end of the queue; then everything was
/// durable. No record waits longer than `limit`.
pub(crate) async fn reveal(
    mut recorded: mpsc::Receiver<Recorded>,
    client: Arc<Client>,
    window: Window,
    limit: Duration,
    halt: watch::Sender<Option<Halt>>,
) -> Result<(), NotDurable> {
    while let Some(Recorded { mut durable, cost, submitted }) = recorded.recv().await {
        let mut outcome = None;
        if halt.borrow().is_none() {
            outcome = timeout_at(submitted + limit, &mut durable).await.ok();
            if outcome.is_none() {
                halt.send_replace(Some(Halt::Unrecorded));
                client.cut_off(&unrecorded(limit)).await;
            }
        }
        let outcome = match outcome {
            Some(outcome) => outcome,
            None => durable.await,
        };
        let Ok(event) = outcome else {
            halt.send_replace(Some(Halt::NotDurable));
            return Err(NotDurable);
        };
        if halt.borrow().is_none() {
            client.show(event).await;
        }
        window.free(cost);
    }
    Ok(())
}
