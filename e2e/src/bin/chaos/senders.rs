//! Programs that log: numbered lines through every way in.
//!
//! What they may rely on is evidence. Over HTTP that is what was acknowledged. Syslog acknowledges nothing: what
//! was written is kept, and how each connection ended. Of a container, what Docker has kept of its output.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::evidence::{Connection, End, HttpSent, Sent};
use crate::lines::Way;
use crate::load::Load;
use crate::world::PAIRS;

pub(crate) mod container;
mod http;
mod syslog;

/// What senders share with the attack.
#[derive(Debug, Default)]
pub(crate) struct Senders {
    /// Raised to have every sender's connection reset.
    cuts: watch::Sender<u64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    http: HttpSent,
    connections: Vec<Connection>,
    /// When each intake has acknowledged something last.
    acknowledged: [Option<Instant>; PAIRS],
    /// When a connection began last.
    connected: Option<Instant>,
}

impl Senders {
    /// Starts all that are no container; they end some time after the stop, when what they have is delivered.
    pub(crate) fn start(load: &Arc<Load>, stop: &watch::Receiver<bool>) -> JoinSet<Result<()>> {
        let mut tasks = JoinSet::new();
        tasks.spawn(http::send(Arc::clone(load), stop.clone()));
        tasks.spawn(syslog::send(Arc::clone(load), stop.clone()));
        tasks
    }

    /// Has every sender reset its connection with something on its way.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Notes how a try at an intake was answered; where it was acknowledged, all lines before the next one are.
    fn note(&self, intake: usize, status: Option<u16>, next: u64) {
        let mut state = self.lock();
        let said = status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
        *state.http.answers.entry(said).or_default() += 1;
        state.http.tries += 1;
        if status.is_some_and(|status| (200..300).contains(&status)) {
            state.http.acknowledged = next;
            if let Some(at) = state.acknowledged.get_mut(intake) {
                *at = Some(Instant::now());
            }
        }
    }

    /// Whether an intake has acknowledged something since.
    pub(crate) fn has_acknowledged(&self, intake: usize, since: Instant) -> bool {
        self.lock().acknowledged.get(intake).copied().flatten().is_some_and(|at| at > since)
    }

    /// Whether a sender of syslog has connected since.
    pub(crate) fn has_connected(&self, since: Instant) -> bool {
        self.lock().connected.is_some_and(|at| at > since)
    }

    /// The last line of syslog, if it was written on a connection that was closed in order.
    pub(crate) fn last_syslog_line(&self) -> Option<Vec<u8>> {
        let state = self.lock();
        let last = state.connections.last()?;
        let number = (last.first + last.lines()).checked_sub(1);
        let number = number.filter(|_| last.end == End::Closed)?;
        Some(Way::Syslog.line(number).into_bytes())
    }

    /// What was sent.
    pub(crate) fn take(&self) -> Sent {
        let mut state = self.lock();
        let http = std::mem::take(&mut state.http);
        Sent { http, syslog: std::mem::take(&mut state.connections), no_container: None }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
