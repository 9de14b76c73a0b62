//! A request for each event to a customer's own web server, in the form of Standard Webhooks 1.0
//! (github.com/standard-webhooks/standard-webhooks, "Payload structure", "Webhook headers (metadata)").
//!
//! - `POST` of `{"type": "spillway.session_started", "timestamp": ..., "data": {...}}`, where `data` is what
//!   a JSON line is elsewhere; not compressed.
//! - `webhook-id` is the same when an event is sent again. With a signing secret, requests are signed.
//! - 2xx takes an event; 410 says that nobody wants any more, so the drain waits, as at a 401, 403 or 404.
//!   At another 4xx the event is kept as refused.

use destinations::{BodyFormat, Compression, Credentials, Keys, Webhook as Config};
use serde_json::Value;
use url::Url;

use super::http::{HttpClient, HttpConfigError, Post, Posting, json_line};
use crate::batch::{Batch, BatchLimits};
use crate::egress::Egress;
use crate::encode::Encode;
use crate::encode::json::JsonEncoder;
use crate::encode::time::TimeText;
use crate::lines::Line;
use crate::signing::Signer;

/// One event a request.
pub(crate) const LIMITS: BatchLimits = BatchLimits { bytes: usize::MAX, lines: 1 };

pub(crate) struct Webhook {
    signing: Option<Signer>,
}

struct WebhookEncoder {
    json: JsonEncoder,
    time: TimeText,
}

/// The encoder and the destination.
pub(crate) fn prepare(
    config: &Config,
    credentials: &Credentials,
    egress: Egress,
) -> Result<(Box<dyn Encode>, Posting<Webhook>), HttpConfigError> {
    let url = Url::parse(&config.url).map_err(|_| HttpConfigError::Url)?;
    let mut client = HttpClient::new(&url, config.ca_certificates.as_deref(), credentials, egress)?;
    for (name, value) in &credentials.headers {
        client.secret_header(name, value)?;
    }
    client.basic_or_token(credentials, "Bearer")?;
    let kind = Webhook { signing: Signer::of(credentials, &mut client)? };
    let posting = Posting::new(client, &url, "application/json", Compression::None, kind)?;
    let json = JsonEncoder::new(BodyFormat::JsonLines, Keys::Spillway);
    Ok((Box::new(WebhookEncoder { json, time: TimeText::new() }), posting))
}

impl Encode for WebhookEncoder {
    fn encode(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        self.time.set(line.time());
        // An event's name has letters and _ only.
        out.extend_from_slice(b"{\"type\":\"spillway.");
        out.extend_from_slice(line.event.as_bytes());
        out.extend_from_slice(b"\",\"timestamp\":\"");
        out.extend_from_slice(self.time.whole());
        out.extend_from_slice(b"Z\",\"data\":");
        self.json.object(line, out);
        out.push(b'}');
    }
}

impl Post for Webhook {
    fn headers(&self, batch: &Batch, body: &[u8]) -> Vec<(&'static str, String)> {
        let id = batch.id();
        match &self.signing {
            Some(signing) => signing.headers(&id, body).into(),
            None => vec![("webhook-id", id)],
        }
    }

    fn rejected(&self, line: &[u8]) -> Value {
        json_line(line, "/data/id")
    }
}
