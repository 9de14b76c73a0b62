//! What a drain shows to its endpoint.

use std::collections::BTreeMap;

use model::Secret;
use model::validation::{Checks, FieldError};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{Kind, rules};

// What the transport or the batch decides (RFC 9110, section 7.6.1, and the batch's own).
const RESERVED_HEADERS: [&str; 18] = [
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
    "spillway-batch-id",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];

/// What a drain shows to its endpoint, as its kind wants it; the drain's kind says which. Never
/// answered.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Headers of each request, for the kinds `https_post`, `otlp_http` and `webhook`.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>, write_only,
        example = json!({"Authorization": "Bearer ..."}))]
    pub headers: BTreeMap<String, Secret<String>>,
    /// The vendor's key or token. `https_post`, `loki` and `webhook` send it as `Authorization: Bearer`,
    /// `elasticsearch` as `Authorization: ApiKey` (the API key as Elasticsearch encodes it).
    #[schema(value_type = Option<String>, write_only)]
    pub token: Option<Secret<String>>,
    /// The user name of HTTP's basic authentication.
    #[schema(value_type = Option<String>, write_only)]
    pub username: Option<Secret<String>>,
    /// The password of HTTP's basic authentication.
    #[schema(value_type = Option<String>, write_only)]
    pub password: Option<Secret<String>>,
    /// The secret with which requests are signed (Standard Webhooks): `whsec_` and 24 to 64 bytes in
    /// base64.
    #[schema(value_type = Option<String>, write_only)]
    pub signing_secret: Option<Secret<String>>,
    /// A client certificate for TLS, in PEM, with its chain.
    #[schema(value_type = Option<String>, write_only)]
    pub client_certificate: Option<Secret<String>>,
    /// Its private key, in PEM.
    #[schema(value_type = Option<String>, write_only)]
    pub client_key: Option<Secret<String>>,
    /// An https URL that is itself a secret.
    #[schema(value_type = Option<String>, write_only)]
    pub url: Option<Secret<String>>,
    /// The id of an access key to a bucket.
    #[schema(value_type = Option<String>, write_only)]
    pub access_key_id: Option<Secret<String>>,
    /// The access key itself, with which requests are signed.
    #[schema(value_type = Option<String>, write_only)]
    pub secret_access_key: Option<Secret<String>>,
    /// The token that goes with a temporary access key.
    #[schema(value_type = Option<String>, write_only)]
    pub session_token: Option<Secret<String>>,
}

/// Whether a kind takes a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// It may be there.
    Optional,
    /// It must be there.
    Required,
}

impl Credentials {
    /// Checks them for a kind; answers them in the form in which they are sealed, or None if there is
    /// nothing in them.
    pub fn checked(&self, kind: Kind) -> Result<Option<Secret<Vec<u8>>>, Vec<FieldError>> {
        let mut checks = Checks::default();
        for (name, is_there) in self.names() {
            let wanted = kind.wanted().iter().find(|(known, _)| *known == name);
            let field = format!("credentials.{name}");
            let none = format!("is nothing that the kind {} takes", kind.as_str());
            checks.rule(wanted.is_some() || !is_there, &field, &none);
            let needs = wanted.is_some_and(|(_, wanted)| *wanted == Wanted::Required);
            checks.rule(is_there || !needs, &field, "is missing");
        }
        self.check_headers(&mut checks);
        self.check_identity(&mut checks);
        let visible = "must have 1 to 8192 visible ASCII characters";
        for (name, secret) in self.texts() {
            let Some(secret) = secret.filter(|_| !name.starts_with("client_")) else { continue };
            let text = secret.expose();
            let fits = match name {
                "password" => (1..=8192).contains(&text.len()) && !text.contains('\0'),
                "username" => rules::is_header_value(text) && !text.contains(':'),
                // An element of structured data may have parameters.
                "token" if kind == Kind::SyslogTlsTcp => rules::is_header_value(text),
                _ => rules::is_header_value(text) && !text.contains(' '),
            };
            checks.rule(fits, &format!("credentials.{name}"), visible);
        }
        let in_data = matches!(kind, Kind::SyslogTlsTcp | Kind::SolarWinds);
        let brackets = self.token.as_ref().is_some_and(|it| it.expose().contains(['[', ']']));
        checks.rule(!(in_data && brackets), "credentials.token", "must have no brackets");
        let (token, user) = (self.token.is_some(), self.username.is_some());
        checks.rule(
            user == self.password.is_some(),
            "credentials.password",
            "and username go together",
        );
        checks.rule(!(token && user), "credentials.token", "and username exclude each other");
        if let Some(secret) = &self.signing_secret {
            crate::check_signing_secret(&mut checks, "credentials.signing_secret", secret);
        }
        if let Some(url) = &self.url {
            let detail = rules::https_url(url.expose()).err();
            checks.rule(detail.is_none(), "credentials.url", detail.unwrap_or_default());
        }
        checks.finish()?;
        Ok(self.sealable())
    }

    fn check_headers(&self, checks: &mut Checks) {
        let headers = &self.headers;
        let field = "credentials.headers";
        checks.rule(headers.len() <= 32, field, "must be at most 32");
        let mut seen = Vec::new();
        for (name, value) in headers {
            let field = format!("{field}.{name}");
            let lower = name.to_ascii_lowercase();
            checks.rule(rules::is_header_name(name), &field, "is not a valid header name");
            checks.rule(
                !RESERVED_HEADERS.contains(&lower.as_str()),
                &field,
                "is set by the drain itself",
            );
            checks.rule(!seen.contains(&lower), &field, "is there twice");
            checks.rule(
                rules::is_header_value(value.expose()),
                &field,
                "must have 1 to 8192 visible ASCII characters or spaces, with no space at either end",
            );
            checks.rule(
                lower != "authorization" || (self.token.is_none() && self.username.is_none()),
                &field,
                "excludes token and username",
            );
            seen.push(lower);
        }
    }

    fn check_identity(&self, checks: &mut Checks) {
        let (certificate, key) = match (&self.client_certificate, &self.client_key) {
            (None, None) => return,
            (Some(certificate), Some(key)) => (certificate.expose(), key.expose()),
            _ => {
                let detail = "and client_certificate go together";
                return checks.rule(false, "credentials.client_key", detail);
            }
        };
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty() && certificate.len() <= 64 * 1024);
        let key =
            PrivateKeyDer::from_pem_slice(key.as_bytes()).ok().filter(|_| key.len() <= 64 * 1024);
        let (field, detail) = match (chain, key) {
            (None, _) => ("certificate", "must be certificates in PEM, at most 65536 bytes"),
            (_, None) => ("key", "must be a private key in PEM"),
            (Some(chain), Some(key)) => {
                let provider = rustls::crypto::aws_lc_rs::default_provider();
                if CertifiedKey::from_der(chain, key, &provider).is_ok() {
                    return;
                }
                ("key", "must be the certificate's, of a kind that TLS knows")
            }
        };
        checks.rule(false, &format!("credentials.client_{field}"), detail);
    }

    fn texts(&self) -> [(&'static str, Option<&Secret<String>>); 10] {
        [
            ("token", self.token.as_ref()),
            ("username", self.username.as_ref()),
            ("password", self.password.as_ref()),
            ("signing_secret", self.signing_secret.as_ref()),
            ("url", self.url.as_ref()),
            ("client_certificate", self.client_certificate.as_ref()),
            ("client_key", self.client_key.as_ref()),
            ("access_key_id", self.access_key_id.as_ref()),
            ("secret_access_key", self.secret_access_key.as_ref()),
            ("session_token", self.session_token.as_ref()),
        ]
    }

    fn names(&self) -> Vec<(&'static str, bool)> {
        let texts = self.texts().map(|(name, secret)| (name, secret.is_some()));
        [("headers", !self.headers.is_empty())].into_iter().chain(texts).collect()
    }

    fn sealable(&self) -> Option<Secret<Vec<u8>>> {
        let mut kept = Map::new();
        if !self.headers.is_empty() {
            let headers = self.headers.iter();
            let headers: Map<_, _> = headers
                .map(|(name, value)| (name.clone(), value.expose().as_str().into()))
                .collect();
            kept.insert("headers".to_owned(), headers.into());
        }
        for (name, secret) in self.texts() {
            if let Some(secret) = secret {
                kept.insert(name.to_owned(), secret.expose().as_str().into());
            }
        }
        (!kept.is_empty()).then(|| Secret::new(Value::Object(kept).to_string().into_bytes()))
    }
}
