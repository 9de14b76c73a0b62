//! Shows what is durable, in order.
//!
//! Invariant: what is shown comes out of the gate, so it is in the stream.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::client::Client;
use super::window::Window;
use crate::gate::{Durable, NotDurable};

/// Enough for a full window of the smallest records; a full queue ends the session.
pub(crate) const QUEUE: usize = 10_000;

/// A record on its way to the client, and what it takes of the window.
pub(crate) struct Recorded {
    pub(crate) durable: Durable,
    pub(crate) cost: usize,
}

/// Shows everything that comes, until the session drops its end of the queue.
pub(crate) async fn reveal(
    mut recorded: mpsc::Receiver<Recorded>,
    client: Arc<Client>,
    window: Window,
) -> Result<(), NotDurable> {
    while let Some(Recorded { durable, cost }) = recorded.recv().await {
        client.show(durable.await?).await;
        window.free(cost);
    }
    Ok(())
}
