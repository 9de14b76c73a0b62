//! Syslog: over TLS, TCP, UDP, and from the machine's own programs.
//!
//! Every message says whose it is by a token: the parameter `token` of the element `spillway@32473` of its
//! structured data, an element whose id is `TOKEN` or `TOKEN@` and digits, or an APP-NAME or tag that is `TOKEN` or
//! `TOKEN/name`. Or a client certificate says it for the messages of a connection that have no token. The token is in
//! none of the fields. Times without a zone, as those of RFC 3164, are taken to be in UTC.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt;
use service::Shutdown;
use tokio::net::{TcpListener, UdpSocket, UnixDatagram};
use tokio_rustls::TlsAcceptor;

use crate::Intake;
use crate::config::SyslogSettings;

mod buffer;
mod connection;
mod datagrams;
mod framing;
mod listener;
mod lookup;
mod loose;
mod message;
mod moment;
mod room;
mod senders;
mod slots;
mod tls;
mod usual;

use datagrams::Socket;
use listener::Door;
use slots::Slots;
pub use tls::TlsError;

/// How long a connection has to say who it is, before it may have to go.
const KNOWN_WITHIN: Duration = Duration::from_mins(1);
/// How long connections have to end when the process stops.
const STOP_DEADLINE: Duration = Duration::from_secs(4);
/// What the kernel keeps of datagrams while they are not read, if it may.
const DATAGRAMS_KEPT: usize = 4 << 20;

/// Syslog cannot be listened for.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is not to be had.
    #[error("cannot listen for syslog on {address} (--{flag}): {source}")]
    Address {
        /// The flag that names it.
        flag: &'static str,
        /// The address, or the path.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Tokens would cross the network for everybody to read.
    #[error(
        "--intake-syslog-tcp-listen {0} would take tokens over the network in the clear: \
         use --intake-syslog-tls-listen, or allow it with --intake-syslog-allow-plain-tcp"
    )]
    PlainTcp(SocketAddr),
    /// TLS needs both.
    #[error(
        "--intake-syslog-tls-listen needs --intake-syslog-tls-certificate and --intake-syslog-tls-key"
    )]
    NoCertificate,
    /// They cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Sockets for syslog, of which nothing was read yet.
pub(crate) struct Syslog {
    listeners: Vec<(TcpListener, Option<TlsAcceptor>)>,
    sockets: Vec<Socket>,
    slots: Slots,
}

impl Syslog {
    pub(crate) async fn bind(settings: &SyslogSettings) -> Result<Self, ListenError> {
        let (mut listeners, mut sockets) = (Vec::new(), Vec::new());
        if let Some(address) = settings.intake_syslog_tls_listen {
            let certificate = settings.intake_syslog_tls_certificate.as_deref();
            let files = certificate.zip(settings.intake_syslog_tls_key.as_deref());
            let (certificate, key) = files.ok_or(ListenError::NoCertificate)?;
            let acceptor = tls::acceptor(certificate, key)?;
            listeners.push((listen("intake-syslog-tls-listen", address).await?, Some(acceptor)));
        }
        if let Some(address) = settings.intake_syslog_tcp_listen {
            if !address.ip().is_loopback() && !settings.intake_syslog_allow_plain_tcp {
                return Err(ListenError::PlainTcp(address));
            }
            listeners.push((listen("intake-syslog-tcp-listen", address).await?, None));
        }
        if let Some(address) = settings.intake_syslog_udp_listen {
            let failed = |source| ListenError::Address {
                flag: "intake-syslog-udp-listen",
                address: address.to_string(),
                source,
            };
            let socket = UdpSocket::bind(address).await.map_err(failed)?;
            // It is cut down to what the kernel allows.
            sockopt::set_socket_recv_buffer_size(&socket, DATAGRAMS_KEPT).ok();
            say("intake-syslog-udp-listen", &socket.local_addr().map_err(failed)?);
            sockets.push(Socket::Udp(socket));
        }
        if let Some(path) = &settings.intake_syslog_unix {
            let socket = bind_unix(path).map_err(|source| ListenError::Address {
                flag: "intake-syslog-unix",
                address: path.display().to_string(),
                source,
            })?;
            say("intake-syslog-unix", &path.display());
            sockets.push(Socket::Unix(socket));
        }
        let slots = Slots::new(
            settings.intake_syslog_connections,
            settings.intake_syslog_connections_of_address,
            KNOWN_WITHIN,
        );
        Ok(Self { listeners, sockets, slots })
    }

    /// Takes messages until the shutdown is requested, and waits a while until they are durable.
    pub(crate) async fn run(self, intake: Intake, shutdown: Shutdown) {
        let door = Door::new(intake, shutdown.clone(), self.slots);
        for (listener, tls) in self.listeners {
            door.tasks.spawn(door.clone().accept(listener, tls));
        }
        for socket in self.sockets {
            door.tasks.spawn(datagrams::run(
                socket,
                door.intake.clone(),
                shutdown.clone(),
                door.room.clone(),
            ));
        }
        shutdown.requested().await;
        if !door.tasks.finished(STOP_DEADLINE).await {
            tracing::warn!("some syslog connections did not end within {STOP_DEADLINE:?}");
        }
    }
}

async fn listen(flag: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    let failed = |source| ListenError::Address { flag, address: address.to_string(), source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    say(flag, &listener.local_addr().map_err(failed)?);
    Ok(listener)
}

fn say(flag: &str, address: &dyn std::fmt::Display) {
    tracing::info!(flag, %address, "listening");
}

/// Programs of every user may write there; their messages need a token as any others.
fn bind_unix(path: &PathBuf) -> io::Result<UnixDatagram> {
    if is_abandoned(path) {
        std::fs::remove_file(path)?;
    }
    let socket = UnixDatagram::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    sockopt::set_socket_recv_buffer_size(&socket, DATAGRAMS_KEPT).ok();
    Ok(socket)
}

/// Whether there is a socket that nobody listens to: that of an intake that has ended.
fn is_abandoned(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refused = |connected: io::Result<()>| {
        connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    is_socket
        && std::os::unix::net::UnixDatagram::unbound()
            .is_ok_and(|socket| refused(socket.connect(path)))
}
