//! Elasticsearch and OpenSearch: the bulk API (elastic.co/docs/api, "Bulk"; docs.opensearch.org, "Bulk").
//!
//! - `POST URL/INDEX/_bulk`, pairs of an action and a document; gzip. A request has at most 100 MB by
//!   default, 10 MB on small managed clusters.
//! - The action is `create`, the only one that data streams take, with the line's id as `_id`: a line
//!   that is sent again is answered 409 and counts as taken. (Not across a rollover: the id is unique in
//!   a backing index.)
//! - 200 has a result for each document. 429 and 5xx of one are to be tried again, another above 300
//!   refuses it for good (elastic/beats, `libbeat/outputs/elasticsearch/client.go`), but for 401, 403 and
//!   404, which are about the index.
//! - Fields have the names of the Elastic Common Schema; what it does not know is in `labels`.

use destinations::{Compression, Credentials, Elasticsearch as Config};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::http::{Answer, HttpClient, HttpConfigError, Post, Posting};
use super::{Failure, Remedy};
use crate::batch::{Batch, BatchLimits};
use crate::egress::Egress;
use crate::encode::time::TimeText;
use crate::encode::{Encode, level, service, tags, user};
use crate::lines::Line;

pub(crate) const LIMITS: BatchLimits = BatchLimits { bytes: 4_000_000, lines: 2_000 };
/// What is said of each document: of one that is refused a few hundred bytes.
const ANSWER_LIMIT: usize = 1 << 20;
/// Only what is looked at.
const FILTER: &str = "filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason";
const CONFLICT: u16 = 409;

pub(crate) struct Elasticsearch;

struct ElasticsearchEncoder;

#[derive(Deserialize)]
struct Results {
    errors: bool,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    create: Created,
}

#[derive(Deserialize)]
struct Created {
    status: u16,
    #[serde(default)]
    error: Value,
}

/// The encoder and the destination.
pub(crate) fn prepare(
    config: &Config,
    credentials: &Credentials,
    egress: Egress,
) -> Result<(Box<dyn Encode>, Posting<Elasticsearch>), HttpConfigError> {
    let url = format!("{}/{}/_bulk?{FILTER}", config.url, config.index);
    let url = Url::parse(&url).map_err(|_| HttpConfigError::Url)?;
    let mut client = HttpClient::new(&url, config.ca_certificates.as_deref(), credentials, egress)?;
    client.answer_limit = ANSWER_LIMIT;
    client.basic_or_token(credentials, "ApiKey")?;
    let compression = Compression::Gzip;
    let posting = Posting::new(client, &url, "application/x-ndjson", compression, Elasticsearch)?;
    Ok((Box::new(ElasticsearchEncoder), posting))
}

impl Encode for ElasticsearchEncoder {
    fn encode(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        let mut id = Vec::new();
        line.write_id(&mut id);
        let id = String::from_utf8_lossy(&id);
        let mut time = TimeText::new();
        time.set(line.time());
        let origin = line.origin;
        let mut document = json!({
            "@timestamp": format!("{}Z", String::from_utf8_lossy(time.nanos())),
            "message": String::from_utf8_lossy(line.message),
            "event": { "id": id, "kind": "event", "action": line.event, "sequence": line.seq },
            "log": { "level": level(line) },
            "service": {
                "name": service(origin),
                "environment": origin.environment.handle.as_str(),
            },
            "labels": super::object(tags(line)),
        });
        let user = user(line, ["id", "email", "full_name"]);
        if let (false, Some(document)) = (user.is_empty(), document.as_object_mut()) {
            document.insert("user".to_owned(), user.into());
        }
        super::write_json(out, b"", &json!({ "create": { "_id": id } }), b"\n");
        super::add_json(&mut document, line);
        super::write_json(out, b"", &document, b"\n");
    }
}

impl Post for Elasticsearch {
    fn classify(&self, client: &HttpClient, answer: &Answer, batch: &Batch) -> Result<(), Failure> {
        client.classify(answer)?;
        let retry = |what: &str| {
            let said = client.said(answer);
            Err(Failure::new(Remedy::Retry(None), format!("{said}{what}")))
        };
        if !answer.is_whole && batch.lines() > 1 {
            let said = "the endpoint answered with more than is read: fewer documents are sent";
            return Err(Failure::new(Remedy::Halve, said));
        }
        let Ok(results) = serde_json::from_slice::<Results>(&answer.body) else {
            return retry(": that is no answer of a bulk request");
        };
        if !results.errors {
            return Ok(());
        }
        if results.items.len() != batch.lines() {
            return retry(": the results are not one for each line");
        }
        let refused = |created: &Created| created.status >= 300 && created.status != CONFLICT;
        let mut lines = Vec::new();
        for (number, Item { create }) in results.items.iter().enumerate() {
            if !refused(create) {
                continue;
            }
            let words = ["type", "reason"]
                .map(|name| create.error.get(name).and_then(Value::as_str).unwrap_or_default());
            let said = client.quote(words.join(": ").as_bytes());
            let said = format!("the endpoint answered {} for a line{said}", create.status);
            match create.status {
                // With the ids, all can be sent again.
                408 | 429 | 500.. => return Err(Failure::new(Remedy::Retry(None), said)),
                // A missing index, a missing right, a full disk: not the lines' fault.
                401 | 403 | 404 => return Err(Failure::new(Remedy::Park, said)),
                _ => lines.push((number, said)),
            }
        }
        let Some((_, first)) = lines.first() else { return Ok(()) };
        let message = first.clone();
        Err(Failure::new(Remedy::Refuse { lines, upto: batch.lines() }, message))
    }

    fn rejected(&self, line: &[u8]) -> Value {
        // The second of two lines.
        let document = line.splitn(2, |&byte| byte == b'\n').nth(1).unwrap_or_default();
        super::http::json_line(document, "/event/id")
    }
}
