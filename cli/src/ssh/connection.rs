//! From an admission to a signed-in connection.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use russh::client::{self, Handle};
use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Preferred, SshId, cipher};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::admission::Admission;
use super::backlog::Backlog;
use super::host::{ConnectError, HostCheck};
use super::output::LATE_PIECES;
use super::transport::{Transport, WINDOW};

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// A connection is cut if its keep-alives are not answered for so long.
const MAX_SILENCE: Duration = Duration::from_mins(1);

/// Kinds of host keys with certificates, as OpenSSH prefers them.
const HOST_KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// AES in hardware is the fastest of these on most machines.
const CIPHERS: &[cipher::Name] =
    &[cipher::AES_256_GCM, cipher::CHACHA20_POLY1305, cipher::AES_256_CTR];

/// Connects to the first edge that can be reached, and signs in. The connection is held back while
/// `backlog` has no room.
pub(crate) async fn open(
    admission: &Admission,
    backlog: &Arc<Backlog>,
) -> Result<Handle<HostCheck>> {
    let mut failures = Vec::new();
    for address in &admission.addresses {
        match greet(address, admission, backlog).await {
            Ok(handle) => return sign_in(handle, admission).await,
            Err(error) => failures.push(format!("{address}: {error:#}")),
        }
    }
    bail!("cannot reach an SSH edge: {}", failures.join("; "))
}

async fn greet(
    address: &str,
    admission: &Admission,
    backlog: &Arc<Backlog>,
) -> Result<Handle<HostCheck>> {
    #[allow(clippy::disallowed_methods, reason = "the API names the address, not a customer")]
    let stream = timeout(CONNECT_DEADLINE, TcpStream::connect(address))
        .await
        .context("it did not answer")??;
    stream.set_nodelay(true)?;
    let config = client::Config {
        client_id: SshId::Standard(Cow::Borrowed(concat!(
            "SSH-2.0-platform_",
            env!("CARGO_PKG_VERSION")
        ))),
        window_size: WINDOW,
        channel_buffer_size: LATE_PIECES,
        keepalive_interval: Some(KEEP_ALIVE_INTERVAL),
        // It sees no answer while it is held back; the transport does.
        keepalive_max: 0,
        preferred: Preferred {
            host_key_certificates: Cow::Borrowed(HOST_KEYS),
            cipher: Cow::Borrowed(CIPHERS),
            ..Preferred::DEFAULT
        },
        ..client::Config::default()
    };
    let check = HostCheck::new(admission.host_authority.clone(), admission.host_principal.clone());
    let transport = Transport::new(stream, backlog.clone(), MAX_SILENCE);
    let greeted = client::connect_stream(Arc::new(config), transport, check);
    match timeout(HANDSHAKE_DEADLINE, greeted).await.context("it did not finish its greeting")? {
        Ok(handle) => Ok(handle),
        Err(error @ ConnectError::Stranger(_)) => Err(error.into()),
        Err(ConnectError::Protocol(error)) => {
            Err(error).context("it does not speak SSH as expected")
        }
    }
}

async fn sign_in(
    mut handle: Handle<HostCheck>,
    admission: &Admission,
) -> Result<Handle<HostCheck>> {
    let signed = handle.authenticate_openssh_cert(
        admission.user_name.clone(),
        Arc::clone(&admission.key),
        admission.certificate.clone(),
    );
    let signed = timeout(HANDSHAKE_DEADLINE, signed).await.context("the edge did not answer")?;
    if !signed.context("the edge ended the sign-in")?.success() {
        bail!("the edge did not accept the session's certificate; are the clocks right?");
    }
    Ok(handle)
}
