//! A receiver over TLS that does with its connections as it is told.

use std::sync::Arc;

use anyhow::Result;
use e2e::certificates::ServerCertificate;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub(crate) type Connection = TlsStream<TcpStream>;

/// It ends, with its connections, when dropped.
pub(crate) struct TlsReceiver {
    pub(crate) port: u16,
    /// The certificate of the authority to trust, as PEM.
    pub(crate) authority: String,
    _task: JoinSet<()>,
}

impl TlsReceiver {
    /// Starts on a free port of 127.0.0.1; each connection is read by `read`.
    pub(crate) async fn start<R>(
        read: impl Fn(Connection) -> R + Send + Sync + 'static,
    ) -> Result<Self>
    where
        R: Future<Output = Result<()>> + Send + 'static,
    {
        let certificate = ServerCertificate::for_localhost()?;
        let acceptor = TlsAcceptor::from(certificate.server_config()?);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let read = Arc::new(read);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, read) = (acceptor.clone(), Arc::clone(&read));
                connections.spawn(async move {
                    // The worker ends it when it stops.
                    if let Ok(connection) = acceptor.accept(socket).await {
                        drop(read(connection).await);
                    }
                });
            }
        });
        Ok(Self { port, authority: certificate.authority, _task: task })
    }
}
