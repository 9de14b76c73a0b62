//! An HTTPS receiver that answers as it is told, and keeps what it has stored.

use std::collections::BTreeSet;
use std::net::TcpListener as StdListener;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::certificates::ServerCertificate;
use e2e::https_receiver::{Answer, HttpsReceiver, Received};
use model::OutputStream;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::Ledger;
use crate::evidence::{Arrival, Span};

/// A batch of more lines is too large, while it is told so.
const LARGE: usize = 100;
/// One line in so many is refused, while it is told so.
const REFUSED_ONE_IN: u64 = 400;

/// What it does with requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Stores, and answers 200.
    #[default]
    Good,
    /// Answers so and stores nothing.
    Status(u16),
    /// Stores, and closes the connection instead of answering.
    LoseAnswers,
    /// Closes the connection and stores nothing.
    Close,
    /// Stores, and answers after this many seconds.
    Stall(u8),
    /// Answers 413 to large batches.
    RefuseLarge,
    /// Answers 400 to every batch that has a line of its choice.
    RefuseSome,
}

/// The receiver; it stops when dropped.
#[derive(Debug)]
pub(crate) struct Https {
    receiver: Arc<HttpsReceiver>,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    ledger: Ledger,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    manner: Manner,
    requests: u32,
    unanswered: u64,
    refused: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Line<'a> {
    id: String,
    session_id: Option<Uuid>,
    source: &'a str,
    stream: Option<&'a str>,
    offset: Option<u64>,
    length: Option<u64>,
    seq: u64,
    message: String,
    message_base64: Option<String>,
}

impl Https {
    pub(crate) fn start(
        listener: StdListener,
        certificate: &ServerCertificate,
        file: &Path,
    ) -> Result<Self> {
        let listener = TcpListener::from_std(listener)?;
        let receiver = Arc::new(HttpsReceiver::start_on(listener, certificate)?);
        let shared = Arc::new(Shared { ledger: Ledger::create(file)?, state: Mutex::default() });
        let script = Arc::clone(&shared);
        receiver.answer_by(move |request| script.answer(request));
        // The receiver keeps whole requests; the ledger has what is needed of them.
        let mut task = JoinSet::new();
        let emptied = Arc::clone(&receiver);
        task.spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                drop(emptied.take_requests());
            }
        });
        Ok(Self { receiver, shared, _task: task })
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.receiver.address().port()
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    pub(crate) fn behave(&self, manner: Manner) {
        self.shared.lock().manner = manner;
    }

    /// Requests that it has stored and not answered, and those that it closed on.
    pub(crate) fn unanswered(&self) -> u64 {
        self.shared.lock().unanswered
    }

    pub(crate) fn requests(&self) -> u32 {
        self.shared.lock().requests
    }

    /// The lines that it has answered 400 to when they came alone.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.shared.lock().refused.iter().cloned().collect()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &Received) -> Answer {
        let mut state = self.lock();
        state.requests += 1;
        let arrived = match arrivals(state.requests, request) {
            Ok(arrived) => arrived,
            Err(error) => {
                self.ledger.complain(format!("{error:#}"));
                return Answer::status(500);
            }
        };
        match state.manner {
            Manner::Status(429) => return Answer::retry_after(429, 1),
            Manner::Status(status) => return Answer::status(status),
            Manner::Close => {
                state.unanswered += 1;
                return Answer::Close;
            }
            Manner::LoseAnswers => {
                state.unanswered += 1;
                self.ledger.keep(&arrived);
                return Answer::Close;
            }
            Manner::Stall(seconds) => {
                self.ledger.keep(&arrived);
                return Answer::slow(200, Duration::from_secs(seconds.into()));
            }
            Manner::RefuseLarge if arrived.len() > LARGE => return Answer::status(413),
            Manner::RefuseSome if arrived.iter().any(is_refused) => {
                if let [only] = arrived.as_slice() {
                    state.refused.insert(only.id.clone());
                }
                return Answer::status(400);
            }
            Manner::Good | Manner::RefuseLarge | Manner::RefuseSome => {}
        }
        self.ledger.keep(&arrived);
        Answer::status(200)
    }
}

fn is_refused(arrival: &Arrival) -> bool {
    let sum = arrival
        .id
        .bytes()
        .fold(7_u64, |sum, byte| sum.wrapping_mul(0x0100_0000_01b3).wrapping_add(byte.into()));
    arrival.span.is_some() && (sum >> 20).is_multiple_of(REFUSED_ONE_IN)
}

/// The lines of a request that are a session's or an app's.
fn arrivals(batch: u32, request: &Received) -> Result<Vec<Arrival>> {
    let mut arrived = Vec::new();
    for raw in request.body.split(|&byte| byte == b'\n').filter(|raw| !raw.is_empty()) {
        let line: Line<'_> = serde_json::from_slice(raw).context("a line is not understood")?;
        let producer = match line.session_id {
            Some(session) => session,
            None if line.source == "app" => {
                Arrival::producer_of(&line.id).context("a line's id has no producer")?
            }
            None => continue,
        };
        let stream = match line.stream {
            Some("stdout") => Some(OutputStream::Stdout),
            Some("stderr") => Some(OutputStream::Stderr),
            _ => None,
        };
        // A line of an app may say its stream, too.
        let span = stream.zip(line.offset).map(|(stream, offset)| {
            let length = line.length.unwrap_or_default();
            Span { stream, offset, length }
        });
        let message = match line.message_base64 {
            Some(exact) => STANDARD.decode(exact)?,
            None => line.message.into_bytes(),
        };
        let sent_bytes = raw.len().try_into()?;
        let (id, seq) = (line.id, line.seq);
        arrived.push(Arrival { batch, id, producer, seq, span, sent_bytes, message });
    }
    Ok(arrived)
}
