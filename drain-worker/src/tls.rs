//! TLS to endpoints: 1.2 and later, the endpoint's certificate always checked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use destinations::Credentials;
use model::Timestamp;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::egress::Egress;
use crate::trace::{Peer, Step, Trace};

const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsConfigError {
    #[error("`ca_certificates` cannot be used: {0}")]
    Certificates(String),
    #[error("the system has no certificate authorities: install them, or set `ca_certificates`")]
    NoSystemRoots,
    #[error("`{0}` is no name that a certificate can have")]
    Name(String),
    #[error("the credentials `client_certificate` and `client_key` cannot be used: {0}")]
    Identity(String),
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
}

/// An endpoint that is spoken to over TLS.
#[derive(Clone)]
pub(crate) struct Endpoint {
    host: String,
    port: u16,
    server_name: ServerName<'static>,
    connector: TlsConnector,
    identity: Arc<Identity>,
}

/// Who an endpoint that asks is told that this is.
#[derive(Debug)]
struct Identity {
    certificate: Option<Arc<CertifiedKey>>,
    /// The endpoint has asked.
    asked: AtomicBool,
}

impl Identity {
    fn new(credentials: &Credentials, provider: &CryptoProvider) -> Result<Self, TlsConfigError> {
        let asked = AtomicBool::new(false);
        let (Some(certificate), Some(key)) =
            (&credentials.client_certificate, &credentials.client_key)
        else {
            return Ok(Self { certificate: None, asked });
        };
        let unusable = |error: &dyn std::fmt::Display| TlsConfigError::Identity(error.to_string());
        let chain = CertificateDer::pem_slice_iter(certificate.expose().as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unusable(&error))?;
        let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
            .map_err(|_| unusable(&"the key is not in PEM form"))?;
        let certified =
            CertifiedKey::from_der(chain, key, provider).map_err(|error| unusable(&error))?;
        Ok(Self { certificate: Some(certified.into()), asked })
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.certificate.clone()
    }

    fn has_certs(&self) -> bool {
        self.certificate.is_some()
    }
}

impl Endpoint {
    /// `host` is dialled, and its certificate must be for `server_name`, by one of the authorities
    /// in `ca_certificates` or else by one that the system trusts. It is shown the credentials' client
    /// certificate, if there is one.
    pub(crate) fn new(
        host: &str,
        port: u16,
        server_name: &str,
        ca_certificates: Option<&str>,
        credentials: &Credentials,
    ) -> Result<Self, TlsConfigError> {
        let name = server_name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let server_name = ServerName::try_from(name.unwrap_or(server_name).to_owned())
            .map_err(|_| TlsConfigError::Name(server_name.to_owned()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let identity = Arc::new(Identity::new(credentials, &provider)?);
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_root_certificates(roots(ca_certificates)?)
            .with_client_cert_resolver(identity.clone());
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Self { host: host.to_owned(), port, server_name, connector, identity })
    }

    /// Resolves, vets, dials, and shakes hands.
    pub(crate) async fn connect(
        &self,
        egress: &Egress,
        trace: &mut Trace,
    ) -> Result<TlsStream<TcpStream>, String> {
        let addresses = trace
            .step(Step::Resolve, egress.resolve(&self.host, self.port), |addresses| {
                let list: Vec<_> = addresses.iter().map(|to| to.ip().to_string()).collect();
                format!("{} is {}", self.host, list.join(", "))
            })
            .await?;
        let stream = trace
            .step(Step::Connect, Egress::dial(&addresses), |stream| {
                stream.peer_addr().map_or_else(|_| "connected".to_owned(), |to| to.to_string())
            })
            .await?;
        let mut connected = None;
        let stream = trace
            .step(Step::Tls, self.handshake(stream), |stream| {
                let peer = connected.insert(peer(stream));
                let name = self.server_name.to_str();
                let expires = peer.certificate_expires_at.as_deref().unwrap_or("unknown");
                format!("{}, certificate for {name} until {expires}", peer.tls_version)
            })
            .await?;
        trace.peer = connected;
        Ok(stream)
    }

    async fn handshake(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
        let name = self.server_name.to_str();
        // Lines are written in large pieces; waiting for more would only delay them.
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let connect = self.connector.connect(self.server_name.clone(), stream);
        let error = match timeout(HANDSHAKE_DEADLINE, connect).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error,
            Err(_) => return Err(format!("no TLS handshake within {HANDSHAKE_DEADLINE:?}")),
        };
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        Err(match cause {
            Some(rustls::Error::InvalidCertificate(cause)) => match cause {
                // A bad signature: another authority of the same name.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    "the endpoint's certificate is not signed by \
                    an authority that this drain trusts: set `ca_certificates` to the one that \
                    signs it"
                        .to_owned()
                }
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => {
                    format!("the endpoint's certificate is not for the name {name}")
                }
                cause => format!("the endpoint's certificate is not valid: {cause}"),
            },
            _ => self.explain(format!("the TLS handshake failed: {error}")),
        })
    }

    /// Adds to why a new connection ended what that may be about: whom the endpoint does not let in it
    /// tells by an alert after the handshake (RFC 8446, section 4.4.2.4), or not at all.
    pub(crate) fn explain(&self, reason: String) -> String {
        if !self.asks_for_a_certificate() {
            return reason;
        }
        let about = if self.identity.certificate.is_some() {
            "it may not accept the drain's `client_certificate`"
        } else {
            "it asks for a client certificate and was shown none: set the credentials \
             `client_certificate` and `client_key`"
        };
        format!("{reason}; {about}")
    }

    /// Whether the endpoint has asked for a client certificate.
    pub(crate) fn asks_for_a_certificate(&self) -> bool {
        self.identity.asked.load(Ordering::Relaxed)
    }
}

/// What TLS itself says, if an error comes from it.
pub(crate) fn cause_of<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a rustls::Error> {
    let chain = std::iter::successors(Some(error), |error| error.source());
    let mut io = chain.filter_map(|error| error.downcast_ref::<std::io::Error>());
    io.find_map(|error| error.get_ref()?.downcast_ref())
}

fn peer(stream: &TlsStream<TcpStream>) -> Peer {
    let (tcp, connection) = stream.get_ref();
    let version = connection.protocol_version().and_then(|version| version.as_str());
    let expires = connection.peer_certificates().and_then(<[_]>::first).and_then(|certificate| {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        certificate.validity().not_after.to_datetime().format(&Rfc3339).ok()
    });
    Peer {
        address: tcp.peer_addr().map(|address| address.to_string()).unwrap_or_default(),
        tls_version: version.unwrap_or("TLS").replace("TLSv1_", "TLSv1."),
        certificate_expires_at: expires,
        since: Timestamp::now().date_time().format(&Rfc3339).unwrap_or_default(),
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({}:{})", self.host, self.port)
    }
}

/// The authorities that the system trusts, once for all drains: they are some hundred KiB.
fn system_roots() -> Result<Arc<RootCertStore>, TlsConfigError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(roots.clone());
    }
    let mut roots = RootCertStore::empty();
    // Some of a system's certificates may be unusable; those that are not are enough.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(TlsConfigError::NoSystemRoots);
    }
    Ok(ROOTS.get_or_init(|| Arc::new(roots)).clone())
}

fn roots(ca_certificates: Option<&str>) -> Result<Arc<RootCertStore>, TlsConfigError> {
    let Some(pem) = ca_certificates else { return system_roots() };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate =
            certificate.map_err(|error| TlsConfigError::Certificates(error.to_string()))?;
        roots.add(certificate).map_err(|error| TlsConfigError::Certificates(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(TlsConfigError::Certificates("no certificate in PEM form in it".to_owned()));
    }
    Ok(Arc::new(roots))
}
