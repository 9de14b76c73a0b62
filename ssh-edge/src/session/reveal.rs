//! Shows what is durable, in order.
//!
//! Invariant: what is shown comes out of the gate, so it is in the stream. When records cannot be
//! kept for too long, the client is cut off, and what becomes durable after that is not shown. Waiting
//! for records and waiting for the client are apart, so a client that does not read delays no limit.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use model::Event;

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
    recorded: mpsc::Receiver<Recorded>,
    client: Arc<Client>,
    window: Window,
    limit: Duration,
    halt: watch::Sender<Option<Halt>>,
) -> Result<(), NotDurable> {
    // A window's records fit, so the first never waits for the second.
    let (kept, durable) = mpsc::channel(QUEUE);
    let halted = halt.subscribe();
    let keeping = keep(recorded, kept, &client, limit, &halt);
    tokio::join!(keeping, show(durable, &client, &window, halted)).0
}

/// Passes on what is durable.
async fn keep(
    mut recorded: mpsc::Receiver<Recorded>,
    kept: mpsc::Sender<(Event, usize)>,
    client: &Client,
    limit: Duration,
    halt: &watch::Sender<Option<Halt>>,
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
        // It is there until everything was passed on.
        drop(kept.send((event, cost)).await);
    }
    Ok(())
}

/// Shows what is passed on, until nothing is shown any more; then it only frees the window.
async fn show(
    mut durable: mpsc::Receiver<(Event, usize)>,
    client: &Client,
    window: &Window,
    mut halted: watch::Receiver<Option<Halt>>,
) {
    while let Some((event, cost)) = durable.recv().await {
        if halted.borrow().is_none() {
            // A write that is lost was of something durable, which then is shown in part.
            tokio::select! {
                _ = halted.wait_for(Option::is_some) => {}
                () = client.show(event) => {}
            }
        }
        window.free(cost);
    }
}
