//! A receiver of syslog over TLS (RFC 5425) that ends its connections when and how it is told.
//!
//! What it keeps it has read before it ended a connection; what was in flight then, it never looks
//! at, as a server that dies does.

use std::io;
use std::net::TcpListener as StdListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use anyhow::Result;
use bytes::BytesMut;
use e2e::certificates::ServerCertificate;
use e2e::tls_sink::{Ending, end, take_message};
use model::OutputStream;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Ledger;
use crate::evidence::{Arrival, Span};

/// What it is told to do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Orders {
    /// Raised to end every connection that there is.
    end: u64,
    ending: Option<Ending>,
    /// Ends each connection after so many messages.
    pub(crate) every: Option<(usize, Ending)>,
    /// Reads nothing, and keeps its connections.
    pub(crate) stalled: bool,
}

/// The receiver; it stops when dropped.
#[derive(Debug)]
pub(crate) struct Syslog {
    orders: watch::Sender<Orders>,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    ledger: Ledger,
    connections: AtomicU32,
    ended: AtomicU64,
}

impl Syslog {
    pub(crate) fn start(
        listener: StdListener,
        certificate: &ServerCertificate,
        file: &Path,
    ) -> Result<Self> {
        let acceptor = TlsAcceptor::from(certificate.server_config()?);
        let listener = TcpListener::from_std(listener)?;
        let shared = Arc::new(Shared {
            ledger: Ledger::create(file)?,
            connections: AtomicU32::new(0),
            ended: AtomicU64::new(0),
        });
        let orders = watch::Sender::default();
        let mut task = JoinSet::new();
        task.spawn(accept(listener, acceptor, orders.subscribe(), Arc::clone(&shared)));
        Ok(Self { orders, shared, _task: task })
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    pub(crate) fn connections(&self) -> u32 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Connections that it has ended.
    pub(crate) fn ended(&self) -> u64 {
        self.shared.ended.load(Ordering::Relaxed)
    }

    /// Ends every connection that there is.
    pub(crate) fn end_all(&self, ending: Ending) {
        self.orders.send_modify(|orders| {
            orders.end += 1;
            orders.ending = Some(ending);
        });
    }

    pub(crate) fn order(&self, change: impl FnOnce(&mut Orders)) {
        self.orders.send_modify(change);
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    orders: watch::Receiver<Orders>,
    shared: Arc<Shared>,
) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let (acceptor, shared, orders) = (acceptor.clone(), Arc::clone(&shared), orders.clone());
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(socket).await else { return };
            // The peer may close at any time; what it sent until then is kept.
            drop(receive(stream, orders, &shared).await);
        });
    }
}

async fn receive(
    mut stream: TlsStream<TcpStream>,
    mut orders: watch::Receiver<Orders>,
    shared: &Shared,
) -> io::Result<()> {
    let number = shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
    let born = *orders.borrow_and_update();
    let mut now = born;
    let mut buffer = BytesMut::with_capacity(1 << 16);
    let mut received = 0;
    loop {
        if now.end != born.end {
            shared.ended.fetch_add(1, Ordering::Relaxed);
            return end(stream, now.ending.unwrap_or(Ending::Fin)).await;
        }
        if let Some((_, ending)) = now.every.filter(|(messages, _)| received >= *messages) {
            shared.ended.fetch_add(1, Ordering::Relaxed);
            return end(stream, ending).await;
        }
        // One at a time only where the count matters.
        let mut arrived = Vec::new();
        while let Some(message) = take_message(&mut buffer)? {
            received += 1;
            match arrival(number, &message) {
                Some(arrival) => arrived.push(arrival),
                None => shared.ledger.complain(format!(
                    "a syslog message is not understood: {}",
                    String::from_utf8_lossy(&message)
                )),
            }
            if now.every.is_some_and(|(messages, _)| received >= messages) {
                break;
            }
        }
        if !arrived.is_empty() {
            shared.ledger.keep(&arrived);
            continue;
        }
        // Losing an arm is safe: reading is cancel safe, and orders are looked at again.
        tokio::select! {
            changed = orders.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                now = *orders.borrow_and_update();
            }
            read = stream.read_buf(&mut buffer), if !now.stalled => if read? == 0 {
                return Ok(());
            }
        }
    }
}

/// Reads what a message says of itself. Only names are escaped in the structured data, and none of
/// those that are read here is one.
fn arrival(batch: u32, raw: &[u8]) -> Option<Arrival> {
    let element = raw.windows(17).position(|window| window == b"[spillway@32473 i")?;
    let body = raw.get(element..)?;
    let close = end_of_element(body)?;
    let fields = str::from_utf8(body.get(..close)?).ok()?;
    let field = |name: &str| {
        let begin = fields.find(&format!(" {name}=\""))? + name.len() + 3;
        fields.get(begin..)?.split('"').next()
    };
    let number = |name| field(name).and_then(|text| text.parse().ok());
    let stream = match field("stream") {
        Some("stdout") => Some(OutputStream::Stdout),
        Some("stderr") => Some(OutputStream::Stderr),
        _ => None,
    };
    // A line of an app may say its stream, too.
    let span = match (stream, field("offset")) {
        (Some(stream), Some(offset)) => {
            Some(Span { stream, offset: offset.parse().ok()?, length: number("length")? })
        }
        _ => None,
    };
    let id = field("id")?;
    let producer = match field("session_id") {
        Some(session) => session.parse().ok()?,
        None => Arrival::producer_of(id)?,
    };
    Some(Arrival {
        batch,
        id: id.to_owned(),
        producer,
        seq: number("seq")?,
        span,
        sent_bytes: u32::try_from(raw.len()).ok()?,
        message: after_elements(body.get(close + 1..)?)?.to_vec(),
    })
}

/// The message after the end of an element: others may come between.
fn after_elements(mut rest: &[u8]) -> Option<&[u8]> {
    while rest.starts_with(b"[") {
        rest = rest.get(end_of_element(rest)? + 1..)?;
    }
    rest.strip_prefix(b" ")
}

/// Where the `]` is that no backslash is before (RFC 5424, section 6.3.3).
fn end_of_element(body: &[u8]) -> Option<usize> {
    let mut escaped = false;
    body.iter().position(|&byte| {
        let close = byte == b']' && !escaped;
        escaped = byte == b'\\' && !escaped;
        close
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_of_an_app_is_read_after_what_its_sender_said() {
        let id = "019a0000-0000-7000-8000-000000000002:7";
        let raw = format!(
            "<134>1 2026-01-02T03:04:05Z production web - line [spillway@32473 id=\"{id}\" source=\"app\" \
             stream=\"stdout\" seq=\"7\"][fields@32473 a=\"[\\]\"] [x] said"
        );
        let arrival = arrival(1, raw.as_bytes()).unwrap();
        assert_eq!((arrival.message.as_slice(), arrival.seq), (&b"[x] said"[..], 7));
        assert_eq!((arrival.span, Some(arrival.producer)), (None, Arrival::producer_of(id)));
    }

    #[test]
    fn message_is_read_with_its_blanks_and_brackets() {
        let session = "019a0000-0000-7000-8000-000000000001";
        let raw = format!(
            "<134>1 2026-01-02T03:04:05Z production web - output [spillway@32473 id=\"x:stdout:7-9\" \
             session_id=\"{session}\" user_name=\"A \\\"B\\\" \\]\\\\\" stream=\"stdout\" offset=\"7\" \
             length=\"2\" seq=\"3\"]  ] x "
        );
        let arrival = arrival(1, raw.as_bytes()).unwrap();
        assert_eq!(arrival.message, b" ] x ");
        assert_eq!((arrival.id.as_str(), arrival.seq), ("x:stdout:7-9", 3));
        let span = Span { stream: OutputStream::Stdout, offset: 7, length: 2 };
        assert_eq!((arrival.span, arrival.producer.to_string()), (Some(span), session.to_owned()));
    }
}
