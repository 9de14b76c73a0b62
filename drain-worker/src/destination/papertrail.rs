//! Papertrail: syslog over TLS to a log destination's host and port (papertrail.com/help, "Configure remote
//! syslog"): RFC 5424, each message ends in LF. The port tells whose it is.

use destinations::{Credentials, Framing, Papertrail as Config};

use crate::encode::Encode;
use crate::encode::syslog::SyslogEncoder;
use crate::tls::{Endpoint, TlsConfigError};

/// Of bytes of a line: messages have up to 100,000 bytes ("Troubleshooting remote syslog reachability"); the
/// header takes some of them.
pub(crate) const LINE_BYTES: usize = 96 * 1024;

/// The encoder and the endpoint.
pub(crate) fn prepare(
    config: &Config,
    credentials: &Credentials,
) -> Result<(Box<dyn Encode>, Endpoint), TlsConfigError> {
    let Config { host, port, ca_certificates } = config;
    let endpoint = Endpoint::new(host, *port, host, ca_certificates.as_deref(), credentials)?;
    Ok((Box::new(SyslogEncoder::new(Framing::Lf, None)), endpoint))
}
