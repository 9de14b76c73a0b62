//! Mezmo, formerly LogDNA (docs.mezmo.com/reference/ingest).
//!
//! - `POST URL/logs/ingest?hostname=...` with the ingestion key as basic authentication's user name;
//!   `{"lines": [...]}`; gzip.
//! - At most 10 MB a request, 16 KB a line, 32 KB of `meta` ("Ingestion service limits").
//! - 207 has a status for each line (logdna/logger-node, `lib/logger.js`): 4xx refuses it, 5xx does not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use destinations::{Compression, Credentials, LogDna as Config};
use model::Secret;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::http::{Answer, HttpClient, HttpConfigError, Post, Posting, json_line, json_list};
use super::{Failure, Remedy};
use crate::batch::{Batch, BatchLimits};
use crate::egress::Egress;
use crate::encode::{Encode, level, service, tags};
use crate::lines::Line;

pub(crate) const LIMITS: BatchLimits = BatchLimits { bytes: 8_000_000, lines: 5_000 };
/// Of a line before its encoding: a byte that is not UTF-8 becomes three.
pub(crate) const LINE_BYTES: usize = 5 * 1024;

/// A status for each line.
const MULTI_STATUS: u16 = 207;

pub(crate) struct LogDna;

struct LogDnaEncoder;

#[derive(Deserialize)]
struct Statuses {
    status: Vec<u16>,
}

/// The encoder and the destination; `environment` is the host's name where none is configured.
pub(crate) fn prepare(
    config: &Config,
    credentials: &Credentials,
    environment: &str,
    egress: Egress,
) -> Result<(Box<dyn Encode>, Posting<LogDna>), HttpConfigError> {
    let mut url =
        Url::parse(&format!("{}/logs/ingest", config.url)).map_err(|_| HttpConfigError::Url)?;
    url.query_pairs_mut()
        .append_pair("hostname", config.hostname.as_deref().unwrap_or(environment));
    if !config.tags.is_empty() {
        url.query_pairs_mut().append_pair("tags", &config.tags.join(","));
    }
    let mut client = HttpClient::new(&url, config.ca_certificates.as_deref(), credentials, egress)?;
    client.answer_limit = 64 * 1024;
    let key = credentials.token.as_ref().ok_or(HttpConfigError::Missing("token"))?;
    client.mask(key);
    client.authorize("Basic", &Secret::new(STANDARD.encode(format!("{}:", key.expose()))))?;
    let content_type = "application/json; charset=UTF-8";
    let posting = Posting::new(client, &url, content_type, Compression::Gzip, LogDna)?;
    Ok((Box::new(LogDnaEncoder), posting))
}

impl Encode for LogDnaEncoder {
    fn encode(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        let mut entry = json!({
            "line": String::from_utf8_lossy(line.message),
            "timestamp": line.time().nanos() / 1_000_000,
            "app": service(line.origin),
            "level": level(line),
            "env": line.origin.environment.handle.as_str(),
            "meta": super::object(tags(line)),
        });
        if let Some(meta) = entry.get_mut("meta") {
            super::add_json(meta, line);
        }
        super::write_json(out, b",", &entry, b"");
    }
}

impl Post for LogDna {
    fn body(&self, batch: &Batch) -> Bytes {
        json_list("{\"lines\":[", batch, "]}")
    }

    fn classify(&self, client: &HttpClient, answer: &Answer, batch: &Batch) -> Result<(), Failure> {
        if answer.status.as_u16() != MULTI_STATUS {
            return client.classify(answer);
        }
        let Ok(Statuses { status }) = serde_json::from_slice(&answer.body) else {
            return Err(Failure::new(Remedy::Retry(None), client.said(answer)));
        };
        let said = client.said(answer);
        let busy = status.iter().filter(|&&one| one >= 500 || one == 429).count();
        let remedy = match busy {
            _ if status.len() != batch.lines() => Some(Remedy::Retry(None)),
            // Not the lines' fault.
            _ if status.iter().any(|one| [401, 403, 404].contains(one)) => Some(Remedy::Park),
            0 => None,
            busy if busy == batch.lines() => Some(Remedy::Retry(None)),
            // The others have it: find those that have not.
            _ => Some(Remedy::Isolate),
        };
        if let Some(remedy) = remedy {
            return Err(Failure::new(remedy, said));
        }
        let refused: Vec<_> = status
            .iter()
            .enumerate()
            .filter(|(_, status)| **status >= 400)
            .map(|(number, status)| (number, format!("Mezmo answered {status} for this line")))
            .collect();
        if refused.is_empty() {
            return Ok(());
        }
        Err(Failure::new(Remedy::Refuse { lines: refused, upto: batch.lines() }, said))
    }

    fn rejected(&self, line: &[u8]) -> Value {
        json_line(line, "/meta/id")
    }
}
