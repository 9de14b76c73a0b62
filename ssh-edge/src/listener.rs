//! Sockets, permits, and the sign-in deadline.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use russh::keys::PrivateKey;
use russh::keys::ssh_key::Certificate;
use russh::server::{Config, Handle, run_stream};
use russh::{Disconnect, MethodKind, MethodSet, Preferred, SshId, cipher, compression};
use store::StoreError;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::admission::Refusal;
use crate::connection::{Connection, MAX_CHANNELS, NoKeys, Progress};
use crate::edge::Edge;
use crate::session::flow::WINDOW;
use crate::socket::Socket;

/// Long enough to hide how long a look-up took, short enough for an agent with several keys.
const REJECTION_TIME: Duration = Duration::from_millis(300);
/// The probe for methods, and a few keys.
const MAX_ATTEMPTS: usize = 7;
const GOODBYE: Duration = Duration::from_secs(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How the edge speaks SSH.
pub(crate) fn server_config(host_key: PrivateKey, host_certificate: Certificate) -> Config {
    Config {
        server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-Spillway")),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: REJECTION_TIME,
        // OpenSSH's first question has no key in it, so its answer has nothing to hide.
        auth_rejection_time_initial: Some(Duration::ZERO),
        max_auth_attempts: MAX_ATTEMPTS,
        keys: vec![host_key],
        certificates: vec![host_certificate],
        window_size: WINDOW,
        event_buffer_size: 64,
        preferred: Preferred {
            cipher: Cow::Borrowed(&[
                cipher::AES_128_GCM,
                cipher::AES_256_GCM,
                cipher::CHACHA20_POLY1305,
                cipher::AES_256_CTR,
                cipher::AES_128_CTR,
            ]),
            compression: Cow::Borrowed(&[compression::NONE]),
            ..Preferred::default()
        },
        // Sessions have an idle limit; a connection without one costs a permit.
        inactivity_timeout: None,
        keepalive_interval: Some(Duration::from_secs(30)),
        keepalive_max: 3,
        ..Config::default()
    }
}

/// Takes connections until the stop is requested.
pub(crate) async fn accept(
    listener: TcpListener,
    edge: Arc<Edge>,
    config: Arc<Config>,
    max_connections: u32,
) {
    let permits = Arc::new(Semaphore::new(max_connections as usize));
    loop {
        // A connection that was being accepted when the stop came is closed with the listener.
        let accepted = tokio::select! {
            () = edge.tasks.requested() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, client)) => {
                if edge.lockout.is_locked(client.ip(), Instant::now()) {
                    tracing::warn!(%client, "closed: too many failed sign-ins");
                } else if let Ok(permit) = permits.clone().try_acquire_owned() {
                    let (edge, config) = (edge.clone(), config.clone());
                    edge.clone().tasks.spawn(async move {
                        connection(edge, config, stream, client).await;
                        drop(permit);
                    });
                } else {
                    tracing::warn!(%client, "closed: as many connections as are allowed");
                }
            }
            Err(error) => {
                // Out of file descriptors, most likely: some will be closed.
                tracing::error!(%error, "cannot accept connections");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(edge: Arc<Edge>, config: Arc<Config>, stream: TcpStream, client: SocketAddr) {
    let end = CancellationToken::new();
    // Whatever happens here, russh's own task must not outlive this one.
    let _end_at_return = end.clone().drop_guard();
    let socket = match Socket::new(stream, end.clone()) {
        Ok(socket) => socket,
        Err(error) => return tracing::debug!(%client, %error, "the connection broke"),
    };
    let progress = Arc::new(Progress::new());
    let handler = Connection::new(edge.clone(), client, progress.clone());
    let deadline = Instant::now() + edge.sign_in_deadline;
    let greeted = timeout(edge.sign_in_deadline, run_stream(config, socket, handler)).await;
    let Ok(Ok(mut running)) = greeted else {
        return tracing::debug!(%client, "no SSH client");
    };
    let handle = running.handle();
    let mut signed_in = progress.signed_in.subscribe();
    let mut no_keys = progress.no_keys.subscribe();
    // Losing the connection's end is safe: it is asked again below.
    let over = tokio::select! {
        over = &mut running => Some(over),
        () = edge.tasks.requested() => None,
        _ = signed_in.wait_for(|&signed_in| signed_in) => None,
        _ = no_keys.wait_for(|&state| state == NoKeys::Found) => None,
        () = tokio::time::sleep_until(deadline.into()) => {
            tracing::info!(%client, "closed: not signed in in time");
            None
        }
    };
    let has_no_keys = *progress.no_keys.borrow() == NoKeys::Found;
    if has_no_keys {
        return farewell(&progress, &handle, &mut running).await;
    }
    let is_signed_in = *progress.signed_in.borrow();
    if !is_signed_in && progress.tried.load(Ordering::Relaxed) {
        edge.lockout.failed(client.ip(), Instant::now());
    }
    if over.is_some() || !is_signed_in {
        return;
    }
    tracing::info!(%client, "signed in");
    tokio::select! {
        over = &mut running => {
            if let Err(error) = over {
                tracing::info!(%client, %error, "the connection broke");
            }
            return;
        }
        () = edge.tasks.requested() => {}
    }
    // The sessions end themselves, in order; the connection waits for them.
    drop(progress.channels.acquire_many(MAX_CHANNELS).await);
    let goodbye = async {
        let text = "the SSH edge is stopping".to_owned();
        drop(handle.disconnect(Disconnect::ByApplication, text, String::new()).await);
        drop(running.await);
    };
    drop(timeout(GOODBYE, goodbye).await);
}

/// Ends a connection whose client cannot be signed in for now. It has not failed to.
async fn farewell<E>(
    progress: &Progress,
    handle: &Handle,
    running: &mut (impl Future<Output = Result<(), E>> + Unpin),
) {
    let text = Refusal::ControlData(StoreError::Silent).to_string();
    let told = handle.disconnect(Disconnect::ServiceNotAvailable, text, String::new()).await;
    if told.is_ok() {
        progress.no_keys.send_replace(NoKeys::Told);
        drop(timeout(GOODBYE, running).await);
    }
}
