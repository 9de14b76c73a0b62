//! Where a log drain sends, and what it shows there: the rules for what a customer may write.
//!
//! The worker vets the address that a name resolves to when it dials; here only the form is checked.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::Secret;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;
use utoipa::ToSchema;

use crate::app::AppError;
use crate::app::validation::{Checks, FieldError, parse_json};

// What the transport or the batch decides (RFC 9110, section 7.6.1, and the batch's own).
const RESERVED_HEADERS: [&str; 14] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A kind of log drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Syslog (RFC 5424) over TLS over TCP (RFC 5425).
    SyslogTlsTcp,
    /// Batches of JSON in HTTPS POST requests.
    HttpsPost,
}

impl Kind {
    /// As it is kept.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::SyslogTlsTcp => "syslog_tls_tcp",
            Self::HttpsPost => "https_post",
        }
    }

    /// From how it is kept.
    pub(crate) fn from_kept(kind: &str) -> Result<Self, AppError> {
        [Self::SyslogTlsTcp, Self::HttpsPost]
            .into_iter()
            .find(|known| known.as_str() == kind)
            .ok_or_else(|| AppError::Internal(format!("a drain has the unknown kind {kind}")))
    }
}

/// A syslog endpoint, for the kind `syslog_tls_tcp`.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SyslogDestination {
    /// A host name or an IP address.
    #[schema(example = "logs.example.com")]
    host: String,
    /// A TCP port.
    #[serde(default = "syslog_port")]
    #[schema(minimum = 1, maximum = 65535)]
    port: u16,
    /// The name that the endpoint's certificate must be for; the host, if left out.
    server_name: Option<String>,
    /// The authorities to trust, in PEM; the system's, if left out.
    ca_certificates: Option<String>,
}

/// A web endpoint, for the kind `https_post`.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpsDestination {
    /// An https URL without user name, password and fragment. It is shown: secrets belong into headers.
    #[schema(example = "https://logs.example.com/ingest")]
    url: String,
    /// How lines stand in a request's body.
    #[serde(default)]
    format: BodyFormat,
    /// How a request's body is compressed.
    #[serde(default)]
    compression: Compression,
    /// The authorities to trust, in PEM; the system's, if left out.
    ca_certificates: Option<String>,
}

/// Where a drain sends.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "describes a field whose form depends on the drain's kind")]
pub(crate) enum Destination {
    /// For the kind `syslog_tls_tcp`.
    Syslog(SyslogDestination),
    /// For the kind `https_post`.
    Https(HttpsDestination),
}

/// How lines stand in a request's body.
#[derive(Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BodyFormat {
    /// One JSON object a line.
    #[default]
    JsonLines,
    /// One JSON array.
    JsonArray,
}

/// How a request's body is compressed.
#[derive(Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Compression {
    /// With gzip.
    #[default]
    Gzip,
    /// Not at all.
    None,
}

/// What a drain shows to its endpoint. Never answered.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credentials {
    /// Request headers, for the kind `https_post`.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>, write_only,
        example = json!({"Authorization": "Bearer ..."}))]
    headers: BTreeMap<String, Secret<String>>,
}

const fn syslog_port() -> u16 {
    6514
}

/// Checks a destination of a kind; answers it in the form in which it is kept.
pub(crate) fn checked(kind: Kind, destination: Value) -> Result<Value, Vec<FieldError>> {
    let mut checks = Checks::default();
    let kept = match kind {
        Kind::SyslogTlsTcp => {
            let syslog: SyslogDestination = parsed(destination)?;
            let name = "must be a host name (in its ASCII form) or an IP address";
            checks.rule(is_host(&syslog.host), "destination.host", name);
            checks.rule(syslog.port > 0, "destination.port", "must be 1 to 65535");
            let server_name = syslog.server_name.as_deref();
            checks.rule(server_name.is_none_or(is_host), "destination.server_name", name);
            check_authorities(&mut checks, syslog.ca_certificates.as_deref());
            serde_json::to_value(syslog)
        }
        Kind::HttpsPost => {
            let mut https: HttpsDestination = parsed(destination)?;
            check_authorities(&mut checks, https.ca_certificates.as_deref());
            match https_url(&https.url) {
                // As parsed, so that nobody reads it differently later.
                Ok(url) => https.url = url.into(),
                Err(detail) => checks.rule(false, "destination.url", detail),
            }
            serde_json::to_value(https)
        }
    };
    checks.into_errors()?;
    kept.map_err(|_| vec![FieldError::new("destination", "cannot be kept")])
}

/// Checks credentials for a kind; None if there is nothing in them.
pub(crate) fn checked_credentials(
    kind: Kind,
    credentials: &Credentials,
) -> Result<Option<Secret<Vec<u8>>>, Vec<FieldError>> {
    let headers = &credentials.headers;
    let mut checks = Checks::default();
    let field = "credentials.headers";
    checks.rule(
        kind == Kind::HttpsPost || headers.is_empty(),
        field,
        "are for the kind https_post only",
    );
    checks.rule(headers.len() <= 32, field, "must be at most 32");
    let mut seen = Vec::new();
    for (name, value) in headers {
        let field = format!("{field}.{name}");
        let lower = name.to_ascii_lowercase();
        checks.rule(is_token(name), &field, "is not a valid header name");
        checks.rule(
            !RESERVED_HEADERS.contains(&lower.as_str()),
            &field,
            "is set by the drain itself",
        );
        checks.rule(!seen.contains(&lower), &field, "is there twice");
        checks.rule(
            is_header_value(value.expose()),
            &field,
            "must have 1 to 8192 visible ASCII characters or spaces, with no space at either end",
        );
        seen.push(lower);
    }
    checks.into_errors()?;
    if headers.is_empty() {
        return Ok(None);
    }
    let headers: BTreeMap<&str, &str> =
        headers.iter().map(|(name, value)| (name.as_str(), value.expose().as_str())).collect();
    serde_json::to_vec(&BTreeMap::from([("headers", headers)]))
        .map(|bytes| Some(Secret::new(bytes)))
        .map_err(|_| vec![FieldError::new("credentials", "cannot be kept")])
}

/// Whether two destinations as kept lead to the same server.
pub(crate) fn same_server(one: &Value, other: &Value) -> bool {
    let origin = |destination: &Value| {
        let url = destination.get("url")?.as_str()?.parse::<Url>().ok()?;
        Some(url.origin())
    };
    origin(one) == origin(other)
}

fn parsed<T: serde::de::DeserializeOwned>(json: Value) -> Result<T, Vec<FieldError>> {
    parse_json("destination", json).map_err(|error| vec![error])
}

fn is_host(text: &str) -> bool {
    if text.parse::<IpAddr>().is_ok() {
        return true;
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A name whose last label is a number is an IPv4 address in some resolvers' eyes.
    let last_is_name =
        text.rsplit('.').next().is_some_and(|last| last.contains(|c: char| !c.is_ascii_digit()));
    text.len() <= 253 && text.split('.').all(label) && last_is_name
}

fn https_url(text: &str) -> Result<Url, &'static str> {
    if text.len() > 2048 {
        return Err("must have at most 2048 bytes");
    }
    let url = Url::parse(text).map_err(|_| "must be a URL, such as https://logs.example.com/in")?;
    if url.scheme() != "https" {
        return Err("must begin with https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must hold no user name and password: send them in the Authorization header");
    }
    if url.fragment().is_some() {
        return Err("must have no fragment (#...)");
    }
    if url.host().is_none() || url.port() == Some(0) {
        return Err("must name a host, and a port of 1 to 65535 if any");
    }
    Ok(url)
}

fn check_authorities(checks: &mut Checks, pem: Option<&str>) {
    let Some(pem) = pem else { return };
    let field = "destination.ca_certificates";
    if pem.len() > 256 * 1024 || pem.contains('\0') {
        checks.rule(false, field, "must have at most 262144 bytes and no NUL");
        return;
    }
    let mut store = RootCertStore::empty();
    let sound = CertificateDer::pem_slice_iter(pem.as_bytes())
        .all(|certificate| certificate.is_ok_and(|certificate| store.add(certificate).is_ok()));
    let detail = "must be certificates in PEM, from -----BEGIN CERTIFICATE----- to the last END";
    checks.rule(sound && !store.is_empty(), field, detail);
}

fn is_token(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}

fn is_header_value(text: &str) -> bool {
    (1..=8192).contains(&text.len())
        && text.chars().all(|c| c == ' ' || c.is_ascii_graphic())
        && text.trim() == text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn fields(kind: Kind, destination: Value) -> Vec<String> {
        let errors = checked(kind, destination).err().unwrap_or_default();
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn every_wrong_field_of_a_destination_is_named() {
        let syslog = json!({"host": "a b", "port": 0, "server_name": "-", "ca_certificates": "x"});
        assert_eq!(
            fields(Kind::SyslogTlsTcp, syslog),
            ["host", "port", "server_name", "ca_certificates"]
                .map(|field| format!("destination.{field}"))
        );
        let too_big = json!({"host": "a", "port": 65536});
        assert_eq!(fields(Kind::SyslogTlsTcp, too_big), ["destination.port"]);
        assert_eq!(fields(Kind::HttpsPost, json!({"host": "a"})).len(), 1);
        for url in
            ["http://a/", "https://u@a/", "https://u:p@a/", "https://a/#b", "a", "https://a:0/"]
        {
            assert_eq!(fields(Kind::HttpsPost, json!({"url": url})), ["destination.url"], "{url}");
        }
    }

    #[test]
    fn a_destination_is_kept_with_its_defaults() {
        let https = checked(Kind::HttpsPost, json!({"url": "https://A.example.com:443/x"}));
        let expected = json!({
            "url": "https://a.example.com/x", "format": "json_lines", "compression": "gzip",
            "ca_certificates": null
        });
        assert_eq!(https, Ok(expected));
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        for good in ["a", "logs.example.com", "192.0.2.1", "2001:db8::1", "xn--bcher-kva.example"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", ".", "a..b", "a.", "127.1", "a/b", "a:1", "[::1]", "bücher", "a\n"] {
            assert!(!is_host(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn accepted_headers_cannot_break_a_request(name in "\\PC{0,20}", value in ".{0,40}") {
            let headers = BTreeMap::from([(name.clone(), Secret::new(value.clone()))]);
            if checked_credentials(Kind::HttpsPost, &Credentials { headers }).is_ok() {
                prop_assert!(!name.contains([':', '\r', '\n', ' ']) && !name.is_empty());
                prop_assert!(!value.contains(['\r', '\n', '\0']));
            }
        }
    }

    #[test]
    fn headers_that_frame_the_request_are_refused() {
        for name in ["Host", "content-length", "Transfer-Encoding", "Connection", "Content-Type"] {
            let headers = BTreeMap::from([(name.to_owned(), Secret::new("x".to_owned()))]);
            assert!(checked_credentials(Kind::HttpsPost, &Credentials { headers }).is_err());
        }
    }
}
