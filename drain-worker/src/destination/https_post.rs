//! A customer's own web server.
//!
//! Each batch has a `Spillway-Batch-Id`, which stays the same when it is sent again. With a signing
//! secret, requests are signed as Standard Webhooks 1.0 says, over the body after its compression.

use destinations::{BodyFormat, Compression, Credentials, HttpsPost as Config};
use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value;
use url::Url;

use super::http::{HttpClient, HttpConfigError, Packer, Post, Posting, json_line, json_list};
use crate::batch::Batch;
use crate::egress::Egress;
use crate::encode::Encode;
use crate::encode::json::JsonEncoder;
use crate::encode::logplex::LogplexEncoder;
use crate::signing::Signer;

pub(crate) struct HttpsPost {
    format: BodyFormat,
    signing: Option<Signer>,
}

/// The encoder and the destination.
pub(crate) fn prepare(
    config: &Config,
    credentials: &Credentials,
    egress: Egress,
) -> Result<(Box<dyn Encode>, Posting<HttpsPost>), HttpConfigError> {
    let url = Url::parse(&config.url).map_err(|_| HttpConfigError::Url)?;
    let mut client = HttpClient::new(&url, config.ca_certificates.as_deref(), credentials, egress)?;
    for (name, value) in &credentials.headers {
        client.secret_header(name, value)?;
    }
    client.basic_or_token(credentials, "Bearer")?;
    let packer = match config.compression {
        Compression::Gzip => Packer::gzip(),
        Compression::Zstd => Packer::Zstd,
        Compression::None => Packer::Plain,
    };
    let (content_type, encoder): (_, Box<dyn Encode>) = match config.format {
        BodyFormat::JsonLines => {
            ("application/x-ndjson", Box::new(JsonEncoder::new(config.format, config.keys)))
        }
        BodyFormat::JsonArray => {
            ("application/json", Box::new(JsonEncoder::new(config.format, config.keys)))
        }
        BodyFormat::Logplex => ("application/logplex-1", Box::new(LogplexEncoder::new())),
    };
    let signing = match &credentials.signing_secret {
        None => None,
        Some(secret) => {
            client.mask(secret);
            Some(Signer::new(secret).ok_or(HttpConfigError::Missing("signing_secret"))?)
        }
    };
    let kind = HttpsPost { format: config.format, signing };
    Ok((encoder, Posting::new(client, &url, content_type, packer, kind)?))
}

impl Post for HttpsPost {
    fn body(&self, batch: &Batch) -> Vec<u8> {
        match self.format {
            BodyFormat::JsonArray => json_list("[", batch, "]"),
            BodyFormat::JsonLines | BodyFormat::Logplex => batch.bytes().to_vec(),
        }
    }

    fn headers(&self, batch: &Batch, body: &[u8]) -> Vec<(HeaderName, HeaderValue)> {
        let id = batch.id();
        let mut headers = vec![("spillway-batch-id", id.clone())];
        if self.format == BodyFormat::Logplex {
            headers.push(("logplex-msg-count", batch.lines().to_string()));
            headers.push(("logplex-frame-id", id.to_ascii_uppercase()));
        }
        if let Some(signer) = &self.signing {
            headers.extend(signer.headers(&id, body));
        }
        headers
            .into_iter()
            .filter_map(|(name, value)| {
                Some((HeaderName::from_static(name), HeaderValue::try_from(value).ok()?))
            })
            .collect()
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
