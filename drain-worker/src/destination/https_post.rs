//! HTTPS: a POST per batch. A 2xx is the endpoint's word that it has the lines.
//!
//! Invariant: of what an endpoint answers, at most [`ANSWER_LIMIT`] bytes are read, and a drain's
//! own headers are masked in them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
    USER_AGENT,
};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use libdeflater::{CompressionLvl, Compressor};
use model::Secret;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::timeout;
use url::{Position, Url};

use super::{Destination, Failure, Remedy};
use crate::batch::Batch;
use crate::egress::Egress;
use crate::encode::json::JsonFormat;
use crate::tls::{Endpoint, TlsConfigError};
use crate::trace::{Step, Trace};

const REQUEST_DEADLINE: Duration = Duration::from_mins(1);
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(5);
const ANSWER_LIMIT: usize = 4096;
/// The part of an answer that goes into an error message.
const QUOTE_LIMIT: usize = 300;
/// Names that are this process's to set, or the connection's.
const OWN_HEADERS: [&str; 8] = [
    "host",
    "connection",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "upgrade",
    "spillway-batch-id",
];

/// `destination` of a drain of kind `https_post`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpsPostConfig {
    url: String,
    #[serde(default = "json_lines")]
    pub(crate) format: JsonFormat,
    #[serde(default)]
    compression: Compression,
    #[serde(default)]
    ca_certificates: Option<String>,
}

const fn json_lines() -> JsonFormat {
    JsonFormat::JsonLines
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Compression {
    #[default]
    Gzip,
    None,
}

/// The drain's own headers: all of them are secret.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpsPostCredentials {
    #[serde(default)]
    headers: BTreeMap<String, Secret<String>>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpsConfigError {
    #[error("the URL must begin with https:// and name a host")]
    Url,
    #[error("put user and password into an Authorization header instead of the URL")]
    UserInfo,
    #[error("the header `{0}` cannot be sent: its name or value has characters that HTTP forbids")]
    Header(String),
    #[error("the header `{0}` is set by Spillway")]
    OwnHeader(String),
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
}

/// A web server that takes POSTs.
pub(crate) struct HttpsPost {
    endpoint: Endpoint,
    egress: Egress,
    uri: Uri,
    headers: HeaderMap,
    /// What must not be quoted.
    secrets: Vec<Secret<String>>,
    format: JsonFormat,
    compressor: Option<Compressor>,
    connection: Option<Connection>,
    delivered: usize,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    // Moves the bytes; ends when this is dropped.
    _driver: JoinSet<()>,
}

impl HttpsPost {
    pub(crate) fn new(
        config: &HttpsPostConfig,
        credentials: &HttpsPostCredentials,
        egress: Egress,
    ) -> Result<Self, HttpsConfigError> {
        let url = Url::parse(&config.url).map_err(|_| HttpsConfigError::Url)?;
        let host =
            url.host_str().filter(|_| url.scheme() == "https").ok_or(HttpsConfigError::Url)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(HttpsConfigError::UserInfo);
        }
        #[allow(clippy::string_slice, reason = "the URL's own positions are within it")]
        let (path, authority) = (
            &url[Position::BeforePath..Position::AfterQuery],
            &url[Position::BeforeHost..Position::AfterPort],
        );
        let uri: Uri = path.parse().map_err(|_| HttpsConfigError::Url)?;
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(authority).map_err(|_| HttpsConfigError::Url)?);
        headers.insert(USER_AGENT, HeaderValue::from_static("spillway"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(config.format.content_type()));
        let mut secrets = Vec::new();
        for (name, value) in &credentials.headers {
            if OWN_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
                return Err(HttpsConfigError::OwnHeader(name.clone()));
            }
            let invalid = |_| HttpsConfigError::Header(name.clone());
            let header = HeaderName::try_from(name.as_str())
                .map_err(|_| HttpsConfigError::Header(name.clone()))?;
            let mut text = HeaderValue::from_str(value.expose()).map_err(invalid)?;
            text.set_sensitive(true);
            headers.insert(header, text);
            secrets.push(value.clone());
            // `Bearer abc` may be quoted as `abc`.
            let words = value.expose().split_whitespace().filter(|word| word.len() >= 8);
            secrets.extend(words.map(|word| Secret::new(word.to_owned())));
        }
        let gzip = config.compression == Compression::Gzip;
        if gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let port = url.port_or_known_default().unwrap_or(443);
        Ok(Self {
            endpoint: Endpoint::new(host, port, host, config.ca_certificates.as_deref())?,
            egress,
            uri,
            headers,
            secrets,
            format: config.format,
            // Level 1: 281 MB/s at a ratio of 3.85 on logs; more costs more than it saves.
            compressor: gzip.then(|| Compressor::new(CompressionLvl::new(1).unwrap_or_default())),
            connection: None,
            delivered: 0,
        })
    }

    fn request(&mut self, batch: &Batch) -> Result<Request<Full<Bytes>>, Failure> {
        let failed = |message: String| Failure::new(Remedy::Retry(None), message);
        let mut body = self.format.body(batch.bytes());
        if let Some(compressor) = &mut self.compressor {
            let mut packed = vec![0; compressor.gzip_compress_bound(body.len())];
            let length = compressor
                .gzip_compress(&body, &mut packed)
                .map_err(|error| failed(format!("the batch cannot be compressed: {error}")))?;
            packed.truncate(length);
            body = packed;
        }
        let mut request = Request::post(self.uri.clone())
            .header("spillway-batch-id", batch.id())
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| failed(format!("the request cannot be made: {error}")))?;
        request.headers_mut().extend(self.headers.clone());
        Ok(request)
    }

    async fn connect(&self, trace: &mut Trace) -> Result<Connection, Failure> {
        let failed = |message| Failure::new(Remedy::Retry(None), message);
        let stream = self.endpoint.connect(&self.egress, trace).await.map_err(failed)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(format!("HTTP cannot be spoken: {error}")))?;
        let mut tasks = JoinSet::new();
        // Its error is the request's, too.
        tasks.spawn(async move { drop(driver.await) });
        Ok(Connection { sender, _driver: tasks })
    }

    /// Sends the batch on a connection that is kept if the answer allows.
    async fn exchange(
        &mut self,
        batch: &Batch,
        trace: &mut Trace,
    ) -> Result<(StatusCode, HeaderMap, Bytes), Failure> {
        let request = self.request(batch)?;
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
        let answered = connection.sender.send_request(request).await;
        let response: Response<_> = match answered {
            Ok(response) => response,
            // The endpoint may have closed an idle connection at this very moment.
            Err(_) if was_reused => {
                let request = self.request(batch)?;
                connection = self.connect(trace).await?;
                connection.sender.send_request(request).await.map_err(|error| broken(&error))?
            }
            Err(error) => {
                trace.tried(Step::Send, false, error.to_string(), started);
                return Err(broken(&error));
            }
        };
        let detail = format!("{} line(s), {} bytes", batch.lines(), batch.bytes().len());
        trace.tried(Step::Send, true, detail, started);
        let (head, body) = response.into_parts();
        // A longer answer costs the connection, for its rest would stand before the next one.
        let body = Limited::new(body, ANSWER_LIMIT).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).inspect(|_| {
            self.connection = Some(connection);
        });
        Ok((head.status, head.headers, body.unwrap_or_default()))
    }

    /// What an answer means.
    fn classify(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(), Failure> {
        let answer = format!("the endpoint answered {status}{}", self.quote(body));
        let (remedy, advice) = match status.as_u16() {
            200..=299 => return Ok(()),
            300..=399 => {
                (Remedy::Park, ": redirects are not followed, so set the URL to its target")
            }
            401 | 403 => (Remedy::Park, ": check the drain's headers"),
            404 => (Remedy::Park, ": check the drain's URL"),
            413 => (Remedy::Halve, ""),
            408 | 425 | 429 | 500..=599 => (Remedy::Retry(retry_after(headers)), ""),
            400..=499 => (Remedy::Isolate, ""),
            _ => (Remedy::Retry(None), ""),
        };
        Err(Failure::new(remedy, format!("{answer}{advice}")))
    }

    fn quote(&self, body: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(body).into_owned();
        for secret in &self.secrets {
            if !secret.expose().is_empty() {
                text = text.replace(secret.expose().as_str(), "***");
            }
        }
        let words: Vec<_> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
        let text: String = words.join(" ").trim().chars().take(QUOTE_LIMIT).collect();
        if text.is_empty() { text } else { format!(" ({text})") }
    }
}

fn broken(error: &hyper::Error) -> Failure {
    Failure::new(Remedy::Retry(None), format!("the connection to the endpoint broke: {error}"))
}

/// Seconds only: the form with a date depends on two clocks.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}

#[async_trait]
impl Destination for HttpsPost {
    async fn send(&mut self, batch: &Batch, trace: &mut Trace) -> Result<(), Failure> {
        let (status, headers, body) =
            timeout(REQUEST_DEADLINE, self.exchange(batch, trace)).await.map_err(|_| {
                self.connection = None;
                let message = format!("no answer within {REQUEST_DEADLINE:?}");
                Failure::new(Remedy::Retry(None), message)
            })??;
        let started = Instant::now();
        let outcome = self.classify(status, &headers, &body);
        let detail = outcome.as_ref().err().map_or_else(|| status.to_string(), ToString::to_string);
        trace.tried(Step::Answer, outcome.is_ok(), detail, started);
        outcome?;
        self.delivered += 1;
        Ok(())
    }

    async fn confirmed(&mut self, _pressed: bool) -> Result<usize, Failure> {
        if self.delivered == 0 {
            std::future::pending::<()>().await;
        }
        Ok(std::mem::take(&mut self.delivered))
    }

    fn rejected(&self, line: &[u8]) -> serde_json::Value {
        // PostgreSQL keeps no NUL in JSON, where it is always written so. A backslash before it
        // would make it text, but then the escape in front of it is two backslashes.
        let object = self.format.object(line);
        let mut value: serde_json::Value = serde_json::from_slice(object).unwrap_or_default();
        for field in value.as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
            if let serde_json::Value::String(text) = field
                && text.contains('\0')
            {
                *text = text.replace('\0', "\u{2400}");
            }
        }
        value
    }
}
