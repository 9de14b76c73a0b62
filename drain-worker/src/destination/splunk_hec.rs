//! Splunk's HTTP Event Collector (help.splunk.com, "Format events for HTTP Event Collector" and "About
//! HTTP Event Collector Indexer Acknowledgment").
//!
//! - `POST URL/services/collector/event` with `Authorization: Splunk TOKEN`; JSON objects one after
//!   another; gzip. A request is kept below 1 MB.
//! - The line is the event's text, all else is in `fields`. A blank text would be refused, so there the
//!   event is an object. Splunk cuts text at 10,000 bytes (`TRUNCATE`) unless told otherwise.
//! - Codes 0, 24 and 25 take a batch. 5, 6, 12, 13 and 15 refuse the event that
//!   `invalid-event-number` names: those before it are taken, those after it are not. With
//!   acknowledgement those before it have none, so there halves are sent until the event is alone.
//! - With acknowledgement each request has an `ackId` in a channel of the drain's own. That it is
//!   acknowledged is told once; an id that is never acknowledged may be lost, so after five minutes
//!   everything unconfirmed is sent again, in a new channel; and so it is when ids do not rise, for then
//!   another indexer has answered. A load balancer must keep the channel on one: its cookies are sent
//!   back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use destinations::{Compression, Credentials, SplunkHec as Config};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;
use url::Url;
use uuid::Uuid;

use super::http::{Answer, HttpClient, HttpConfigError, json_line, note, pack, uri, without_nul};
use super::{Destination, Failure, Remedy};
use crate::batch::{Batch, BatchLimits};
use crate::egress::Egress;
use crate::encode::{Encode, service, tags};
use crate::lines::Line;
use crate::trace::Trace;

pub(crate) const LIMITS: BatchLimits = BatchLimits { bytes: 950_000, lines: 5_000 };
pub(crate) const LINE_BYTES: usize = 9_000;

const TOO_MANY: StatusCode = StatusCode::TOO_MANY_REQUESTS;
const ASK_EVERY: Duration = Duration::from_secs(2);
const LOST_AFTER: Duration = Duration::from_mins(5);

struct SplunkEncoder {
    index: Option<String>,
    sourcetype: Option<String>,
}

/// A collector.
pub(crate) struct SplunkHec {
    /// None while it is being asked.
    client: Option<HttpClient>,
    asking: Option<BoxFuture<'static, (HttpClient, Result<Answer, Failure>)>>,
    asked_at: Instant,
    events: Uri,
    ack_url: Url,
    /// Where the channel's acknowledgements are asked for.
    acknowledgements: Option<Uri>,
    /// The channel's last id.
    last_id: Option<u64>,
    headers: HeaderMap,
    acknowledge: bool,
    /// The requests that the collector has taken, oldest first.
    taken: VecDeque<Taken>,
}

struct Taken {
    id: Option<u64>,
    at: Instant,
    is_acknowledged: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    code: Option<u32>,
    #[serde(rename = "ackId")]
    ack_id: Option<u64>,
    #[serde(rename = "invalid-event-number")]
    invalid_event_number: Option<usize>,
}

#[derive(Deserialize)]
struct Acknowledged {
    acks: std::collections::HashMap<String, bool>,
}

/// The encoder and the destination.
pub(crate) fn prepare(
    config: &Config,
    credentials: &Credentials,
    egress: Egress,
) -> Result<(Box<dyn Encode>, SplunkHec), HttpConfigError> {
    let url = |path: &str| {
        Url::parse(&format!("{}/services/collector{path}", config.url))
            .map_err(|_| HttpConfigError::Url)
    };
    let mut client =
        HttpClient::new(&url("")?, config.ca_certificates.as_deref(), credentials, egress)?;
    client.answer_limit = 256 * 1024;
    let token = credentials.token.as_ref().ok_or(HttpConfigError::Missing("token"))?;
    client.authorize("Splunk", token)?;
    let ack_url = url("/ack")?;
    let acknowledgements = open_channel(&mut client, &ack_url);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    let splunk = SplunkHec {
        client: Some(client),
        asking: None,
        asked_at: Instant::now(),
        events: uri(&url("/event")?)?,
        ack_url,
        acknowledgements,
        last_id: None,
        headers,
        acknowledge: config.acknowledge,
        taken: VecDeque::new(),
    };
    let encoder =
        SplunkEncoder { index: config.index.clone(), sourcetype: config.sourcetype.clone() };
    Ok((Box::new(encoder), splunk))
}

impl Encode for SplunkEncoder {
    fn encode(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        let text = String::from_utf8_lossy(line.message);
        // An event that is blank is refused.
        let is_object = text.trim().is_empty() || line.extras.json.is_some();
        let mut event = if is_object { json!({ "message": text }) } else { json!(text) };
        super::add_json(&mut event, line);
        let mut fields = super::object(tags(line));
        // Splunk's own name of where a line comes from.
        if let Some(kind) = fields.remove("source") {
            fields.insert("source_kind".to_owned(), kind);
        }
        let nanos = line.time().nanos();
        let mut entry = json!({
            // As text: a number would lose digits.
            "time": format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000),
            "host": line.origin.environment.handle.as_str(),
            "source": service(line.origin),
            "event": event,
            "fields": fields,
        });
        for (name, value) in [("index", &self.index), ("sourcetype", &self.sourcetype)] {
            if let (Some(value), Some(entry)) = (value, entry.as_object_mut()) {
                entry.insert(name.to_owned(), value.as_str().into());
            }
        }
        super::write_json(out, b"", &entry, b"\n");
    }
}

/// What the collector says of a batch: the id of its acknowledgement, if it gives one.
fn classify(
    client: &HttpClient,
    answer: &Answer,
    lines: usize,
    acknowledge: bool,
) -> Result<Option<u64>, Failure> {
    let said: Said = serde_json::from_slice(&answer.body).unwrap_or_default();
    let words = client.said(answer);
    let fail = |remedy, advice: &str| Err(Failure::new(remedy, format!("{words}{advice}")));
    if answer.status.is_success() {
        return match said.ack_id {
            None if acknowledge && !answer.is_whole => fail(Remedy::Retry(None), ""),
            None if acknowledge => fail(
                Remedy::Park,
                ": it gave no ackId, so enable indexer acknowledgement for the token, or switch off \
                 the drain's `acknowledge`",
            ),
            id => Ok(id),
        };
    }
    // What stands before a refused event has no acknowledgement of its own.
    let number = said.invalid_event_number.filter(|&number| number < lines && !acknowledge);
    match (answer.status, said.code, number) {
        (StatusCode::BAD_REQUEST, Some(5 | 6 | 12 | 13 | 15), Some(number)) => {
            let refused = vec![(number, words.clone())];
            fail(Remedy::Refuse { lines: refused, upto: number + 1 }, "")
        }
        (StatusCode::SERVICE_UNAVAILABLE, Some(9), Some(number @ 1..)) => {
            fail(Remedy::Refuse { lines: Vec::new(), upto: number }, "")
        }
        (StatusCode::BAD_REQUEST, Some(7), _) => fail(Remedy::Park, ": check the drain's index"),
        (StatusCode::BAD_REQUEST, Some(10 | 11 | 14 | 16), _) => {
            fail(Remedy::Park, ": check the token's indexer acknowledgement")
        }
        _ => client.classify(answer).map(|()| None),
    }
}

impl SplunkHec {
    /// Nothing that was taken counts any more. What comes has a channel of its own: ids begin anew in
    /// each, and may be those of another indexer.
    fn forget(&mut self, failure: Failure) -> Failure {
        self.taken.clear();
        self.last_id = None;
        if let (Some(client), true) = (&mut self.client, self.acknowledge) {
            self.acknowledgements = open_channel(client, &self.ack_url);
        }
        failure
    }

    /// Waits for the answer that is under way, if any. An answer that tells nothing is asked for again.
    async fn heard(&mut self) -> Result<(), Failure> {
        let Some(asking) = &mut self.asking else { return Ok(()) };
        let (client, answer) = asking.await;
        self.asking = None;
        let noted = match answer {
            Ok(answer) if answer.status.is_success() => {
                Ok(serde_json::from_slice::<Acknowledged>(&answer.body).ok())
            }
            Ok(answer) if answer.status.is_client_error() && answer.status != TOO_MANY => {
                let said = format!(
                    "asked for acknowledgements, {}: check the token's indexer acknowledgement",
                    client.said(&answer)
                );
                Err(Failure::new(Remedy::Park, said))
            }
            Ok(_) | Err(_) => Ok(None),
        };
        self.client = Some(client);
        let Some(Acknowledged { acks }) = noted.map_err(|failure| self.forget(failure))? else {
            return Ok(());
        };
        for taken in &mut self.taken {
            let id = taken.id.map(|id| id.to_string()).unwrap_or_default();
            taken.is_acknowledged |= acks.get(&id) == Some(&true);
        }
        Ok(())
    }

    /// Asks which of the requests are acknowledged. The answer says so once, so it must not be lost.
    fn ask(&mut self) {
        let (Some(uri), Some(mut client)) = (self.acknowledgements.clone(), self.client.take())
        else {
            return;
        };
        let open = self.taken.iter().filter(|taken| !taken.is_acknowledged);
        let ids: Vec<u64> = open.filter_map(|taken| taken.id).collect();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let asking = async move {
            let body = json!({ "acks": ids }).to_string();
            let answer = client.post(&uri, &headers, body.into(), &mut Trace::default()).await;
            (client, answer)
        };
        self.asked_at = Instant::now();
        self.asking = Some(asking.boxed());
    }
}

/// Gives the client a new channel, and no cookies; answers where its acknowledgements are.
fn open_channel(client: &mut HttpClient, ack_url: &Url) -> Option<Uri> {
    let channel = Uuid::new_v4().to_string();
    client.begin_cookies();
    client.header(HeaderName::from_static("x-splunk-request-channel"), &channel).ok()?;
    let mut url = ack_url.clone();
    url.set_query(Some(&format!("channel={channel}")));
    uri(&url).ok()
}

#[async_trait]
impl Destination for SplunkHec {
    async fn send(&mut self, batch: &Batch, trace: &mut Trace) -> Result<(), Failure> {
        self.heard().await?;
        let Some(client) = &mut self.client else {
            return Err(Failure::new(Remedy::Retry(None), "the collector is being asked"));
        };
        let body = pack(Compression::Gzip, batch.bytes())?;
        let answer = client.post(&self.events, &self.headers, body, trace).await;
        let started = Instant::now();
        let outcome = answer.and_then(|answer| {
            let outcome = classify(client, &answer, batch.lines(), self.acknowledge);
            note(trace, &answer, started, &outcome);
            outcome
        });
        match outcome {
            Ok(id) if self.acknowledge && id <= self.last_id => {
                let message = "the collector counts acknowledgements anew: it was restarted, or a \
                     load balancer has chosen another";
                Err(self.forget(Failure::new(Remedy::Retry(None), message)))
            }
            Ok(id) => {
                self.last_id = id;
                let is_acknowledged = !self.acknowledge;
                self.taken.push_back(Taken { id, at: Instant::now(), is_acknowledged });
                Ok(())
            }
            // What was taken before is not concerned.
            Err(failure) if matches!(failure.remedy, Remedy::Refuse { .. }) => Err(failure),
            Err(failure) => Err(self.forget(failure)),
        }
    }

    async fn confirmed(&mut self, _pressed: bool) -> Result<usize, Failure> {
        loop {
            self.heard().await?;
            let count = self.taken.iter().take_while(|taken| taken.is_acknowledged).count();
            if count > 0 {
                self.taken.drain(..count);
                return Ok(count);
            }
            match self.taken.front() {
                None => std::future::pending::<()>().await,
                Some(oldest) if oldest.at.elapsed() >= LOST_AFTER => {
                    let message = format!("no indexer has acknowledged lines for {LOST_AFTER:?}");
                    return Err(self.forget(Failure::new(Remedy::Retry(None), message)));
                }
                Some(_) => {}
            }
            sleep(ASK_EVERY.saturating_sub(self.asked_at.elapsed())).await;
            self.ask();
        }
    }

    fn rejected(&self, line: &[u8]) -> Value {
        without_nul(json_line(line, "/fields/id"))
    }
}
