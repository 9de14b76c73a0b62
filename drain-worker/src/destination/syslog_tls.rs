//! Syslog over TLS (RFC 5425).
//!
//! Syslog has no acknowledgement. A batch counts as delivered when the peer's TCP has acknowledged
//! it and the connection has then lived on for the redelivery window: a receiver that ends has
//! acknowledged bytes that it never read. When unconfirmed bytes reach their limit, acknowledged
//! ones are confirmed without the wait, for a receiver that has acknowledged the bytes after a batch
//! as well, more than its socket buffer holds, has read the batch; so the window's time does not
//! limit the throughput.
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
use crate::send_queue;
use crate::tls::{Endpoint, TlsConfigError};
use crate::trace::{Step, Trace};

/// Unacknowledged bytes older than this end the connection (RFC 5482).
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Where the kernel does not tell what is acknowledged: older bytes than [`USER_TIMEOUT`] on a
/// living connection must be.
const SURELY_ACKNOWLEDGED: Duration = Duration::from_secs(35);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A receiver that takes nothing for so long is failing.
const WRITE_DEADLINE: Duration = Duration::from_mins(1);
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
    connection: Option<Connection>,
    unconfirmed: VecDeque<Sent>,
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
    ) -> Result<Self, TlsConfigError> {
        let server_name = config.server_name.as_ref().unwrap_or(&config.host);
        let ca_certificates = config.ca_certificates.as_deref();
        Ok(Self {
            endpoint: Endpoint::new(&config.host, config.port, server_name, ca_certificates)?,
            egress,
            redelivery_window,
            connection: None,
            unconfirmed: VecDeque::new(),
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
        self.written = 0;
        Failure::new(remedy, message)
    }

    /// Notes what the peer has acknowledged by now.
    fn check_acknowledged(&mut self) {
        let Some(connection) = &self.connection else { return };
        let now = Instant::now();
        // TLS only adds bytes, so this many of the last ones written may be unacknowledged.
        let open = send_queue::unacknowledged(connection.local, connection.peer);
        for sent in &mut self.unconfirmed {
            let acknowledged = match open {
                Some(open) => self.written - sent.end >= u64::from(open),
                None => now.duration_since(sent.at) >= SURELY_ACKNOWLEDGED,
            };
            if acknowledged && sent.acknowledged.is_none() {
                sent.acknowledged = Some(now);
            }
        }
    }

    fn take_confirmed(&mut self, pressed: bool) -> usize {
        // Only the oldest: the bytes after it are what shows that it was read.
        let pressed = pressed && self.unconfirmed.len() > 1;
        let (wait, most) =
            if pressed { (Duration::ZERO, 1) } else { (self.redelivery_window, usize::MAX) };
        let delivered = |sent: &&Sent| sent.acknowledged.is_some_and(|at| at.elapsed() >= wait);
        let count = self.unconfirmed.iter().take(most).take_while(delivered).count();
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
            if !self.unconfirmed.is_empty() {
                self.check_acknowledged();
                let count = self.take_confirmed(pressed);
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
                self.connection = None;
            } else {
                return Err(self.lost(Remedy::Reconnect, reason));
            }
        }
    }

    fn rejected(&self, line: &[u8]) -> serde_json::Value {
        serde_json::json!({ "message": String::from_utf8_lossy(line).replace('\0', "\u{2400}") })
    }
}
