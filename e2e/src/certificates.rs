//! Certificates that no system trusts: an authority and servers it vouches for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientCertVerifierBuilder, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Issues server certificates.
pub struct CertificateAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A server's certificate and key, as PEM.
#[derive(Debug, Clone)]
pub struct ServerCertificate {
    /// The authority's certificate.
    pub authority: String,
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl CertificateAuthority {
    /// Makes a new authority.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Spillway test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    /// The authority's certificate, as PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for a server with these DNS names and addresses.
    pub fn issue(&self, names: &[&str]) -> Result<ServerCertificate> {
        self.sign(CertificateParams::new(owned(names))?)
    }

    /// A certificate that ended in the year 2020.
    pub fn issue_expired(&self, names: &[&str]) -> Result<ServerCertificate> {
        let mut params = CertificateParams::new(owned(names))?;
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> Result<ServerCertificate> {
        params.distinguished_name.push(DnType::CommonName, "Spillway test server");
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(ServerCertificate {
            authority: self.pem(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

impl std::fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CertificateAuthority")
    }
}

impl ServerCertificate {
    /// A certificate for `localhost` and 127.0.0.1 from an authority of its own.
    pub fn for_localhost() -> Result<Self> {
        CertificateAuthority::new()?.issue(&["localhost", "127.0.0.1"])
    }

    /// Writes `ca.pem`, `server.pem` and `server.key` into the folder and gives their paths.
    pub fn write_to(&self, folder: &Path) -> Result<[PathBuf; 3]> {
        let paths = [folder.join("ca.pem"), folder.join("server.pem"), folder.join("server.key")];
        for (path, text) in paths.iter().zip([&self.authority, &self.certificate, &self.key]) {
            std::fs::write(path, text)?;
        }
        Ok(paths)
    }

    /// Reads what [`Self::write_to`] has written.
    pub fn read_from(folder: &Path) -> Result<Self> {
        let read = |name: &str| std::fs::read_to_string(folder.join(name));
        Ok(Self {
            authority: read("ca.pem")?,
            certificate: read("server.pem")?,
            key: read("server.key")?,
        })
    }

    /// A TLS server's configuration without client certificates.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>> {
        self.config(WebPkiClientVerifier::no_client_auth())
    }

    /// A TLS server's configuration that wants client certificates of this authority.
    pub fn server_config_for_clients_of(&self, authority: &str) -> Result<Arc<ServerConfig>> {
        self.config(client_verifier(authority)?.build()?)
    }

    /// A TLS server's configuration that asks for such client certificates, and does without.
    pub fn server_config_asking_for_clients_of(
        &self,
        authority: &str,
    ) -> Result<Arc<ServerConfig>> {
        self.config(client_verifier(authority)?.allow_unauthenticated().build()?)
    }

    fn config(&self, clients: Arc<dyn ClientCertVerifier>) -> Result<Arc<ServerConfig>> {
        let certificates = CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(certificates, key)?;
        Ok(Arc::new(config))
    }
}

fn client_verifier(authority: &str) -> Result<ClientCertVerifierBuilder> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(WebPkiClientVerifier::builder_with_provider(roots.into(), provider))
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}
