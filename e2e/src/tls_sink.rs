//! A receiver of syslog over TLS (RFC 5425) that ends its connections in chosen ways.
//!
//! What it lists as received it has read before it ended a connection; what was in flight then, it
//! never looks at, as a server that dies does.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use bytes::{Buf as _, Bytes, BytesMut};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::certificates::ServerCertificate;

const LARGEST_MESSAGE: usize = 8 << 20;

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// TLS says that nothing more follows, then TCP does.
    CloseNotify,
    /// TCP says so, TLS does not.
    Fin,
    /// The connection is reset.
    Reset,
    /// It stays open and nothing more is read.
    Stall,
}

/// What to do with one connection: read so many messages, then end it.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Messages to read first.
    pub messages: usize,
    /// How it ends then.
    pub ending: Ending,
}

#[derive(Debug, Default)]
struct State {
    messages: Vec<Bytes>,
    connections: usize,
    peers: Vec<SocketAddr>,
    plans: VecDeque<Plan>,
    rest: Duration,
    is_framed_by_lf: bool,
}

/// The receiver; it stops, with its connections, when dropped.
#[derive(Debug)]
pub struct TlsSink {
    address: SocketAddr,
    authority: String,
    state: Arc<Mutex<State>>,
    task: AbortHandle,
}

impl TlsSink {
    /// Starts on a free port of 127.0.0.1 with a certificate of its own authority.
    pub async fn start() -> Result<Self> {
        Self::start_with(&ServerCertificate::for_localhost()?, 0).await
    }

    /// Starts with this certificate on this port (0: a free one).
    pub async fn start_with(certificate: &ServerCertificate, port: u16) -> Result<Self> {
        Self::start_on(certificate, TcpListener::bind(("127.0.0.1", port)).await?)
    }

    /// Starts on a socket that listens already: with buffers of its own, in another network.
    pub fn start_on(certificate: &ServerCertificate, listener: TcpListener) -> Result<Self> {
        Self::with_config(certificate, certificate.server_config()?, listener)
    }

    /// Starts on a free port of 127.0.0.1 and takes only clients with a certificate of this authority.
    pub async fn start_for_clients_of(authority: &str) -> Result<Self> {
        let certificate = ServerCertificate::for_localhost()?;
        let config = certificate.server_config_for_clients_of(authority)?;
        Self::with_config(&certificate, config, TcpListener::bind(("127.0.0.1", 0)).await?)
    }

    fn with_config(
        certificate: &ServerCertificate,
        config: Arc<ServerConfig>,
        listener: TcpListener,
    ) -> Result<Self> {
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State::default()));
        let acceptor = TlsAcceptor::from(config);
        #[allow(clippy::disallowed_methods, reason = "it is aborted when the sink is dropped")]
        let task = tokio::spawn(accept(listener, acceptor, Arc::clone(&state))).abort_handle();
        Ok(Self { address, authority: certificate.authority.clone(), state, task })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate of the authority to trust, as PEM.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Treats the next connections so, one plan each; those after them are read to their end.
    pub fn plan(&self, plans: &[Plan]) {
        lock(&self.state).plans.extend(plans);
    }

    /// Rests for so long after every 100 messages.
    pub fn rest(&self, rest: Duration) {
        lock(&self.state).rest = rest;
    }

    /// Takes an LF as the end of each message of the next connections, instead of its length in front.
    pub fn frame_by_lf(&self) {
        lock(&self.state).is_framed_by_lf = true;
    }

    /// Whence the connections came whose TLS handshake succeeded.
    #[must_use]
    pub fn peers(&self) -> Vec<SocketAddr> {
        lock(&self.state).peers.clone()
    }

    /// Messages read so far.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.state).messages.len()
    }

    /// Every message read so far, without its octet count, in order of arrival.
    #[must_use]
    pub fn messages(&self) -> Vec<Bytes> {
        lock(&self.state).messages.clone()
    }

    /// Connections whose TLS handshake succeeded.
    #[must_use]
    pub fn connections(&self) -> usize {
        lock(&self.state).connections
    }
}

impl Drop for TlsSink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(socket).await else { return };
            // The peer may close at any time; what it sent until then is kept.
            drop(receive(stream, &state).await);
        });
    }
}

async fn receive(mut stream: TlsStream<TcpStream>, state: &Mutex<State>) -> io::Result<()> {
    let (plan, by_lf) = {
        let mut state = lock(state);
        state.connections += 1;
        state.peers.extend(stream.get_ref().0.peer_addr());
        (state.plans.pop_front(), state.is_framed_by_lf)
    };
    let mut buffer = BytesMut::new();
    let mut received = 0;
    loop {
        if let Some(plan) = plan.filter(|plan| plan.messages == received) {
            return end(stream, plan.ending).await;
        }
        let message = if by_lf { take_line(&mut buffer) } else { take_message(&mut buffer)? };
        if let Some(message) = message {
            let rest = {
                let mut state = lock(state);
                state.messages.push(message);
                state.rest
            };
            received += 1;
            if received % 100 == 0 && !rest.is_zero() {
                sleep(rest).await;
            }
        } else if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// Cuts `LENGTH SP MESSAGE` off the front (RFC 5425, section 4.3), once it is complete.
pub fn take_message(buffer: &mut BytesMut) -> io::Result<Option<Bytes>> {
    let Some(space) = buffer.iter().position(|&byte| byte == b' ') else {
        return Ok(None);
    };
    let length = buffer
        .get(..space)
        .and_then(|digits| str::from_utf8(digits).ok()?.parse::<usize>().ok())
        .filter(|&length| length <= LARGEST_MESSAGE)
        .ok_or_else(|| io::Error::other("a message does not begin with its length"))?;
    if buffer.len() < space + 1 + length {
        return Ok(None);
    }
    buffer.advance(space + 1);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// Cuts `MESSAGE LF` off the front (RFC 6587, section 3.4.2), once it is complete.
fn take_line(buffer: &mut BytesMut) -> Option<Bytes> {
    let end = buffer.iter().position(|&byte| byte == b'\n')?;
    let line = buffer.split_to(end).freeze();
    buffer.advance(1);
    Some(line)
}

/// Ends a connection so.
pub async fn end(mut stream: TlsStream<TcpStream>, ending: Ending) -> io::Result<()> {
    match ending {
        Ending::CloseNotify => stream.shutdown().await?,
        Ending::Fin => stream.get_mut().0.shutdown().await?,
        Ending::Reset => return stream.get_ref().0.set_zero_linger(),
        Ending::Stall => return std::future::pending().await,
    }
    // Unread bytes would turn the end into a reset, so they are read and forgotten.
    let mut forgotten = [0; 4096];
    let socket = stream.get_mut().0;
    let drained = async { while matches!(socket.read(&mut forgotten).await, Ok(1..)) {} };
    drop(timeout(Duration::from_secs(5), drained).await);
    Ok(())
}
