//! One session: from a channel's request for a program to the last record.
//!
//! `requests` says what a client may ask, `life` what follows from what happens; both are pure.
//! This module and `opening`, `running`, `reveal` do what they say.

pub(crate) mod client;
pub(crate) mod flow;
pub(crate) mod guest_link;
pub(crate) mod inbox;
pub(crate) mod life;
mod opening;
pub(crate) mod requests;
mod reveal;
mod running;
mod window;

use std::sync::Arc;
use std::time::Duration;

use model::{EphemeralSession, Id};
use store::live_sessions::End;

use crate::admission::Refusal;
use crate::auth::Identity;
use crate::edge::{Edge, answered};
use client::Client;
use requests::Start;

/// One connection's engineer.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) identity: Identity,
    pub(crate) client_address: String,
    pub(crate) client_version: String,
}

/// Runs one session on one channel, whatever comes of it.
pub(crate) async fn serve(edge: Arc<Edge>, visit: Arc<Visit>, start: Start, client: Client) {
    let client = Arc::new(client);
    let session = crate::admission::session_id(&visit.identity);
    let Some(live) = edge.live.enter(session) else {
        return client.refuse(&Refusal::NotRequested).await;
    };
    if let Some(opened) = opening::open(&edge, &visit, session, start, &client).await {
        tracing::info!(%session, "session opened");
        running::run(&edge, opened, client, live.lost()).await;
        tracing::info!(%session, "session over");
    }
    drop(live);
}

/// The sentence and its causes: the causes are for the operator, not for the engineer.
fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// How a session's row is closed.
enum Closing {
    Ended(End),
    /// It never began.
    Refused(String),
}

/// Closes the session's row, however long the database is away, unless the process stops first:
/// then the row stays active, and this edge's next life or another edge closes it.
async fn close_row(edge: &Edge, session: Id<EphemeralSession>, closing: &Closing) {
    let mut delay = Duration::from_millis(100);
    loop {
        let written = answered(async {
            match closing {
                Closing::Ended(end) => edge.store.end_session(session, edge.id(), end).await,
                Closing::Refused(reason) => {
                    edge.store.refuse_session(session, edge.id(), reason).await.map(|()| true)
                }
            }
        });
        match written.await {
            Ok(true) => return,
            Ok(false) => {
                tracing::warn!(%session, "the session had been closed by another edge");
                return;
            }
            Err(error) => tracing::warn!(%session, %error, "a session's end is not written yet"),
        }
        tokio::select! {
            () = edge.abandoned() => return,
            () = tokio::time::sleep(delay) => {}
        }
        delay = (delay * 2).min(Duration::from_secs(5));
    }
}
