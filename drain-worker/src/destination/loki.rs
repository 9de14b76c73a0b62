//! Grafana Loki: the push API (grafana.com/docs/loki, "HTTP API"; defaults of its limits in
//! "Request validation & rate limits").
//!
//! - `POST URL/loki/api/v1/push`, JSON; gzip. Batches of 1 MB are advised; a batch above the burst limit
//!   (6 MB) never passes; a line has at most 256 KB.
//! - Labels are few: `service_name`, `environment`, `source` and the drain's own. All else is structured
//!   metadata, which Loki has since version 3.
//! - 204 takes a batch. 400 has dropped the lines that it names and kept the others, so these lines are
//!   found by sending halves: Loki drops a line that it has. 260 has stored nothing.
//! - Loki takes lines of a stream with the same nanosecond and text for one. A record's lines have one
//!   time, so each is a nanosecond later for each byte of output before it: a second after a gigabyte.
//!   The time itself is in `time`.

use bytes::Bytes;
use destinations::{Compression, Credentials, Loki as Config};
use hyper::header::HeaderName;
use serde_json::{Map, Value, json};
use url::Url;

use super::http::{Answer, HttpClient, HttpConfigError, Post, Posting, json_line, json_list};
use super::{Failure, Remedy};
use crate::batch::{Batch, BatchLimits};
use crate::egress::Egress;
use crate::encode::{Encode, level, service, tags};
use crate::lines::Line;

pub(crate) const LIMITS: BatchLimits = BatchLimits { bytes: 1_000_000, lines: 5_000 };
/// Of a line before its encoding: in base64 it must fit into the structured metadata, of which there may
/// be 64 KB.
pub(crate) const LINE_BYTES: usize = 40 * 1024;
/// `block_ingestion_status_code` of Loki.
const BLOCKED: u16 = 260;

pub(crate) struct Loki;

struct LokiEncoder {
    labels: Map<String, Value>,
}

/// The encoder and the destination.
pub(crate) fn prepare(
    config: &Config,
    credentials: &Credentials,
    egress: Egress,
) -> Result<(Box<dyn Encode>, Posting<Loki>), HttpConfigError> {
    let url = Url::parse(&format!("{}/loki/api/v1/push", config.url))
        .map_err(|_| HttpConfigError::Url)?;
    let mut client = HttpClient::new(&url, config.ca_certificates.as_deref(), credentials, egress)?;
    client.basic_or_token(credentials, "Bearer")?;
    if let Some(tenant) = &config.tenant {
        client.header(HeaderName::from_static("x-scope-orgid"), tenant)?;
    }
    let labels = config.labels.iter().map(|(name, value)| (name.clone(), value.as_str().into()));
    let encoder = LokiEncoder { labels: labels.collect() };
    let posting = Posting::new(client, &url, "application/json", Compression::Gzip, Loki)?;
    Ok((Box::new(encoder), posting))
}

impl Encode for LokiEncoder {
    fn encode(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        let origin = line.origin;
        let mut labels = self.labels.clone();
        for (name, value) in [
            ("service_name", service(origin)),
            ("environment", origin.environment.handle.as_str()),
            ("source", origin.source.as_str()),
        ] {
            labels.insert(name.to_owned(), value.into());
        }
        let mut metadata = super::object(tags(line));
        metadata.insert("level".to_owned(), level(line).into());
        let before = line.span.map_or(0, |span| span.offset);
        let at = line.at.nanos().saturating_add(before).to_string();
        let text = String::from_utf8_lossy(line.message);
        let stream = json!({ "stream": labels, "values": [[at, text, metadata]] });
        super::write_json(out, b",", &stream, b"");
    }
}

impl Post for Loki {
    fn body(&self, batch: &Batch) -> Bytes {
        json_list("{\"streams\":[", batch, "]}")
    }

    fn classify(&self, client: &HttpClient, answer: &Answer, _: &Batch) -> Result<(), Failure> {
        if answer.status.as_u16() == BLOCKED {
            let said = format!("{}: it takes no lines at the moment", client.said(answer));
            return Err(Failure::new(Remedy::Park, said));
        }
        client.classify(answer)
    }

    fn rejected(&self, line: &[u8]) -> Value {
        json_line(line, "/values/0/2/id")
    }
}
