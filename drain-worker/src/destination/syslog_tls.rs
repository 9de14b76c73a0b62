//! Messages over TLS that nobody acknowledges: syslog (RFC 5425), and vendors' lines.
//!
//! A batch counts as delivered when the receiver has surely read it, as far as its TCP tells
//! ([`receipt`]); or when its TCP has acknowledged the batch, the connection has then lived on for the
//! redelivery window, and nothing shows that the receiver has yet to read it. With much unconfirmed,
//! pieces are sent no faster than the receiver shows that it reads them.
//!
//! Invariant: any end of the connection, however polite, is a failure while a batch is unconfirmed.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt as _;
use rustix::net::sockopt;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream;

use super::{Destination, Failure, Remedy};
use crate::batch::Batch;
use crate::egress::Egress;
use crate::short_pause::ShortPause;
use crate::tcp_state::{TcpState, TcpWatch};
use crate::tls::Endpoint;
use crate::trace::{Step, Trace};

mod receipt;

use receipt::Receipt;

/// Unacknowledged bytes older than this end the connection (RFC 5482): a silent receiver is noticed
/// within 30 s.
const USER_TIMEOUT: Duration = Duration::from_secs(20);
/// Where the kernel does not tell what is acknowledged: older bytes than [`USER_TIMEOUT`] on a
/// living connection must be.
const SURELY_ACKNOWLEDGED: Duration = Duration::from_secs(25);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// While a batch is unconfirmed: the answer tells how much room the receiver has by now.
const KEEP_ALIVE_UNCONFIRMED: Duration = Duration::from_secs(1);
/// A receiver that takes nothing for so long is failing.
const WRITE_DEADLINE: Duration = Duration::from_secs(25);
/// For how long, after they are acknowledged, bytes of a receiver that lags are not confirmed. With
/// more bytes waiting, the deadlines above end its connection before.
const LONGEST_LAG: Duration = Duration::from_secs(30);
/// What is sent between two looks at the receiver's window.
const PIECE: usize = 64 * 1024;
/// Between pieces, while much is unconfirmed.
const PACE: RangeInclusive<Duration> = Duration::from_micros(100)..=Duration::from_millis(8);
/// Unconfirmed bytes that are much, at most half of the redelivery bytes: all come again when the
/// connection ends.
const MUCH: u64 = 1280 * 1024;
/// The same of a receiver that lags.
const MUCH_LAGGING: u64 = 768 * 1024;
const CHECK_EVERY: Duration = Duration::from_millis(50);
const CHECK_EVERY_PRESSED: Duration = Duration::from_millis(5);
/// What the receiver's TCP told so short a time ago is not asked again to see what is delivered.
const FRESH: Duration = Duration::from_micros(500);
/// Once the receiver's TCP has everything: what is left is to wait.
const CHECK_EVERY_ACKNOWLEDGED: Duration = Duration::from_millis(250);

/// Of what a receiver sends, which is thrown away.
const MOST_HEARD: usize = 64 * 1024;

/// A syslog receiver.
#[derive(Debug)]
pub(crate) struct SyslogTls {
    endpoint: Endpoint,
    egress: Egress,
    redelivery_window: Duration,
    redelivery_bytes: u64,
    connection: Option<Connection>,
    unconfirmed: VecDeque<Sent>,
    /// Between pieces, while much is unconfirmed.
    pace: Duration,
    pause: ShortPause,
}

#[derive(Debug)]
struct Connection {
    stream: TlsStream<TcpStream>,
    watch: Option<TcpWatch>,
    /// The kernel tells of this connection.
    told: bool,
    /// What it told last.
    looked: Option<(Instant, Look)>,
    receipt: Receipt,
    /// Bytes written.
    written: u64,
    /// Bytes that came since a batch was last confirmed: a receiver has nothing to say.
    heard: usize,
    /// Bytes that the receiver has surely read.
    read: u64,
    /// Bytes of confirmed batches.
    confirmed: u64,
}

/// What is known of a connection's other end.
#[derive(Debug, Clone, Copy)]
enum Look {
    /// It has acknowledged so many of the bytes written.
    Acknowledged(u64),
    /// The kernel does not tell.
    Untold,
    /// The connection may have ended: nothing that is told can be relied on.
    Unreliable,
}

#[derive(Debug)]
struct Sent {
    /// [`Connection::written`] after this batch.
    end: u64,
    at: Instant,
    acknowledged: Option<Instant>,
}

impl SyslogTls {
    pub(crate) fn new(
        endpoint: Endpoint,
        egress: Egress,
        redelivery_window: Duration,
        redelivery_bytes: usize,
    ) -> Self {
        Self {
            endpoint,
            egress,
            redelivery_window,
            redelivery_bytes: redelivery_bytes as u64,
            connection: None,
            unconfirmed: VecDeque::new(),
            pace: *PACE.start(),
            pause: ShortPause::default(),
        }
    }

    async fn connect(&mut self, trace: &mut Trace) -> Result<(), Failure> {
        let stream = self
            .endpoint
            .connect(&self.egress, trace)
            .await
            .map_err(|message| Failure::new(Remedy::Retry(None), message))?;
        let connection = Connection::new(stream)
            .map_err(|error| Failure::new(Remedy::Retry(None), error.to_string()))?;
        self.connection = Some(connection);
        Ok(())
    }

    fn lost(&mut self, remedy: Remedy, reason: String) -> Failure {
        let is_new = self.connection.as_ref().is_some_and(|connection| connection.confirmed == 0);
        let message = if is_new { self.endpoint.explain(reason) } else { reason };
        self.connection = None;
        self.unconfirmed.clear();
        Failure::new(remedy, message)
    }

    /// Writes everything, in pieces.
    async fn write(&mut self, bytes: &Bytes) -> Result<(), String> {
        let Some(connection) = &mut self.connection else {
            return Err("there is no connection".to_owned());
        };
        for piece in bytes.chunks(PIECE) {
            match timeout(WRITE_DEADLINE, connection.write(piece)).await {
                Ok(written) => written?,
                Err(_) => return Err(format!("the endpoint took nothing for {WRITE_DEADLINE:?}")),
            }
            let before = connection.read;
            connection.look();
            let lags = !connection.receipt.keeps_up();
            let open = connection.written - connection.read.max(connection.confirmed);
            if connection.read > before {
                self.pace = *PACE.start();
            }
            let much = if lags { MUCH_LAGGING } else { MUCH };
            if open > much.min(self.redelivery_bytes / 2) {
                if lags {
                    self.pace = (self.pace * 2).min(*PACE.end());
                }
                // Losing either arm is safe: one waits, the other only throws away what it reads.
                tokio::select! {
                    reason = connection.ended() => return Err(reason),
                    () = self.pause.wait(self.pace) => {}
                }
            }
        }
        Ok(())
    }

    /// How many of the oldest batches are delivered by now.
    fn take_confirmed(&mut self) -> usize {
        let Some(connection) = self.connection.as_mut() else { return 0 };
        // What was found then holds for then: the connection may have ended since.
        let (now, look) = match connection.looked {
            Some((at, look)) if at.elapsed() < FRESH => (at, look),
            _ => {
                let now = Instant::now();
                (now, connection.look())
            }
        };
        for sent in &mut self.unconfirmed {
            let acknowledged = match look {
                Look::Acknowledged(bytes) => sent.end <= bytes,
                Look::Untold => now.saturating_duration_since(sent.at) >= SURELY_ACKNOWLEDGED,
                Look::Unreliable => return 0,
            };
            if !acknowledged {
                break;
            }
            sent.acknowledged.get_or_insert(now);
        }
        let idle = connection.receipt.is_idle();
        let wait = if idle { self.redelivery_window } else { LONGEST_LAG };
        let lived_on = |sent: &Sent| {
            sent.acknowledged.is_some_and(|at| now.saturating_duration_since(at) >= wait)
        };
        let read = connection.read;
        let delivered = |sent: &&Sent| sent.end <= read || lived_on(sent);
        let count = self.unconfirmed.iter().take_while(delivered).count();
        let last = self.unconfirmed.drain(..count).next_back();
        if let Some(last) = last {
            (connection.confirmed, connection.heard) = (last.end, 0);
            if last.end > read && !idle {
                connection.receipt.settle();
            }
            if self.unconfirmed.is_empty() {
                connection.keep_alive(KEEP_ALIVE);
            }
        }
        count
    }
}

impl Connection {
    fn new(stream: TlsStream<TcpStream>) -> io::Result<Self> {
        let (tcp, _) = stream.get_ref();
        let watch = TcpWatch::open(tcp.local_addr()?, tcp.peer_addr()?);
        let millis = u32::try_from(USER_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
        sockopt::set_tcp_user_timeout(tcp, millis)?;
        sockopt::set_tcp_keepidle(tcp, KEEP_ALIVE)?;
        sockopt::set_tcp_keepintvl(tcp, KEEP_ALIVE)?;
        sockopt::set_socket_keepalive(tcp, true)?;
        let receipt = Receipt::default();
        Ok(Self {
            stream,
            watch,
            told: false,
            looked: None,
            receipt,
            written: 0,
            heard: 0,
            read: 0,
            confirmed: 0,
        })
    }

    fn keep_alive(&self, idle: Duration) {
        if let Err(error) = sockopt::set_tcp_keepidle(self.stream.get_ref().0, idle) {
            tracing::debug!("keep-alive stays as it is: {error}");
        }
    }

    /// Notes what the receiver's TCP tells by now.
    fn look(&mut self) -> Look {
        let look = self.ask();
        self.looked = Some((Instant::now(), look));
        look
    }

    fn ask(&mut self) -> Look {
        let state = self.watch.as_ref().and_then(TcpWatch::ask);
        // Its end may be among what it says, and what it takes after that, it may never look at.
        // And where the kernel knew of the connection and does no longer, it has been reset.
        if state.map_or(self.told, |state| state.has_spoken) {
            return Look::Unreliable;
        }
        self.told = state.is_some();
        let Some(TcpState { unacknowledged, window, .. }) = state else { return Look::Untold };
        // TLS only adds bytes, so this many of the last ones written may be unacknowledged.
        let acknowledged = self.written.saturating_sub(unacknowledged.into());
        if let Some(window) = window {
            self.read = self.receipt.note(acknowledged, window.into());
        }
        Look::Acknowledged(acknowledged)
    }

    /// Reads, and forgets, what the receiver sends, until the connection has ended: answers why.
    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<String> {
        let mut ignored = [0; 1024];
        loop {
            if self.heard > MOST_HEARD {
                let reason =
                    "the endpoint sends data all the time, which no receiver of syslog does";
                return Poll::Ready(reason.to_owned());
            }
            let mut ignored = ReadBuf::new(&mut ignored);
            match ready!(Pin::new(&mut self.stream).poll_read(context, &mut ignored)) {
                Ok(()) if ignored.filled().is_empty() => {
                    return Poll::Ready("the endpoint has closed the connection".to_owned());
                }
                Ok(()) => self.heard += ignored.filled().len(),
                Err(error) => return Poll::Ready(broke(&error)),
            }
        }
    }

    async fn ended(&mut self) -> String {
        poll_fn(|context| self.poll_ended(context)).await
    }

    /// Writes a piece, as long as the connection has not ended.
    async fn write(&mut self, piece: &[u8]) -> Result<(), String> {
        let mut rest = piece;
        poll_fn(|context| {
            if let Poll::Ready(reason) = self.poll_ended(context) {
                return Poll::Ready(Err(reason));
            }
            let mut stream = Pin::new(&mut self.stream);
            while !rest.is_empty() {
                match ready!(stream.as_mut().poll_write(context, rest)) {
                    Ok(length) => rest = rest.get(length..).unwrap_or_default(),
                    Err(error) => return Poll::Ready(Err(broke(&error))),
                }
            }
            stream.poll_flush(context).map_err(|error| broke(&error))
        })
        .await?;
        self.written += piece.len() as u64;
        Ok(())
    }
}

fn broke(error: &io::Error) -> String {
    format!("the connection to the endpoint broke: {error}")
}

#[async_trait]
impl Destination for SyslogTls {
    async fn send(&mut self, batch: &Batch, trace: &mut Trace) -> Result<(), Failure> {
        // A connection that was closed while idle must not cost a line.
        let ended =
            self.connection.as_mut().and_then(|connection| connection.ended().now_or_never());
        if let Some(reason) = ended {
            let nothing_open = self.unconfirmed.is_empty();
            let failure = self.lost(Remedy::Reconnect, reason);
            if !nothing_open {
                return Err(failure);
            }
        }
        if self.connection.is_none() {
            self.connect(trace).await?;
        }
        let bytes = batch.bytes();
        let detail = |(): &()| format!("{} line(s), {} bytes", batch.lines(), bytes.len());
        if let Err(message) = trace.step(Step::Send, self.write(bytes), detail).await {
            return Err(self.lost(Remedy::Reconnect, message).in_doubt());
        }
        if let Some(connection) = &self.connection {
            if self.unconfirmed.is_empty() {
                connection.keep_alive(KEEP_ALIVE_UNCONFIRMED);
            }
            let (end, at) = (connection.written, Instant::now());
            self.unconfirmed.push_back(Sent { end, at, acknowledged: None });
        }
        Ok(())
    }

    async fn confirmed(&mut self, pressed: bool) -> Result<usize, Failure> {
        loop {
            if !self.unconfirmed.is_empty() {
                let count = self.take_confirmed();
                if count > 0 {
                    return Ok(count);
                }
            }
            let acknowledged =
                self.unconfirmed.back().is_some_and(|sent| sent.acknowledged.is_some());
            let pause = match (pressed, acknowledged) {
                (true, _) => CHECK_EVERY_PRESSED,
                (false, true) => CHECK_EVERY_ACKNOWLEDGED,
                (false, false) => CHECK_EVERY,
            };
            let Some(connection) = &mut self.connection else {
                std::future::pending::<()>().await;
                continue;
            };
            // Losing either arm is safe: one waits, the other only throws away what it reads.
            let reason = tokio::select! {
                reason = connection.ended() => reason,
                () = sleep(pause), if !self.unconfirmed.is_empty() => continue,
            };
            let nothing_open = self.unconfirmed.is_empty();
            let failure = self.lost(Remedy::Reconnect, reason);
            // With nothing open, the next batch gets a new connection.
            if !nothing_open {
                return Err(failure);
            }
        }
    }

    fn rejected(&self, line: &[u8]) -> serde_json::Value {
        serde_json::json!({ "message": String::from_utf8_lossy(line).replace('\0', "\u{2400}") })
    }
}
