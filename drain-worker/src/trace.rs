//! What was tried on the way to an endpoint, step by step: a test of a drain shows it.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::Serialize;

/// What is tried, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    Resolve,
    Connect,
    Tls,
    Send,
    Answer,
}

#[derive(Debug, Serialize)]
struct Tried {
    step: Step,
    ok: bool,
    detail: String,
    duration_ms: u64,
}

/// The steps so far.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Trace {
    steps: Vec<Tried>,
    /// What was connected to, if that was done.
    #[serde(skip)]
    pub(crate) peer: Option<Peer>,
    /// The request that is yet to be answered.
    #[serde(skip)]
    pub(crate) open_request: Option<OpenRequest>,
    /// A request was sent again at once, because the connection that it had been sent over had ended.
    #[serde(skip)]
    pub(crate) sent_again: bool,
    /// Lines of such requests.
    #[serde(skip)]
    pub(crate) repeated: usize,
}

/// A request that is on its way.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    /// All of it was taken from us to be sent.
    pub(crate) taken: Arc<AtomicBool>,
    pub(crate) length: usize,
    pub(crate) begun: Instant,
}

/// The other end of a connection.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Peer {
    /// That was dialled, with its port.
    pub(crate) address: String,
    pub(crate) tls_version: String,
    /// Of its own certificate, by RFC 3339.
    pub(crate) certificate_expires_at: Option<String>,
    /// When the connection was made, by RFC 3339.
    pub(crate) since: String,
}

impl Trace {
    /// Tries a step; `detail` says what came of it. Its error becomes a sentence.
    pub(crate) async fn step<T, E: Display>(
        &mut self,
        step: Step,
        attempt: impl Future<Output = Result<T, E>>,
        detail: impl FnOnce(&T) -> String,
    ) -> Result<T, String> {
        let started = Instant::now();
        let result = attempt.await.map_err(|error| error.to_string());
        let detail = match &result {
            Ok(value) => detail(value),
            Err(error) => error.clone(),
        };
        self.tried(step, result.is_ok(), detail, started);
        result
    }

    /// Notes that what was being tried had no result in time.
    pub(crate) fn gave_up(&mut self, detail: String, started: Instant) {
        if let Some(request) = self.open_request.take()
            && request.taken.load(Ordering::Relaxed)
        {
            self.tried(Step::Send, true, format!("{} bytes", request.length), request.begun);
        }
        self.tried(self.next(), false, detail, started);
    }

    /// The step that comes next.
    fn next(&self) -> Step {
        match self.last() {
            None => Step::Resolve,
            Some(Step::Resolve) => Step::Connect,
            Some(Step::Connect) => Step::Tls,
            Some(Step::Tls) => Step::Send,
            Some(Step::Send | Step::Answer) => Step::Answer,
        }
    }

    /// The step that was tried last.
    pub(crate) fn last(&self) -> Option<Step> {
        self.steps.last().map(|tried| tried.step)
    }

    /// Notes a step that was tried.
    pub(crate) fn tried(&mut self, step: Step, ok: bool, detail: String, started: Instant) {
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.steps.push(Tried { step, ok, detail, duration_ms });
    }
}
