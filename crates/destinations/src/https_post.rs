//! Batches in HTTPS POST requests.

use model::validation::Checks;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Configuration, Server, rules};

/// A web server, for the kind `https_post`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpsPost {
    /// An https URL without user name, password and fragment. It is shown: secrets belong into the
    /// credentials.
    #[schema(example = "https://logs.example.com/ingest")]
    pub url: String,
    /// How lines stand in a request's body.
    #[serde(default)]
    pub format: BodyFormat,
    /// What the fields of JSON lines are called.
    #[serde(default)]
    pub keys: Keys,
    /// How a request's body is compressed.
    #[serde(default)]
    pub compression: Compression,
    /// The authorities to trust, in PEM; the system's, if left out.
    pub ca_certificates: Option<String>,
}

/// How lines stand in a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BodyFormat {
    /// One JSON object a line (`application/x-ndjson`).
    #[default]
    JsonLines,
    /// One JSON array (`application/json`).
    JsonArray,
    /// Heroku's framing of syslog messages (`application/logplex-1`), as its HTTPS drains send it.
    Logplex,
}

/// What the fields of JSON lines are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keys {
    /// As everywhere in Spillway.
    #[default]
    Spillway,
    /// As in the JSON of Aptible's HTTPS drains: `@timestamp`, `log`, `stream`, `time`, `offset`,
    /// `layer`, `service`, `app`, `app_id`, `source`, `host`, `container`, all of them text; and
    /// Spillway's others.
    Aptible,
}

/// How a request's body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// With gzip.
    #[default]
    Gzip,
    /// With zstd (RFC 8878).
    Zstd,
    /// Not at all.
    None,
}

impl Configuration for HttpsPost {
    fn check(&mut self, checks: &mut Checks) {
        rules::authorities(checks, self.ca_certificates.as_deref());
        rules::url(checks, "destination.url", &mut self.url);
        let detail = "are for the formats json_lines and json_array only";
        let has_keys = self.format != BodyFormat::Logplex || self.keys == Keys::Spillway;
        checks.rule(has_keys, "destination.keys", detail);
        let packs = self.format != BodyFormat::Logplex || self.compression == Compression::None;
        let detail = "must be none for the format logplex, which its receivers take as it is";
        checks.rule(packs, "destination.compression", detail);
    }

    fn server(&self) -> Server {
        Server::of_url(&self.url)
    }
}
