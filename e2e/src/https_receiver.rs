//! A TLS web server that keeps what it is sent and answers as the test says.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use libdeflater::Decompressor;
use rustls::ServerConfig;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use crate::certificates::ServerCertificate;

const LARGEST_BODY: usize = 256 << 20;

/// One request.
#[derive(Debug, Clone)]
pub struct Received {
    /// When its body was complete.
    pub at: SystemTime,
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, decompressed.
    pub body: Bytes,
    /// The body as it was sent.
    pub sent: Bytes,
    /// What was answered; none if the connection was closed or stalled.
    pub status: Option<u16>,
}

/// What to do with a request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Answer after a while.
    Status {
        /// The status.
        status: u16,
        /// Headers, such as `Retry-After`.
        headers: Vec<(String, String)>,
        /// The wait before the answer.
        after: Duration,
    },
    /// Answer at once with a body.
    Body {
        /// The status.
        status: u16,
        /// Headers, such as `Set-Cookie`.
        headers: Vec<(String, String)>,
        /// The body.
        body: Bytes,
    },
    /// Never answer, and keep the connection.
    Stall,
    /// Close the connection without an answer.
    Close,
}

type Script = Box<dyn FnMut(&Received) -> Answer + Send>;

struct State {
    requests: Vec<Received>,
    script: Script,
}

/// The server; it stops when dropped.
#[derive(Debug)]
pub struct HttpsReceiver {
    address: SocketAddr,
    authority: String,
    state: Shared,
    task: AbortHandle,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<State>>);

impl Received {
    /// A header's value as text; empty if it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The lines in the body, which is a JSON array or one JSON object a line.
    pub fn lines(&self) -> Result<Vec<Value>> {
        if self.body.starts_with(b"[") {
            return Ok(serde_json::from_slice(&self.body)?);
        }
        let lines = serde_json::Deserializer::from_slice(&self.body).into_iter::<Value>();
        lines.collect::<Result<_, _>>().context("the body is not JSON lines")
    }

    /// Whether it was answered with a 2xx.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

impl Answer {
    /// Answers at once with a status.
    #[must_use]
    pub const fn status(status: u16) -> Self {
        Self::Status { status, headers: Vec::new(), after: Duration::ZERO }
    }

    /// Answers with a status after a while.
    #[must_use]
    pub const fn slow(status: u16, after: Duration) -> Self {
        Self::Status { status, headers: Vec::new(), after }
    }

    /// Answers at once with a status and JSON.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        Self::Body { status, headers: Vec::new(), body: body.to_string().into() }
    }

    /// Answers with a status and `Retry-After`.
    #[must_use]
    pub fn retry_after(status: u16, seconds: u64) -> Self {
        let headers = vec![("retry-after".to_owned(), seconds.to_string())];
        Self::Status { status, headers, after: Duration::ZERO }
    }
}

impl HttpsReceiver {
    /// Starts on a free port of 127.0.0.1 with a certificate of its own authority; answers 200.
    pub async fn start() -> Result<Self> {
        Self::start_with(&ServerCertificate::for_localhost()?, 0).await
    }

    /// Starts with this certificate on this port (0: a free one).
    pub async fn start_with(certificate: &ServerCertificate, port: u16) -> Result<Self> {
        Self::start_on(TcpListener::bind(("127.0.0.1", port)).await?, certificate)
    }

    /// Starts with this certificate on a listener.
    pub fn start_on(listener: TcpListener, certificate: &ServerCertificate) -> Result<Self> {
        Self::start_tls(listener, certificate.server_config()?, &certificate.authority)
    }

    /// Starts with a certificate of its own authority, and lets in clients of this authority only.
    pub async fn start_for_clients_of(authority: &str) -> Result<Self> {
        let certificate = ServerCertificate::for_localhost()?;
        let config = certificate.server_config_for_clients_of(authority)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        Self::start_tls(listener, config, &certificate.authority)
    }

    /// Starts on a listener with this configuration of TLS, of whose certificate this is the authority.
    pub fn start_tls(
        listener: TcpListener,
        config: Arc<ServerConfig>,
        authority: &str,
    ) -> Result<Self> {
        let address = listener.local_addr()?;
        let state = Shared(Arc::new(Mutex::new(State {
            requests: Vec::new(),
            script: Box::new(|_| Answer::status(200)),
        })));
        let acceptor = TlsAcceptor::from(config);
        #[allow(clippy::disallowed_methods, reason = "it is aborted when the receiver is dropped")]
        let task = tokio::spawn(accept(listener, acceptor, state.clone())).abort_handle();
        Ok(Self { address, authority: authority.to_owned(), state, task })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL to post to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}/logs", self.address.port())
    }

    /// The certificate of the authority to trust, as PEM.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Answers from now on as `script` says.
    pub fn answer_by(&self, script: impl FnMut(&Received) -> Answer + Send + 'static) {
        self.state.with(|state| state.script = Box::new(script));
    }

    /// Gives these answers, one a request, and then 200 for ever.
    pub fn answer_in_turn(&self, answers: Vec<Answer>) {
        let mut answers = VecDeque::from(answers);
        self.answer_by(move |_| answers.pop_front().unwrap_or(Answer::status(200)));
    }

    /// Every request so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        self.state.with(|state| state.requests.clone())
    }

    /// Every request since the last call, which are then forgotten.
    #[must_use]
    pub fn take_requests(&self) -> Vec<Received> {
        self.state.with(|state| std::mem::take(&mut state.requests))
    }

    /// The lines of every request that was accepted, in order.
    pub fn accepted_lines(&self) -> Result<Vec<Value>> {
        let accepted = self.requests().into_iter().filter(Received::is_accepted);
        let lines: Vec<_> = accepted.map(|request| request.lines()).collect::<Result<_>>()?;
        Ok(lines.concat())
    }
}

impl Drop for HttpsReceiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, state: Shared) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (acceptor, state) = (acceptor.clone(), state.clone());
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(socket).await else { return };
            let service = service_fn(|request| answer(request, state.clone()));
            // The peer may close at any time; what it sent until then is kept.
            drop(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        });
    }
}

async fn answer(request: Request<Incoming>, state: Shared) -> io::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let sent = Limited::new(body, LARGEST_BODY).collect().await.map_err(io::Error::other)?;
    let sent = sent.to_bytes();
    let encoding = head.headers.get("content-encoding").and_then(|value| value.to_str().ok());
    let body = match encoding {
        Some("gzip") => gunzip(&sent)?,
        Some("zstd") => zstd::bulk::decompress(&sent, LARGEST_BODY)?.into(),
        _ => sent.clone(),
    };
    let mut received = Received {
        at: SystemTime::now(),
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: head.headers,
        body,
        sent,
        status: None,
    };
    let answer = state.with(|state| {
        let answer = (state.script)(&received);
        // Kept with its answer in one step: a peer that knows the answer finds the request here.
        if let Answer::Status { status, .. } | Answer::Body { status, .. } = answer {
            received.status = Some(status);
        }
        state.requests.push(received);
        answer
    });
    match answer {
        Answer::Status { status, headers, after } => {
            sleep(after).await;
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Full::default()).map_err(io::Error::other)
        }
        Answer::Body { status, headers, body } => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Full::new(body)).map_err(io::Error::other)
        }
        Answer::Stall => {
            let never: Infallible = std::future::pending().await;
            match never {}
        }
        Answer::Close => Err(io::Error::other("closed by the script")),
    }
}

fn gunzip(bytes: &[u8]) -> io::Result<Bytes> {
    // A gzip member ends with its uncompressed length (RFC 1952, section 2.3.1).
    let length = bytes.last_chunk().map_or(0, |&tail| u32::from_le_bytes(tail) as usize);
    let mut body = vec![0; length.min(LARGEST_BODY)];
    Decompressor::new().gzip_decompress(bytes, &mut body).map_err(io::Error::other)?;
    Ok(body.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn receiver_keeps_bodies_and_answers_by_its_script() -> Result<()> {
        let receiver = HttpsReceiver::start().await?;
        receiver.answer_in_turn(vec![Answer::retry_after(503, 7), Answer::Close]);
        let authority = reqwest::Certificate::from_pem(receiver.authority().as_bytes())?;
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let client = reqwest::Client::builder().tls_certs_only([authority]).build()?;
        let mut gzip = vec![0; 1000];
        let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::fastest());
        let length = compressor.gzip_compress(b"{\"n\":1}\n{\"n\":2}\n", &mut gzip)?;
        gzip.truncate(length);
        let post =
            || client.post(receiver.url()).header("content-encoding", "gzip").body(gzip.clone());

        let refused = post().send().await?;
        assert_eq!(
            (refused.status().as_u16(), refused.headers()["retry-after"].to_str()?),
            (503, "7")
        );
        assert!(post().send().await.is_err());
        assert_eq!(post().send().await?.status().as_u16(), 200);
        assert_eq!(receiver.requests().len(), 3);
        assert_eq!(
            receiver.accepted_lines()?,
            [serde_json::json!({"n": 1}), serde_json::json!({"n": 2})]
        );
        Ok(())
    }
}
