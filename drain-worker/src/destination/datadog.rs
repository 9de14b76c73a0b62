//! Datadog's logs intake, version 2 (docs.datadoghq.com/api/latest/logs/#send-logs).
//!
//! - `POST https://http-intake.logs.SITE/api/v2/logs` with `DD-API-KEY`; a JSON array; gzip.
//! - At most 5 MB before compression, 1,000 entries; an entry above 1 MB would be cut.
//! - 202 takes a batch whole; 400, 401, 403, 413 are permanent, 408, 429 and 5xx are not.
//! - Entries older than 18 hours are dropped by Datadog after the 202 ("Log Date Remapper").

use bytes::Bytes;
use destinations::{Compression, Credentials, Datadog as Config};
use serde_json::{Value, json};
use url::Url;

use super::http::{Answer, HttpClient, HttpConfigError, Post, Posting, json_line, json_list};
use super::{Failure, Remedy};
use crate::batch::{Batch, BatchLimits};
use crate::egress::Egress;
use crate::encode::{Encode, level, service, tags, user};
use crate::lines::Line;

/// Below the vendor's, so that what a batch's array adds does not count.
pub(crate) const LIMITS: BatchLimits = BatchLimits { bytes: 4_500_000, lines: 1_000 };
/// Of a line before its encoding, which takes at most eight times as much.
pub(crate) const LINE_BYTES: usize = 96 * 1024;

pub(crate) struct Datadog;

struct DatadogEncoder {
    tags: Vec<String>,
}

/// The encoder and the destination.
pub(crate) fn prepare(
    config: &Config,
    credentials: &Credentials,
    egress: Egress,
) -> Result<(Box<dyn Encode>, Posting<Datadog>), HttpConfigError> {
    let url = Url::parse(&config.address()).map_err(|_| HttpConfigError::Url)?;
    let mut client = HttpClient::new(&url, config.ca_certificates.as_deref(), credentials, egress)?;
    let key = credentials.token.as_ref().ok_or(HttpConfigError::Missing("token"))?;
    client.secret_header("dd-api-key", key)?;
    let encoder = DatadogEncoder { tags: config.tags.clone() };
    let posting = Posting::new(client, &url, "application/json", Compression::Gzip, Datadog)?;
    Ok((Box::new(encoder), posting))
}

impl Encode for DatadogEncoder {
    fn encode(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        let origin = line.origin;
        let environment = origin.environment.handle.as_str();
        let mut ddtags = vec![format!("env:{environment}"), format!("source:{}", origin.source)];
        ddtags.extend(self.tags.iter().cloned());
        let mut entry = json!({
            "message": String::from_utf8_lossy(line.message),
            "ddsource": "spillway",
            "ddtags": ddtags.join(","),
            "hostname": environment,
            "service": service(origin),
            "status": level(line),
            "timestamp": line.time().nanos() / 1_000_000,
            "spillway": super::object(tags(line)),
        });
        // Datadog's standard attributes of a user.
        let user = user(line, ["id", "email", "name"]);
        if let (false, Some(entry)) = (user.is_empty(), entry.as_object_mut()) {
            entry.insert("usr".to_owned(), user.into());
        }
        super::add_json(&mut entry, line);
        super::write_json(out, b",", &entry, b"");
    }
}

impl Post for Datadog {
    fn body(&self, batch: &Batch) -> Bytes {
        json_list("[", batch, "]")
    }

    fn classify(&self, client: &HttpClient, answer: &Answer, _: &Batch) -> Result<(), Failure> {
        // What it answers where there is no such path.
        if answer.status.as_u16() == 400 && answer.body.windows(9).any(|at| at == b"HTTP path") {
            let said = format!("{}: check the drain's URL", client.said(answer));
            return Err(Failure::new(Remedy::Park, said));
        }
        client.classify(answer)
    }

    fn rejected(&self, line: &[u8]) -> Value {
        json_line(line, "/spillway/id")
    }
}
