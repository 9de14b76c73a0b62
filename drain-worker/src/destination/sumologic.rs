//! Sumo Logic's HTTP source (help.sumologic.com, "Upload Logs to an HTTP Source").
//!
//! - `POST` to the source's URL, which is the secret; one JSON object a line; gzip.
//! - At most 1 MB before compression is advised; a message above 64 KB is cut into chunks.
//! - 200 takes a batch; 408, 429, 503 and 504 are to be tried again. What an exhausted ingest budget
//!   drops is answered 200.
//! - The time is the first of a line, in milliseconds. Switch off the source's multi-line detection.

use destinations::{Compression, Credentials, SumoLogic as Config};
use hyper::header::HeaderName;
use model::Origin;
use serde_json::{Value, json};
use url::Url;

use super::http::{HttpClient, HttpConfigError, Post, Posting, json_line};
use crate::batch::BatchLimits;
use crate::egress::Egress;
use crate::encode::{Encode, service, tags};
use crate::lines::Line;

pub(crate) const LIMITS: BatchLimits = BatchLimits { bytes: 1_000_000, lines: 10_000 };
/// Of a line before its encoding, so that its object stays below 64 KB, whatever it holds.
pub(crate) const LINE_BYTES: usize = 7 * 1024;

pub(crate) struct SumoLogic;

struct SumoLogicEncoder;

/// The encoder and the destination; `environment` is what lines' host is said to be.
pub(crate) fn prepare(
    config: &Config,
    credentials: &Credentials,
    environment: &str,
    egress: Egress,
) -> Result<(Box<dyn Encode>, Posting<SumoLogic>), HttpConfigError> {
    let secret = credentials.url.as_ref().ok_or(HttpConfigError::Missing("url"))?;
    let url = Url::parse(secret.expose()).map_err(|_| HttpConfigError::Url)?;
    let mut client = HttpClient::new(&url, config.ca_certificates.as_deref(), credentials, egress)?;
    client.mask(secret);
    // The code alone may be quoted.
    for part in url.path().split('/').chain(url.query()).filter(|part| part.len() >= 8) {
        client.mask(&model::Secret::new(part.to_owned()));
    }
    let headers = [
        ("x-sumo-category", config.category.as_deref()),
        ("x-sumo-name", config.name.as_deref()),
        ("x-sumo-host", Some(environment)),
        ("x-sumo-client", Some("spillway")),
    ];
    for (name, value) in headers {
        if let Some(value) = value {
            client.header(HeaderName::from_static(name), value)?;
        }
    }
    let posting = Posting::new(client, &url, "application/json", Compression::Gzip, SumoLogic)?;
    Ok((Box::new(SumoLogicEncoder), posting))
}

impl Encode for SumoLogicEncoder {
    fn encode(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        let origin: &Origin = line.origin;
        let mut object = super::object(tags(line));
        object.insert("service".to_owned(), json!(service(origin)));
        object.insert("message".to_owned(), json!(String::from_utf8_lossy(line.message)));
        // In front, where Sumo Logic looks for it.
        let begin = format!("{{\"timestamp\":{},", line.time().nanos() / 1_000_000);
        let mut rest = Vec::new();
        let mut object = Value::Object(object);
        super::add_json(&mut object, line);
        super::write_json(&mut rest, b"", &object, b"\n");
        out.extend_from_slice(begin.as_bytes());
        out.extend_from_slice(rest.get(1..).unwrap_or_default());
    }
}

impl Post for SumoLogic {
    fn rejected(&self, line: &[u8]) -> Value {
        json_line(line, "/id")
    }
}
