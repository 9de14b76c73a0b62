//! The server's certificate.

use std::path::Path;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::HttpStartError;
use crate::Settings;

/// TLS as the settings want it; none, if they have no certificate.
pub(super) fn config(settings: &Settings) -> Result<Option<ServerConfig>, HttpStartError> {
    let (Some(certificate), Some(key)) =
        (&settings.intake_http_tls_certificate, &settings.intake_http_tls_key)
    else {
        return Ok(None);
    };
    service::install_crypto_provider();
    let wrong = |file: &Path, detail: String| HttpStartError::Tls { file: file.to_owned(), detail };
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
