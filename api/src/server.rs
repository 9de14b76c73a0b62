//! The API as a service: starts, listens, stops.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use actix_web::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use actix_web::middleware::{DefaultHeaders, from_fn};
use actix_web::{App as Server, HttpServer, web};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use service::Shutdown;
use store::{Store, StoreError};

use crate::app::{App, AppStartError};
use crate::http::request::{BODY_LIMIT, TrustForwardedFor};
use crate::http::{self, problem, trace};
use crate::{Config, Settings};

/// The API cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Passwords would cross a network in plain text.
    #[error(
        "--api-listen {0} is not a loopback address and there is no TLS: give \
         --api-tls-certificate and --api-tls-key, or --api-allow-plain-http behind a TLS proxy"
    )]
    PlainHttp(SocketAddr),
    /// The address cannot be listened on.
    #[error("--api-listen {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// A key is missing or wrong.
    #[error("{0}")]
    Keys(String),
    /// The certificate or its key cannot be used.
    #[error("{}: {detail}", file.display())]
    Tls {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The database does not answer.
    #[error("--api-database-url: {0}; check that PostgreSQL runs there and takes this role")]
    Database(String),
}

impl From<AppStartError> for StartError {
    fn from(error: AppStartError) -> Self {
        Self::Keys(error.to_string())
    }
}

/// The API stopped otherwise than by a request.
#[derive(Debug, thiserror::Error)]
#[error("the API's server failed: {0}")]
pub struct RunError(#[from] io::Error);

/// The API, listening but not yet serving.
pub struct Bound {
    app: web::Data<App>,
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<ServerConfig>,
    trust_forwarded_for: TrustForwardedFor,
}

/// Reads the keys, connects to the database and listens.
pub async fn bind(config: Config) -> Result<Bound, StartError> {
    let Settings { api_listen, api_allow_plain_http, api_trust_forwarded_for, .. } =
        config.settings;
    let tls = tls(&config.settings)?;
    if tls.is_none() && !api_listen.ip().is_loopback() && !api_allow_plain_http {
        return Err(StartError::PlainHttp(api_listen));
    }
    let database = |error: StoreError| StartError::Database(error.to_string());
    let store = Store::connect(
        config.connections.api_database_url.expose(),
        config.settings.api_database_connections,
    )
    .map_err(database)?;
    store.ping().await.map_err(database)?;
    let app = App::new(&config, store)?;
    let listen = |error| StartError::Listen { address: api_listen, error };
    let listener = TcpListener::bind(api_listen).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    Ok(Bound {
        app: web::Data::new(app),
        listener,
        address,
        tls,
        trust_forwarded_for: TrustForwardedFor(api_trust_forwarded_for),
    })
}

impl Bound {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the shutdown is requested, then finishes the requests it has.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), RunError> {
        let Self { app, listener, address, tls, trust_forwarded_for } = self;
        let shared = app.clone();
        let stop = web::Data::new(shutdown.clone());
        let server = HttpServer::new(move || {
            Server::new()
                .app_data(shared.clone())
                .app_data(stop.clone())
                .app_data(trust_forwarded_for)
                .app_data(web::PayloadConfig::new(BODY_LIMIT))
                .app_data(web::PathConfig::default().error_handler(|_, _| {
                    // An id that cannot be one is an unknown id.
                    problem::Problem::not_found().into()
                }))
                .configure(http::routes)
                .default_service(web::route().to(problem::no_such_path))
                .wrap(from_fn(trace::request))
                .wrap(
                    DefaultHeaders::new()
                        .add((CACHE_CONTROL, "no-store"))
                        .add((X_CONTENT_TYPE_OPTIONS, "nosniff")),
                )
        })
        .workers(2)
        // Who follows logs and goes is noticed at once, and not when something is next to be sent.
        .h1_allow_half_closed(false)
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
        tracing::info!(%address, scheme, "the API is listening");
        server.await?;
        // A server that stops by itself takes its watcher with it.
        shutdown.request();
        app.close().await;
        Ok(())
    }
}

fn tls(settings: &Settings) -> Result<Option<ServerConfig>, StartError> {
    let (Some(certificate), Some(key)) = (&settings.api_tls_certificate, &settings.api_tls_key)
    else {
        return Ok(None);
    };
    service::install_crypto_provider();
    let wrong = |file: &Path, detail: String| StartError::Tls { file: file.to_owned(), detail };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(certificate, error.to_string()))?;
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error.to_string()))?;
    ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map(Some)
        .map_err(|error| wrong(certificate, error.to_string()))
}
