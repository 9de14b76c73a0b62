//! The way in over HTTP(S).
//!
//! The walk of a request (`take`): its token names the log source (`auth`), the body is read (`body`) and
//! decompressed, taken from the quota, and read as its endpoint says (`logs`, `otlp`, `loki`, `splunk`). Then its
//! lines go into the stream (`deliver`), and only when they are durable is it answered with 2xx.
//!
//! The server has threads, and runtimes, of its own. What must outlive them, connections to the database and
//! the lanes' tasks, is driven by the intake's.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use actix_web::middleware::DefaultHeaders;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpResponse, HttpServer, Resource};
use rustls::ServerConfig;
use service::Shutdown;
use tokio::net::TcpSocket;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::{Intake, Settings};

mod auth;
mod body;
mod deliver;
mod gathered;
mod inflate;
mod json;
mod keyed;
mod lines;
mod logplex;
mod logs;
mod loki;
mod memory;
mod otlp;
mod protobuf;
mod refusal;
mod splunk;
mod take;
mod times;
mod tls;

use memory::Memory;
use refusal::{Dialect, Refusal};

/// How long a client has for a request's head, and for TLS.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a connection may be idle between requests: longer than load balancers keep theirs.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
const BACKLOG: u32 = 4096;
/// Connections that one of the two workers has at most.
const CONNECTIONS: usize = 16_384;
/// Bodies that are read as lines at a time; each may take a multiple of its longest record.
const DECODERS: usize = 4;

/// HTTP(S) cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum HttpStartError {
    /// Tokens would cross a network in plain text.
    #[error(
        "--intake-http-listen {0} is not a loopback address and there is no TLS: give \
         --intake-http-tls-certificate and --intake-http-tls-key, or --intake-allow-plain-http behind a TLS proxy"
    )]
    PlainHttp(SocketAddr),
    /// The address cannot be listened on.
    #[error("--intake-http-listen {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The certificate or its key cannot be used.
    #[error("{}: {detail}", file.display())]
    Tls {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        detail: String,
    },
}

/// What handlers share.
struct Shared {
    intake: Intake,
    /// The intake's own runtime, and its tasks.
    runtime: Handle,
    tasks: Shutdown,
    memory: Memory,
    decoders: Arc<Semaphore>,
    body_limit: usize,
}

/// A server that listens and does not serve yet.
pub(crate) struct Listening {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<ServerConfig>,
    body_limit: usize,
}

/// Reads the certificate and listens.
pub(crate) fn listen(settings: &Settings) -> Result<Listening, HttpStartError> {
    let address = settings.intake_http_listen;
    let tls = tls::config(settings)?;
    if tls.is_none() && !address.ip().is_loopback() && !settings.intake_allow_plain_http {
        return Err(HttpStartError::PlainHttp(address));
    }
    let cannot = |error| HttpStartError::Listen { address, error };
    let listener = listener(address).map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    let body_limit = usize::try_from(settings.intake_http_body_bytes).unwrap_or(usize::MAX);
    Ok(Listening { listener, address, tls, body_limit })
}

/// With room for many who connect at once, as all shippers do after an outage.
fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

impl Listening {
    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the shutdown is requested, then finishes the requests it has. `tasks` go on until then.
    pub(crate) async fn run(
        self,
        intake: Intake,
        tasks: Shutdown,
        shutdown: Shutdown,
    ) -> io::Result<()> {
        let Self { listener, address, tls, body_limit } = self;
        let shared = web::Data::new(Shared {
            intake,
            runtime: Handle::current(),
            tasks,
            memory: Memory::for_bodies_of(body_limit),
            decoders: Arc::new(Semaphore::new(DECODERS)),
            body_limit,
        });
        let server = HttpServer::new(move || {
            App::new()
                .app_data(shared.clone())
                .configure(routes)
                .default_service(web::route().to(no_such_path))
                .wrap(
                    DefaultHeaders::new()
                        .add((CACHE_CONTROL, "no-store"))
                        .add((X_CONTENT_TYPE_OPTIONS, "nosniff")),
                )
        })
        .workers(2)
        .max_connections(CONNECTIONS)
        .client_request_timeout(HEAD_TIME)
        .tls_handshake_timeout(HEAD_TIME)
        .keep_alive(KEEP_ALIVE)
        .disable_signals()
        .shutdown_timeout(10);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let server = match tls {
            Some(tls) => server.listen_rustls_0_23(listener, tls)?,
            None => server.listen(listener)?,
        }
        .run();
        let handle = server.handle();
        let stop = shutdown.clone();
        shutdown.spawn(async move {
            stop.requested().await;
            handle.stop(true).await;
        });
        tracing::info!(%address, scheme, "the intake is listening for HTTP");
        let ended = server.await;
        // A server that stops by itself takes its watcher with it, and the intake.
        shutdown.request();
        ended
    }
}

fn at(path: &str) -> Resource {
    web::resource(path).default_service(web::route().to(method_not_allowed))
}

fn routes(config: &mut ServiceConfig) {
    config
        .service(at("/livez").route(web::get().to(live)))
        .service(at("/ready").route(web::get().to(loki::ready)))
        .service(at("/logs").route(web::post().to(logs::post)))
        .service(at("/v1/logs").route(web::post().to(otlp::post)))
        .service(at("/loki/api/v1/push").route(web::post().to(loki::post)));
    for path in ["", "/event", "/event/1.0"] {
        let resource = at(&format!("/services/collector{path}"));
        let resource = resource.route(web::post().to(splunk::events));
        config.service(resource.route(web::method(Method::OPTIONS).to(splunk::options)));
    }
    for path in ["/services/collector/raw", "/services/collector/raw/1.0"] {
        let resource = at(path).route(web::post().to(splunk::raw));
        config.service(resource.route(web::method(Method::OPTIONS).to(splunk::options)));
    }
    for path in ["/services/collector/health", "/services/collector/health/1.0"] {
        let resource = at(path).route(web::get().to(splunk::health));
        config.service(resource.route(web::post().to(splunk::health)));
    }
}

/// Answers while the process runs.
async fn live() -> HttpResponse {
    HttpResponse::NoContent().finish()
}

async fn no_such_path() -> HttpResponse {
    Dialect::Spillway.refuse(&Refusal::NoSuchPath)
}

async fn method_not_allowed() -> HttpResponse {
    Dialect::Spillway.refuse(&Refusal::WrongMethod)
}
