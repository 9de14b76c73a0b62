//! Rapid7 InsightOps, formerly Logentries: lines over TLS, each the log's token, a space, and JSON
//! (docs.rapid7.com/insightops, "Token-based input").

use destinations::{BodyFormat, Credentials, InsightOps as Config, Keys};

use crate::destination::HttpConfigError;
use crate::encode::Encode;
use crate::encode::json::JsonEncoder;
use crate::tls::Endpoint;

/// Of bytes of a line: Rapid7's own clients split at 65,536 characters (their repository `r7insight_java`);
/// what JSON adds is in it.
pub(crate) const LINE_BYTES: usize = 8 * 1024;

/// The encoder and the endpoint.
pub(crate) fn prepare(
    config: &Config,
    credentials: &Credentials,
) -> Result<(Box<dyn Encode>, Endpoint), HttpConfigError> {
    let Config { host, port, ca_certificates } = config;
    let endpoint = Endpoint::new(host, *port, host, ca_certificates.as_deref(), credentials)?;
    let token = credentials.token.as_ref().ok_or(HttpConfigError::Missing("token"))?;
    let encoder = JsonEncoder::new(BodyFormat::JsonLines, Keys::Spillway).after(token.expose());
    Ok((Box::new(encoder), endpoint))
}
