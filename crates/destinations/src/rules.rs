//! Rules that several kinds share.

use std::net::IpAddr;

use model::validation::Checks;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use url::Url;

const HOST: &str = "must be a host name (in its ASCII form) or an IP address";

/// Checks a host that is dialled.
pub(crate) fn host(checks: &mut Checks, field: &str, host: &str) {
    checks.rule(is_host(host), field, HOST);
}

/// Checks a TCP port.
pub(crate) fn port(checks: &mut Checks, field: &str, port: u16) {
    checks.rule(port > 0, field, "must be 1 to 65535");
}

/// Checks an https URL and keeps it as it was parsed, so that nobody reads it differently later.
pub(crate) fn url(checks: &mut Checks, field: &str, text: &mut String) {
    match https_url(text) {
        Ok(url) => *text = url.into(),
        Err(detail) => checks.rule(false, field, detail),
    }
}

/// As [`url`], where there may be none.
pub(crate) fn optional_url(checks: &mut Checks, field: &str, text: &mut Option<String>) {
    if let Some(text) = text {
        url(checks, field, text);
    }
}

/// As [`url`], for the address of a server, to which paths are added.
pub(crate) fn base_url(checks: &mut Checks, field: &str, text: &mut String) {
    url(checks, field, text);
    checks.rule(!text.contains('?'), field, "must have no query (?...)");
    let length = text.trim_end_matches('/').len();
    text.truncate(length);
}

/// Checks the authorities of `ca_certificates`.
pub(crate) fn authorities(checks: &mut Checks, pem: Option<&str>) {
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

/// Checks a short text of the customer's that an endpoint keeps, such as an index's name.
pub(crate) fn name(checks: &mut Checks, field: &str, text: Option<&str>) {
    let Some(text) = text else { return };
    checks.text(text, field, 200);
}

/// Whether a text may stand as a header's value.
pub(crate) fn is_header_value(text: &str) -> bool {
    (1..=8192).contains(&text.len())
        && text.chars().all(|c| c == ' ' || c.is_ascii_graphic())
        && text.trim() == text
}

/// Whether a text may stand as a header's name.
pub(crate) fn is_header_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
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

pub(crate) fn https_url(text: &str) -> Result<Url, &'static str> {
    if text.len() > 2048 {
        return Err("must have at most 2048 bytes");
    }
    let url = Url::parse(text).map_err(|_| "must be a URL, such as https://logs.example.com/in")?;
    if url.scheme() != "https" {
        return Err("must begin with https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must hold no user name and password: they belong into the credentials");
    }
    if url.fragment().is_some() {
        return Err("must have no fragment (#...)");
    }
    if url.host().is_none() || url.port() == Some(0) {
        return Err("must name a host, and a port of 1 to 65535 if any");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        for good in ["a", "logs.example.com", "192.0.2.1", "2001:db8::1", "xn--bcher-kva.example"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", ".", "a..b", "a.", "127.1", "a/b", "a:1", "[::1]", "bücher", "a\n"] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}
