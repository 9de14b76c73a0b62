//! Syslog over TLS (RFC 5425).
//!
//! Syslog has no acknowledgement. A batch counts as delivered when the receiver has surely read it, as
//! far as its TCP tells ([`receipt`]); or when its TCP has acknowledged the batch and the connection
//! has then lived on for the redelivery window, for what is little shows in no window. A receiver that
//! visibly lags has longer.
//!
//! Invariant: any end of the connection, however polite, is a failure while a batch is unconfirmed.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt as _;
use rustix::net::sockopt;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream;

use super::{Destination, Failure, Remedy};
use crate::batch::Batch;
use crate::egress::Egress;
use crate::tcp_state::{self, TcpState};
use crate::tls::{Endpoint, TlsConfigError};
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
/// A receiver that takes nothing for so long is failing.
const WRITE_DEADLINE: Duration = Duration::from_secs(25);
/// For how long, after they are acknowledged, bytes of a receiver that lags are not confirmed. With
/// more bytes waiting, the deadlines above end its connection before.
const LONGEST_LAG: Duration = Duration::from_secs(30);
const WRITE_PIECE: usize = 256 * 1024;
const CHECK_EVERY: Duration = Duration::from_millis(50);
const CHECK_EVERY_PRESSED: Duration = Duration::from_millis(5);

/// `destination` of a drain of kind `syslog_tls_tcp`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SyslogTlsConfig {
    host: String,
    port: u16,
    #[serde(default)]
    server_name: Option<String>,
    #[serde(default)]
    ca_certificates: Option<String>,
}

/// A syslog receiver.
#[derive(Debug)]
pub(crate) struct SyslogTls {
    endpoint: Endpoint,
    egress: Egress,
    redelivery_window: Duration,
    redelivery_bytes: u64,
    connection: Option<Connection>,
    unconfirmed: VecDeque<Sent>,
    receipt: Receipt,
    /// The kernel tells of this connection.
    told: bool,
    /// Bytes that the receiver has surely read.
    read: u64,
    /// Bytes written on this connection.
    written: u64,
}

#[derive(Debug)]
struct Connection {
    read: ReadHalf<TlsStream<TcpStream>>,
    write: WriteHalf<TlsStream<TcpStream>>,
    local: SocketAddr,
    peer: SocketAddr,
}

#[derive(Debug)]
struct Sent {
    /// [`SyslogTls::written`] after this batch.
    end: u64,
    at: Instant,
    acknowledged: Option<Instant>,
}

impl SyslogTls {
    pub(crate) fn new(
        config: &SyslogTlsConfig,
        egress: Egress,
        redelivery_window: Duration,
        redelivery_bytes: usize,
    ) -> Result<Self, TlsConfigError> {
        let server_name = config.server_name.as_ref().unwrap_or(&config.host);
        let ca_certificates = config.ca_certificates.as_deref();
        let redelivery_bytes = redelivery_bytes as u64;
        Ok(Self {
            endpoint: Endpoint::new(&config.host, config.port, server_name, ca_certificates)?,
            egress,
            redelivery_window,
            redelivery_bytes,
            connection: None,
            unconfirmed: VecDeque::new(),
            receipt: Receipt::new(redelivery_bytes),
            told: false,
            read: 0,
            written: 0,
        })
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

    fn lost(&mut self, remedy: Remedy, message: impl Into<String>) -> Failure {
        self.connection = None;
        self.unconfirmed.clear();
        self.receipt = Receipt::new(self.redelivery_bytes);
        (self.read, self.written, self.told) = (0, 0, false);
        Failure::new(remedy, message)
    }

    /// Notes what the receiver's TCP tells by now; answers whether that can be relied on.
    fn look(&mut self) -> bool {
        let Some(connection) = &self.connection else { return false };
        let now = Instant::now();
        let state = tcp_state::ask(connection.local, connection.peer);
        // Its end may be among what it says, and what it takes after that, it may never look at.
        // And where the kernel knew of the connection and does no longer, it has been reset.
        if state.map_or(self.told, |state| state.has_spoken) {
            return false;
        }
        self.told = state.is_some();
        // TLS only adds bytes, so this many of the last ones written may be unacknowledged.
        let acknowledged = state.map(|TcpState { unacknowledged, .. }| {
            self.written.saturating_sub(unacknowledged.into())
        });
        if let (Some(bytes), Some(window)) = (acknowledged, state.and_then(|state| state.window)) {
            self.read = self.read.max(self.receipt.read(bytes, window.into()));
        }
        for sent in &mut self.unconfirmed {
            let acknowledged = match acknowledged {
                Some(bytes) => sent.end <= bytes,
                None => now.duration_since(sent.at) >= SURELY_ACKNOWLEDGED,
            };
            if !acknowledged {
                break;
            }
            sent.acknowledged.get_or_insert(now);
        }
        true
    }

    fn take_confirmed(&mut self) -> usize {
        let wait = if self.receipt.lags() { LONGEST_LAG } else { self.redelivery_window };
        let delivered = |sent: &&Sent| {
            sent.end <= self.read || sent.acknowledged.is_some_and(|at| at.elapsed() >= wait)
        };
        let count = self.unconfirmed.iter().take_while(delivered).count();
        self.unconfirmed.drain(..count);
        count
    }
}

impl Connection {
    fn new(stream: TlsStream<TcpStream>) -> io::Result<Self> {
        let (tcp, _) = stream.get_ref();
        let (local, peer) = (tcp.local_addr()?, tcp.peer_addr()?);
        let millis = u32::try_from(USER_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
        sockopt::set_tcp_user_timeout(tcp, millis)?;
        sockopt::set_tcp_keepidle(tcp, KEEP_ALIVE)?;
        sockopt::set_tcp_keepintvl(tcp, KEEP_ALIVE)?;
        sockopt::set_socket_keepalive(tcp, true)?;
        let (read, write) = tokio::io::split(stream);
        Ok(Self { read, write, local, peer })
    }

    /// Reads, and forgets, what the receiver sends; returns why when the connection has ended.
    async fn ended(read: &mut ReadHalf<TlsStream<TcpStream>>) -> String {
        let mut ignored = [0; 1024];
        loop {
            match read.read(&mut ignored).await {
                Ok(0) => return "the endpoint has closed the connection".to_owned(),
                Ok(_) => {}
                Err(error) => return format!("the connection to the endpoint broke: {error}"),
            }
        }
    }

    async fn write(&mut self, bytes: &Bytes) -> Result<(), String> {
        let Self { read, write, .. } = self;
        let pieces = async {
            for piece in bytes.chunks(WRITE_PIECE) {
                let written = async {
                    write.write_all(piece).await?;
                    write.flush().await
                };
                match timeout(WRITE_DEADLINE, written).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        return Err(format!("the connection to the endpoint broke: {error}"));
                    }
                    Err(_) => {
                        return Err(format!("the endpoint took nothing for {WRITE_DEADLINE:?}"));
                    }
                }
            }
            Ok(())
        };
        // Losing the write is safe: the connection has ended, and the batch is sent again on another.
        tokio::select! {
            biased;
            reason = Self::ended(read) => Err(reason),
            result = pieces => result,
        }
    }
}

#[async_trait]
impl Destination for SyslogTls {
    async fn send(&mut self, batch: &Batch, trace: &mut Trace) -> Result<(), Failure> {
        // A connection that was closed while idle must not cost a line.
        let ended = self
            .connection
            .as_mut()
            .and_then(|connection| Connection::ended(&mut connection.read).now_or_never());
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
        let Some(connection) = &mut self.connection else {
            return Err(self.lost(Remedy::Retry(None), "there is no connection"));
        };
        let bytes = batch.bytes();
        let detail = |(): &()| format!("{} line(s), {} bytes", batch.lines(), bytes.len());
        if let Err(message) = trace.step(Step::Send, connection.write(bytes), detail).await {
            return Err(self.lost(Remedy::Reconnect, message));
        }
        self.written += bytes.len() as u64;
        self.unconfirmed.push_back(Sent {
            end: self.written,
            at: Instant::now(),
            acknowledged: None,
        });
        Ok(())
    }

    async fn confirmed(&mut self, pressed: bool) -> Result<usize, Failure> {
        loop {
            if !self.unconfirmed.is_empty() && self.look() {
                let count = self.take_confirmed();
                if count > 0 {
                    return Ok(count);
                }
            }
            let pause = if pressed { CHECK_EVERY_PRESSED } else { CHECK_EVERY };
            let Some(connection) = &mut self.connection else {
                std::future::pending::<()>().await;
                continue;
            };
            // Losing either arm is safe: one waits, the other only throws away what it reads.
            let reason = tokio::select! {
                reason = Connection::ended(&mut connection.read) => reason,
                () = sleep(pause), if !self.unconfirmed.is_empty() => continue,
            };
            if self.unconfirmed.is_empty() {
                // The next batch gets a new connection.
                drop(self.lost(Remedy::Reconnect, reason));
            } else {
                return Err(self.lost(Remedy::Reconnect, reason));
            }
        }
    }

    fn rejected(&self, line: &[u8]) -> serde_json::Value {
        serde_json::json!({ "message": String::from_utf8_lossy(line).replace('\0', "\u{2400}") })
    }
}
