//! Who may connect: slots, and the handshake's deadline.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::sockopt;
use service::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::connection::Connection;
use super::lookup::Lookup;
use super::room::Room;
use super::slots::{Full, Slot, Slots};
use super::tls::ReadAhead;
use crate::Intake;

const HANDSHAKE: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// That there are too many connections is said no more often.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// A connection may be idle for days; one whose other end is gone is closed after a few minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(2);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_COUNT: u32 = 4;

/// What all listeners share. Clones share it.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) intake: Intake,
    pub(crate) shutdown: Shutdown,
    /// The connections, which end after the shutdown was requested.
    pub(crate) tasks: Shutdown,
    slots: Slots,
    pub(crate) room: Room,
    said: Arc<Mutex<Option<Instant>>>,
}

impl Door {
    pub(crate) fn new(intake: Intake, shutdown: Shutdown, slots: Slots) -> Self {
        Self {
            intake,
            shutdown,
            tasks: Shutdown::new(),
            slots,
            room: Room::new(),
            said: Arc::default(),
        }
    }

    /// Takes connections until the stop is requested.
    pub(crate) async fn accept(self, listener: TcpListener, tls: Option<TlsAcceptor>) {
        loop {
            // A connection that was being accepted when the stop came is closed with the listener.
            let accepted = tokio::select! {
                () = self.shutdown.requested() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, client)) => match self.slots.take(client.ip()) {
                    Ok(slot) => {
                        self.tasks.spawn(self.clone().serve(stream, tls.clone(), slot));
                    }
                    Err(full) => self.say_full(client, full),
                },
                Err(error) => {
                    tracing::warn!("a syslog connection cannot be accepted: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(self, stream: TcpStream, tls: Option<TlsAcceptor>, slot: Slot) {
        if let Err(error) = keep_alive(&stream) {
            tracing::debug!("TCP keep-alive cannot be set: {error}");
        }
        let Some(tls) = tls else {
            return self.connection(None, slot).run(stream).await;
        };
        // Losing the handshake loses nothing: no message came before its end.
        let handshake = tokio::select! {
            () = self.shutdown.requested() => return,
            handshake = timeout(HANDSHAKE, tls.accept(ReadAhead::new(stream))) => handshake,
        };
        let stream = match handshake {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!("a TLS handshake failed: {error}"),
            Err(_) => return tracing::debug!("a TLS handshake took longer than {HANDSHAKE:?}"),
        };
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.map(|certificate| certificate.to_vec());
        let connection = self.connection(certificate, slot);
        if let Err(refused) = connection.certificate_is_known().await {
            return tracing::info!("a syslog connection is closed: {refused}");
        }
        connection.run(stream).await;
    }

    fn connection(self, certificate: Option<Vec<u8>>, slot: Slot) -> Connection {
        let lookup = Lookup::of_connection(self.intake.clone(), certificate, self.shutdown.clone());
        Connection::new(self.intake, self.shutdown, lookup, slot, self.room)
    }

    fn say_full(&self, client: SocketAddr, full: Full) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            *said = Some(Instant::now());
            tracing::warn!(%client, "syslog connections are closed: {full}");
        }
    }
}

fn keep_alive(stream: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_COUNT)
}
