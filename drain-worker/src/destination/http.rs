//! HTTP to endpoints over TLS: requests with a bounded answer, and what a status means.
//!
//! Invariants: of what an endpoint answers, at most [`HttpClient::answer_limit`] bytes are read; and
//! what is secret to a drain is masked in what is quoted of it.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use destinations::Credentials;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{
    AUTHORIZATION, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, SET_COOKIE,
    USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use model::Secret;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::timeout;
use url::Url;

use super::{Failure, Remedy};
use crate::batch::Batch;
use crate::egress::Egress;
use crate::tls::{Endpoint, TlsConfigError};
use crate::trace::{OpenRequest, Step, Trace};

mod outgoing;
mod packer;
mod posting;

use outgoing::Outgoing;

pub(crate) use packer::pack;
pub(crate) use posting::Posting;

const REQUEST_DEADLINE: Duration = Duration::from_mins(1);
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(5);
const DRIVER_ENDS_WITHIN: Duration = Duration::from_millis(200);
const ANSWER_LIMIT: usize = 4096;
/// The part of an answer that goes into an error message.
const QUOTE_LIMIT: usize = 300;
const MOST_COOKIES: usize = 16;
const LONGEST_COOKIE: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpConfigError {
    #[error("the URL must begin with https:// and name a host")]
    Url,
    #[error("the header `{0}` cannot be sent: its name or value has characters that HTTP forbids")]
    Header(String),
    #[error("the credential `{0}` is missing: set the drain's credentials")]
    Missing(&'static str),
    #[error("the bucket cannot be used as it is configured: {0}")]
    Bucket(String),
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
}

/// An answer, as far as it was read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Whether the body was read to its end.
    pub(crate) is_whole: bool,
}

/// A web server, over one connection at a time.
pub(crate) struct HttpClient {
    endpoint: Endpoint,
    egress: Egress,
    headers: HeaderMap,
    /// What must not be quoted.
    secrets: Vec<Secret<String>>,
    connection: Option<Connection>,
    /// Bytes of an answer that are read; a longer one costs the connection.
    pub(crate) answer_limit: usize,
    /// The cookies that are sent back, if any are: a load balancer's are what keeps to one server.
    cookies: Option<BTreeMap<String, String>>,
}

struct Connection {
    sender: SendRequest<Outgoing>,
    // Moves the bytes; ends when this is dropped.
    driver: JoinSet<hyper::Result<()>>,
}

impl HttpClient {
    /// The server of a URL.
    pub(crate) fn new(
        url: &Url,
        ca_certificates: Option<&str>,
        credentials: &Credentials,
        egress: Egress,
    ) -> Result<Self, HttpConfigError> {
        let host =
            url.host_str().filter(|_| url.scheme() == "https").ok_or(HttpConfigError::Url)?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(&authority).map_err(|_| HttpConfigError::Url)?);
        headers.insert(USER_AGENT, HeaderValue::from_static("spillway"));
        let port = url.port_or_known_default().unwrap_or(443);
        Ok(Self {
            endpoint: Endpoint::new(host, port, host, ca_certificates, credentials)?,
            egress,
            headers,
            secrets: Vec::new(),
            connection: None,
            answer_limit: ANSWER_LIMIT,
            cookies: None,
        })
    }

    /// Another to the same server, with a connection of its own.
    pub(crate) fn another(&self) -> Self {
        Self {
            endpoint: self.endpoint.clone(),
            egress: self.egress.clone(),
            headers: self.headers.clone(),
            secrets: self.secrets.clone(),
            connection: None,
            answer_limit: self.answer_limit,
            cookies: self.cookies.clone(),
        }
    }

    /// Sends a header with each request.
    pub(crate) fn header(&mut self, name: HeaderName, value: &str) -> Result<(), HttpConfigError> {
        let value =
            HeaderValue::from_str(value).map_err(|_| HttpConfigError::Header(name.to_string()))?;
        self.headers.insert(name, value);
        Ok(())
    }

    /// Sends a header with each request whose value, and the words in it, are secret.
    pub(crate) fn secret_header(
        &mut self,
        name: &str,
        value: &Secret<String>,
    ) -> Result<(), HttpConfigError> {
        let invalid = || HttpConfigError::Header(name.to_owned());
        let header = HeaderName::try_from(name).map_err(|_| invalid())?;
        let mut text = HeaderValue::from_str(value.expose()).map_err(|_| invalid())?;
        text.set_sensitive(true);
        self.headers.insert(header, text);
        self.mask(value);
        // `Bearer abc` may be quoted as `abc`.
        for word in value.expose().split_whitespace().filter(|word| word.len() >= 8) {
            self.secrets.push(Secret::new(word.to_owned()));
        }
        Ok(())
    }

    /// Sends `Authorization: SCHEME TOKEN` with each request.
    pub(crate) fn authorize(
        &mut self,
        scheme: &str,
        token: &Secret<String>,
    ) -> Result<(), HttpConfigError> {
        let value = Secret::new(format!("{scheme} {}", token.expose()));
        self.mask(token);
        self.secret_header(AUTHORIZATION.as_str(), &value)
    }

    /// Sends the user name and password, or the token with this scheme, of the credentials.
    pub(crate) fn basic_or_token(
        &mut self,
        credentials: &Credentials,
        scheme: &str,
    ) -> Result<(), HttpConfigError> {
        if let Some(token) = &credentials.token {
            self.authorize(scheme, token)?;
        }
        if let (Some(user), Some(password)) = (&credentials.username, &credentials.password) {
            self.mask(user);
            self.mask(password);
            let pair = format!("{}:{}", user.expose(), password.expose());
            self.authorize("Basic", &Secret::new(STANDARD.encode(pair)))?;
        }
        Ok(())
    }

    /// Never quotes this.
    pub(crate) fn mask(&mut self, secret: &Secret<String>) {
        if !secret.expose().is_empty() {
            self.secrets.push(secret.clone());
        }
    }

    /// Posts a body, connecting if need be, on a connection that is kept if the answer allows.
    pub(crate) async fn post(
        &mut self,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
        trace: &mut Trace,
    ) -> Result<Answer, Failure> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers.clone();
        self.send(request, trace).await
    }

    /// Sends a request, whose URI is path and query, with the headers that all requests have; otherwise
    /// as [`Self::post`].
    pub(crate) async fn send(
        &mut self,
        request: Request<Bytes>,
        trace: &mut Trace,
    ) -> Result<Answer, Failure> {
        timeout(REQUEST_DEADLINE, self.exchange(request, trace)).await.unwrap_or_else(|_| {
            self.connection = None;
            let message = format!("no answer within {REQUEST_DEADLINE:?}");
            Err(Failure::new(Remedy::Retry(None), message).in_doubt())
        })
    }

    async fn exchange(
        &mut self,
        request: Request<Bytes>,
        trace: &mut Trace,
    ) -> Result<Answer, Failure> {
        let length = request.body().len();
        let taken = Arc::new(AtomicBool::new(false));
        let mut request = request.map(|body| Outgoing::new(body, taken.clone()));
        for (name, value) in &self.headers {
            // The request's own are the stronger ones.
            request.headers_mut().entry(name).or_insert_with(|| value.clone());
        }
        let mut reused = self.connection.take();
        if let Some(connection) = &mut reused
            && connection.sender.ready().await.is_err()
        {
            reused = None;
        }
        let was_reused = reused.is_some();
        let mut connection = match reused {
            Some(connection) => connection,
            None => self.connect(trace).await?,
        };
        let started = Instant::now();
        trace.open_request = Some(OpenRequest { taken, length, begun: started });
        let answered = connection.sender.send_request(request.clone()).await;
        let response: Response<_> = match answered {
            Ok(response) => response,
            // The endpoint may have closed an idle connection at this very moment.
            Err(_) if was_reused => {
                trace.sent_again = true;
                connection = self.connect(trace).await?;
                match connection.sender.send_request(request).await {
                    Ok(response) => response,
                    Err(error) => return Err(self.broken(connection, &error).await),
                }
            }
            Err(error) => {
                let failure = self.broken(connection, &error).await;
                trace.tried(Step::Send, false, failure.message.clone(), started);
                return Err(failure);
            }
        };
        trace.open_request = None;
        trace.tried(Step::Send, true, format!("{length} bytes"), started);
        let (head, body) = response.into_parts();
        self.take_cookies(&head.headers);
        let (body, is_whole) = read(body, self.answer_limit).await;
        // A longer answer costs the connection, for its rest would stand before the next one.
        if is_whole {
            self.connection = Some(connection);
        }
        Ok(Answer { status: head.status, headers: head.headers, body, is_whole })
    }

    /// Sends cookies back from now on, beginning with none.
    pub(crate) fn begin_cookies(&mut self) {
        self.cookies = Some(BTreeMap::new());
        self.headers.remove(COOKIE);
    }

    fn take_cookies(&mut self, headers: &HeaderMap) {
        let Some(cookies) = &mut self.cookies else { return };
        for cookie in headers.get_all(SET_COOKIE) {
            let Some(cookie) = cookie.to_str().ok().filter(|text| text.len() <= LONGEST_COOKIE)
            else {
                continue;
            };
            let mut parts = cookie.split(';').map(str::trim);
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
                continue;
            };
            if parts.any(|part| part.eq_ignore_ascii_case("max-age=0")) {
                cookies.remove(name);
            } else if cookies.len() < MOST_COOKIES || cookies.contains_key(name) {
                cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let pairs: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        match HeaderValue::from_str(&pairs.join("; ")) {
            Ok(value) if !pairs.is_empty() => drop(self.headers.insert(COOKIE, value)),
            _ => drop(self.headers.remove(COOKIE)),
        }
    }

    async fn connect(&self, trace: &mut Trace) -> Result<Connection, Failure> {
        let stream = self.endpoint.connect(&self.egress, trace).await.map_err(retry)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| retry(format!("HTTP cannot be spoken: {error}")))?;
        let mut tasks = JoinSet::new();
        tasks.spawn(driver);
        Ok(Connection { sender, driver: tasks })
    }

    /// Why a new connection gave no answer.
    async fn broken(&self, mut connection: Connection, error: &hyper::Error) -> Failure {
        let mut reason = said_by(error);
        if error.is_canceled() {
            // It ended before it took the request, and has kept to itself why.
            let ended = timeout(DRIVER_ENDS_WITHIN, connection.driver.join_next()).await;
            if let Ok(Some(Ok(Err(cause)))) = ended {
                reason = said_by(&cause);
            }
        }
        let message = format!("the connection to the endpoint broke: {reason}");
        retry(self.endpoint.explain(message)).in_doubt()
    }

    /// What the status of an answer means.
    pub(crate) fn classify(&self, answer: &Answer) -> Result<(), Failure> {
        let (remedy, advice) = match answer.status.as_u16() {
            200..=299 => return Ok(()),
            300..=399 => {
                (Remedy::Park, ": redirects are not followed, so set the URL to its target")
            }
            401 | 403 => (Remedy::Park, ": check the drain's credentials"),
            400 if self.is_about_the_certificate(answer) => {
                return Err(Failure::new(Remedy::Park, self.endpoint.explain(self.said(answer))));
            }
            404 => (Remedy::Park, ": check the drain's URL"),
            402 | 405 | 407 | 410 | 415 | 421 | 451 => {
                (Remedy::Park, ": that is about the drain, not about its lines")
            }
            413 => (Remedy::Halve, ""),
            408 | 425 | 429 | 500..=599 => (Remedy::Retry(retry_after(&answer.headers)), ""),
            400..=499 => (Remedy::Isolate, ""),
            _ => (Remedy::Retry(None), ""),
        };
        Err(Failure::new(remedy, format!("{}{advice}", self.said(answer))))
    }

    /// nginx lets in who shows no client certificate, or a wrong one, and then refuses each request
    /// (nginx.org, `ngx_http_ssl_module`, "Error Processing").
    fn is_about_the_certificate(&self, answer: &Answer) -> bool {
        let says = |text: &[u8]| answer.body.windows(text.len()).any(|part| part == text);
        self.endpoint.asks_for_a_certificate() && says(b"SSL certificate")
    }

    /// What the endpoint answered, in words.
    pub(crate) fn said(&self, answer: &Answer) -> String {
        format!("the endpoint answered {}{}", answer.status, self.quote(&answer.body))
    }

    /// Text of the endpoint's, cut, without secrets and in parentheses; nothing, if it is empty.
    pub(crate) fn quote(&self, body: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(body).into_owned();
        // The longest first: one may be the beginning of another.
        let mut secrets: Vec<&str> =
            self.secrets.iter().map(|secret| secret.expose().as_str()).collect();
        secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
        for secret in secrets {
            text = text.replace(secret, "***");
            let escaped = Value::from(secret).to_string();
            text = text.replace(escaped.trim_matches('"'), "***");
        }
        let words: Vec<_> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
        let text: String = words.join(" ").trim().chars().take(QUOTE_LIMIT).collect();
        if text.is_empty() { text } else { format!(" ({text})") }
    }
}

/// The beginning of a body, and whether it is all of it.
async fn read(mut body: Incoming, limit: usize) -> (Bytes, bool) {
    let mut bytes = BytesMut::new();
    loop {
        match body.frame().await {
            None => return (bytes.freeze(), true),
            Some(Err(_)) => return (bytes.freeze(), false),
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                let room = limit - bytes.len();
                bytes.extend_from_slice(data.get(..room).unwrap_or(&data));
                if data.len() > room {
                    return (bytes.freeze(), false);
                }
            }
        }
    }
}

/// Path and query of a URL.
pub(crate) fn uri(url: &Url) -> Result<Uri, HttpConfigError> {
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}{query}", url.path()).parse().map_err(|_| HttpConfigError::Url)
}

fn retry(message: String) -> Failure {
    Failure::new(Remedy::Retry(None), message)
}

/// An error with its causes.
fn said_by(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Seconds only: the form with a date depends on two clocks.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}

/// How a kind of endpoint wants its requests, and what it answers.
pub(crate) trait Post: Send + Sync {
    /// The request's body from a batch's encoded lines.
    fn body(&self, batch: &Batch) -> Bytes {
        batch.bytes().clone()
    }

    /// Headers that depend on the batch and on the body as it is sent.
    fn headers(&self, _batch: &Batch, _body: &[u8]) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// What an answer means.
    fn classify(
        &self,
        client: &HttpClient,
        answer: &Answer,
        _batch: &Batch,
    ) -> Result<(), Failure> {
        client.classify(answer)
    }

    /// The object to keep of an encoded line that was refused, with its `id`.
    fn rejected(&self, line: &[u8]) -> Value;
}

/// Batches that the endpoint has said it has.
#[derive(Debug, Default)]
pub(crate) struct Taken(usize);

impl Taken {
    /// One more.
    pub(crate) const fn add(&mut self) {
        self.0 += 1;
    }

    /// Waits until there are some; answers how many, and forgets them.
    pub(crate) async fn next(&mut self) -> usize {
        if self.0 == 0 {
            std::future::pending::<()>().await;
        }
        std::mem::take(&mut self.0)
    }
}

/// Notes what came of an answer.
pub(crate) fn note<T>(
    trace: &mut Trace,
    answer: &Answer,
    started: Instant,
    outcome: &Result<T, Failure>,
) {
    let failure = outcome.as_ref().err();
    let detail = failure.map_or_else(|| answer.status.to_string(), ToString::to_string);
    trace.tried(Step::Answer, failure.is_none(), detail, started);
}

/// Lines that each have a comma in front, as a list between these.
pub(crate) fn json_list(before: &str, batch: &Batch, after: &str) -> Bytes {
    let lines: &[u8] = batch.bytes();
    let lines = lines.strip_prefix(b",").unwrap_or(lines);
    [before.as_bytes(), lines, after.as_bytes()].concat().into()
}

/// A line that is a JSON object, with its `id` from where that stands in it.
pub(crate) fn json_line(line: &[u8], id: &str) -> Value {
    let line = line.strip_prefix(b",").unwrap_or(line);
    let mut value: Value = serde_json::from_slice(line).unwrap_or_default();
    let id = value.pointer(id).cloned();
    if let (Some(object), Some(id)) = (value.as_object_mut(), id) {
        object.insert("id".to_owned(), id);
    }
    value
}

/// PostgreSQL keeps no NUL in JSON.
pub(crate) fn without_nul(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace('\0', "\u{2400}")),
        Value::Array(items) => items.into_iter().map(without_nul).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter();
            fields
                .map(|(name, value)| (name.replace('\0', "\u{2400}"), without_nul(value)))
                .collect()
        }
        other => other,
    }
}
