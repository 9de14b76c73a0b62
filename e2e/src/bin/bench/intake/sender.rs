//! What sends the same to every receiver: messages that were made before, over TLS.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use e2e::certificates::ServerCertificate;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::DEADLINE;
use crate::drain::load::text;

/// Whole messages that are written at once.
const CHUNK: usize = 64 << 10;

/// Messages, ready to be sent.
pub(super) struct Corpus {
    pub(super) messages: usize,
    chunks: Vec<Bytes>,
}

impl Corpus {
    /// Numbered messages with this token.
    pub(super) fn new(messages: usize, token: &str) -> Self {
        let (mut chunks, mut chunk) = (Vec::new(), Vec::with_capacity(CHUNK));
        for number in 0..messages {
            let message = message(number, token);
            if chunk.len() + message.len() > CHUNK {
                chunks.push(std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK)).into());
            }
            chunk.extend_from_slice(&message);
        }
        chunks.push(chunk.into());
        Self { messages, chunks }
    }

    /// What one of so many connections sends.
    fn share(&self, connection: usize, connections: usize) -> Vec<Bytes> {
        self.chunks.iter().skip(connection).step_by(connections).cloned().collect()
    }
}

/// A message with its octet count, of about 255 bytes; the last seven are its number.
pub(super) fn message(number: usize, token: &str) -> Vec<u8> {
    let message = format!(
        "<134>1 2026-11-02T09:30:00.{:06}Z web-1 orders 4711 access [spillway@32473 token=\"{token}\"]\
         [request@32473 customer=\"ada@example.com\" region=\"eu-central\" offset=\"{number:09}\"] {}",
        number % 1_000_000,
        text(number)
    );
    [format!("{} ", message.len()).as_bytes(), message.as_bytes()].concat()
}

/// A connection over TLS to a port of 127.0.0.1.
pub(super) async fn connect(
    port: u16,
    certificate: &ServerCertificate,
) -> Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.authority.as_bytes())?)?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    #[allow(clippy::disallowed_methods, reason = "it is a peer on this machine")]
    let socket = TcpStream::connect(("127.0.0.1", port)).await.context("the receiver's port")?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from("localhost")?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, socket).await?)
}

/// A corpus that is being sent.
pub(super) struct Sending {
    /// When its first byte was written; the connections were there.
    pub(super) begun: Instant,
    tasks: JoinSet<Result<TlsStream<TcpStream>>>,
}

impl Sending {
    /// Connects, then sends as fast as it is taken.
    pub(super) async fn start(
        port: u16,
        certificate: &ServerCertificate,
        corpus: &Corpus,
        connections: usize,
    ) -> Result<Self> {
        let mut streams = Vec::with_capacity(connections);
        for _ in 0..connections {
            streams.push(connect(port, certificate).await?);
        }
        let (begun, mut tasks) = (Instant::now(), JoinSet::new());
        for (connection, mut stream) in streams.into_iter().enumerate() {
            let share = corpus.share(connection, connections);
            tasks.spawn(async move {
                for chunk in share {
                    stream.write_all(&chunk).await?;
                }
                stream.flush().await?;
                Ok(stream)
            });
        }
        Ok(Self { begun, tasks })
    }

    /// When everything is written; the connections end.
    pub(super) async fn written(mut self) -> Result<()> {
        while let Some(written) = timeout(DEADLINE, self.tasks.join_next()).await? {
            written??;
        }
        Ok(())
    }

    /// When the receiver has read everything: it ends a connection only after its peer's last byte.
    pub(super) async fn read_to_the_end(mut self) -> Result<Instant> {
        let all = async {
            let mut ending = JoinSet::new();
            while let Some(stream) = self.tasks.join_next().await {
                let mut stream = stream??;
                ending.spawn(async move {
                    stream.shutdown().await?;
                    // It may end without saying so in TLS.
                    stream.read_to_end(&mut Vec::new()).await.ok();
                    anyhow::Ok(())
                });
            }
            while let Some(ended) = ending.join_next().await {
                ended??;
            }
            anyhow::Ok(Instant::now())
        };
        timeout(DEADLINE, all).await.context("the receiver does not read to the end")?
    }
}
