//! A customer's own web server.
//!
//! Each batch has a `Spillway-Batch-Id`, which stays the same when it is sent again. With a signing
//! secret, requests are signed.

use bytes::Bytes;
use destinations::{BodyFormat, Credentials, HttpsPost as Config};
use hyper::header::HeaderName;
use model::{Drain, Id};
use serde_json::Value;
use url::Url;

use super::http::{HttpClient, HttpConfigError, Post, Posting, json_line, json_list};
use crate::batch::Batch;
use crate::egress::Egress;
use crate::encode::Encode;
use crate::encode::json::JsonEncoder;
use crate::encode::logplex::LogplexEncoder;
use crate::signing::Signer;

/// By which a receiver tells drains apart, where the URL does not.
const DRAIN_TOKEN: HeaderName = HeaderName::from_static("logplex-drain-token");

pub(crate) struct HttpsPost {
    format: BodyFormat,
    signing: Option<Signer>,
}

/// The encoder and the destination.
pub(crate) fn prepare(
    config: &Config,
    credentials: &Credentials,
    drain: Id<Drain>,
    egress: Egress,
) -> Result<(Box<dyn Encode>, Posting<HttpsPost>), HttpConfigError> {
    let url = Url::parse(&config.url).map_err(|_| HttpConfigError::Url)?;
    let mut client = HttpClient::new(&url, config.ca_certificates.as_deref(), credentials, egress)?;
    for (name, value) in &credentials.headers {
        client.secret_header(name, value)?;
    }
    client.basic_or_token(credentials, "Bearer")?;
    let compression = config.compression;
    let (content_type, encoder): (_, Box<dyn Encode>) = match config.format {
        BodyFormat::JsonLines => {
            ("application/x-ndjson", Box::new(JsonEncoder::new(config.format, config.keys)))
        }
        BodyFormat::JsonArray => {
            ("application/json", Box::new(JsonEncoder::new(config.format, config.keys)))
        }
        BodyFormat::Logplex => {
            client.header(DRAIN_TOKEN, &format!("d.{drain}"))?;
            ("application/logplex-1", Box::new(LogplexEncoder::new()))
        }
    };
    let signing = Signer::of(credentials, &mut client)?;
    let kind = HttpsPost { format: config.format, signing };
    Ok((encoder, Posting::new(client, &url, content_type, compression, kind)?))
}

impl Post for HttpsPost {
    fn body(&self, batch: &Batch) -> Bytes {
        match self.format {
            BodyFormat::JsonArray => json_list("[", batch, "]"),
            BodyFormat::JsonLines | BodyFormat::Logplex => batch.bytes().clone(),
        }
    }

    fn headers(&self, batch: &Batch, body: &[u8]) -> Vec<(&'static str, String)> {
        let id = batch.id();
        let mut headers = vec![("spillway-batch-id", id.clone())];
        if self.format == BodyFormat::Logplex {
            headers.push(("logplex-msg-count", batch.lines().to_string()));
            headers.push(("logplex-frame-id", id.to_ascii_uppercase()));
        }
        headers.extend(self.signing.iter().flat_map(|signing| signing.headers(&id, body)));
        headers
    }

    fn rejected(&self, line: &[u8]) -> Value {
        match self.format {
            BodyFormat::JsonLines | BodyFormat::JsonArray => json_line(line, "/id"),
            BodyFormat::Logplex => {
                let text = String::from_utf8_lossy(line);
                let id = text.split(' ').find_map(|word| word.strip_prefix("id="));
                serde_json::json!({ "id": id, "message": text })
            }
        }
    }
}
