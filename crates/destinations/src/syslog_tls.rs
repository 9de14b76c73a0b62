//! Syslog over TLS.

use model::validation::Checks;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Configuration, Server, rules};

/// A syslog receiver over TLS (RFC 5425), for the kind `syslog_tls_tcp`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SyslogTls {
    /// A host name or an IP address.
    #[schema(example = "logs.example.com")]
    pub host: String,
    /// A TCP port.
    #[serde(default = "port")]
    #[schema(minimum = 1, maximum = 65535)]
    pub port: u16,
    /// The name that the receiver's certificate must be for; the host, if left out.
    pub server_name: Option<String>,
    /// The authorities to trust, in PEM; the system's, if left out.
    pub ca_certificates: Option<String>,
    /// How messages are told apart.
    #[serde(default)]
    pub framing: Framing,
    /// Where the credential `token` goes, if there is one.
    #[serde(default)]
    pub token: TokenPlace,
}

/// How messages are told apart in a stream (RFC 6587, section 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// Each begins with its length: any text can be in it.
    #[default]
    OctetCounting,
    /// Each ends with LF; an LF in a message becomes a space.
    Lf,
}

/// Where a token stands in each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenPlace {
    /// Before the message's text, with a space between (Rapid7 InsightOps).
    #[default]
    Prefix,
    /// As an element of the structured data whose whole text the token is, such as `[TOKEN@41058]`
    /// (SolarWinds, Sumo Logic); the text of the credential is what stands between the brackets.
    StructuredData,
}

const fn port() -> u16 {
    6514
}

impl Configuration for SyslogTls {
    fn check(&mut self, checks: &mut Checks) {
        rules::host(checks, "destination.host", &self.host);
        rules::port(checks, "destination.port", self.port);
        if let Some(name) = &self.server_name {
            rules::host(checks, "destination.server_name", name);
        }
        rules::authorities(checks, self.ca_certificates.as_deref());
    }

    fn server(&self) -> Server {
        Server::of(&self.host, self.port)
    }
}
