//! A customer's own web server.
//!
//! Each batch has a `Spillway-Batch-Id`, which stays the same when it is sent again. With a signing
//! secret, requests are signed as Standard Webhooks 1.0 says: `webhook-signature` is over id, time of
//! the attempt and the body as it is sent, so after its compression.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use destinations::{BodyFormat, Compression, Credentials, HttpsPost as Config};
use hyper::header::{HeaderName, HeaderValue};
use model::Secret;
use serde_json::Value;
use url::Url;

use super::http::{HttpClient, HttpConfigError, Packer, Post, Posting, json_line, json_list};
use crate::batch::Batch;
use crate::egress::Egress;
use crate::encode::Encode;
use crate::encode::json::JsonEncoder;
use crate::encode::logplex::LogplexEncoder;

pub(crate) struct HttpsPost {
    format: BodyFormat,
    signing: Option<hmac::Key>,
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
            Some(signing_key(secret).ok_or(HttpConfigError::Missing("signing_secret"))?)
        }
    };
    let kind = HttpsPost { format: config.format, signing };
    Ok((encoder, Posting::new(client, &url, content_type, packer, kind)?))
}

fn signing_key(secret: &Secret<String>) -> Option<hmac::Key> {
    let key = STANDARD.decode(secret.expose().strip_prefix("whsec_")?).ok()?;
    Some(hmac::Key::new(hmac::HMAC_SHA256, &key))
}

fn signature(key: &hmac::Key, id: &str, seconds: u64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(format!("{id}.{seconds}.").as_bytes());
    context.update(body);
    format!("v1,{}", STANDARD.encode(context.sign()))
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
        if let Some(key) = &self.signing {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            headers.push(("webhook-id", id.clone()));
            headers.push(("webhook-timestamp", now.to_string()));
            headers.push(("webhook-signature", signature(key, &id, now, body)));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification's reference libraries.
    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        let key = signing_key(&secret).unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signature = signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
