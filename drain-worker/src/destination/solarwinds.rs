//! SolarWinds Observability, Papertrail's successor: syslog over TLS (documentation.solarwinds.com, "Send logs
//! using syslog (Papertrail)"): RFC 5424, each message ends in LF; the ingestion token is a structured data
//! element `TOKEN@41058`.

use destinations::{Credentials, Framing, SolarWinds as Config, TokenPlace};

use crate::destination::HttpConfigError;
use crate::encode::Encode;
use crate::encode::syslog::SyslogEncoder;
use crate::tls::Endpoint;

/// Of bytes of a line. What it takes is not documented, so what Papertrail does.
pub(crate) const LINE_BYTES: usize = super::papertrail::LINE_BYTES;

/// The encoder and the endpoint.
pub(crate) fn prepare(
    config: &Config,
    credentials: &Credentials,
) -> Result<(Box<dyn Encode>, Endpoint), HttpConfigError> {
    let Config { host, port, ca_certificates } = config;
    let endpoint = Endpoint::new(host, *port, host, ca_certificates.as_deref(), credentials)?;
    let token = credentials.token.as_ref().ok_or(HttpConfigError::Missing("token"))?;
    let element = format!("{}@41058", token.expose());
    let encoder = SyslogEncoder::new(Framing::Lf, Some((&element, TokenPlace::StructuredData)));
    Ok((Box::new(encoder), endpoint))
}
