//! Amazon S3, and servers that speak its protocol (Amazon S3 API reference, `PutObject`, "Error
//! responses"; user guide, "Naming Amazon S3 objects").
//!
//! - `PUT` of an object for each batch: JSON lines, compressed as a file, signed with AWS Signature
//!   Version 4 over the body, too. Objects have up to 5 GB.
//! - An object is `PREFIX/yyyy/mm/dd/hh/TIME-ID.jsonl.gz`, by its first line's time and the batch's id: a
//!   batch that is sent again replaces itself. A line that is recorded late is in a later hour's object.
//! - Where Amazon's bucket has Object Lock, a checksum must be sent ("Using Object Lock", "Uploads");
//!   some other servers refuse it as a header that they do not know.
//! - 503 `SlowDown` and other 5xx pass; 4xx are about the bucket, its keys or its rights, never about
//!   lines.

mod wire;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use destinations::{BodyFormat, Compression, Credentials, Keys, S3 as Config};
use http_body_util::BodyExt as _;
use hyper::{Request, Response};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::client::HttpRequest;
use object_store::path::Path;
use object_store::{Attribute, Attributes, ObjectStore as _, PutOptions, PutPayload, RetryConfig};
use serde_json::Value;
use tokio::sync::mpsc;
use url::Url;

use super::http::{
    Answer, HttpClient, HttpConfigError, Taken, json_line, note, pack, retry_after, without_nul,
};
use super::{Destination, Failure, Remedy};
use crate::batch::{Batch, BatchLimits, Gathering};
use crate::egress::Egress;
use crate::encode::Encode;
use crate::encode::json::JsonEncoder;
use crate::trace::Trace;
use wire::Exchange;

/// A refused signature is answered with all that was signed.
const ANSWER_LIMIT: usize = 16 * 1024;

/// A bucket.
pub(crate) struct S3 {
    store: AmazonS3,
    /// What the store wants to send.
    requests: mpsc::Receiver<Exchange>,
    client: HttpClient,
    prefix: String,
    extension: &'static str,
    options: PutOptions,
    compression: Compression,
    taken: Taken,
}

/// How much an object has.
pub(crate) fn limits(config: &Config) -> BatchLimits {
    let bytes = usize::try_from(config.max_bytes).unwrap_or(usize::MAX);
    BatchLimits { bytes, lines: usize::MAX }
}

/// How long lines wait for an object.
pub(crate) fn gathering(config: &Config) -> Gathering {
    Gathering { wait: Duration::from_secs(config.max_seconds.into()), hourly: true }
}

/// The encoder and the destination.
pub(crate) fn prepare(
    config: &Config,
    credentials: &Credentials,
    egress: Egress,
) -> Result<(Box<dyn Encode>, S3), HttpConfigError> {
    let url = Url::parse(&config.address()).map_err(|_| HttpConfigError::Url)?;
    let mut client = HttpClient::new(&url, config.ca_certificates.as_deref(), credentials, egress)?;
    client.answer_limit = ANSWER_LIMIT;
    let Credentials { access_key_id, secret_access_key, session_token, .. } = credentials;
    for secret in [access_key_id, secret_access_key, session_token].into_iter().flatten() {
        client.mask(secret);
    }
    let (store, requests) = store(config, credentials)?;
    let (content_type, extension) = match config.compression {
        Compression::Gzip => ("application/gzip", "jsonl.gz"),
        Compression::Zstd => ("application/zstd", "jsonl.zst"),
        Compression::None => ("application/x-ndjson", "jsonl"),
    };
    let mut attributes = Attributes::new();
    attributes.insert(Attribute::ContentType, content_type.into());
    if let Some(class) = &config.storage_class {
        attributes.insert(Attribute::StorageClass, class.clone().into());
    }
    let s3 = S3 {
        store,
        requests,
        client,
        prefix: config.prefix.clone(),
        extension,
        options: attributes.into(),
        compression: config.compression,
        taken: Taken::default(),
    };
    Ok((Box::new(JsonEncoder::new(BodyFormat::JsonLines, Keys::Spillway)), s3))
}

/// What makes and signs requests, with the credentials of the drain and no others; its requests come out
/// of the other end.
fn store(
    config: &Config,
    credentials: &Credentials,
) -> Result<(AmazonS3, mpsc::Receiver<Exchange>), HttpConfigError> {
    let Credentials { access_key_id, secret_access_key, session_token, .. } = credentials;
    let key_id = access_key_id.as_ref().ok_or(HttpConfigError::Missing("access_key_id"))?;
    let key = secret_access_key.as_ref().ok_or(HttpConfigError::Missing("secret_access_key"))?;
    let (wire, requests) = wire::open();
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&config.bucket)
        .with_region(&config.region)
        // The bucket is in the address, in one way or the other.
        .with_endpoint(config.address())
        .with_virtual_hosted_style_request(true)
        .with_access_key_id(key_id.expose())
        .with_secret_access_key(key.expose())
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        .with_http_connector(wire);
    if let Some(token) = session_token {
        builder = builder.with_token(token.expose());
    }
    if config.endpoint.is_none() {
        builder = builder.with_checksum_algorithm(Checksum::SHA256);
    }
    let unusable = |error: object_store::Error| HttpConfigError::Bucket(error.to_string());
    for (name, value) in [
        ("aws_server_side_encryption", config.encryption.map(destinations::Encryption::as_str)),
        ("aws_sse_kms_key_id", config.kms_key_id.as_deref()),
    ] {
        if let Some(value) = value {
            let name: AmazonS3ConfigKey = name.parse().map_err(unusable)?;
            builder = builder.with_config(name, value);
        }
    }
    Ok((builder.build().map_err(unusable)?, requests))
}

#[async_trait]
impl Destination for S3 {
    async fn send(&mut self, batch: &Batch, trace: &mut Trace) -> Result<(), Failure> {
        let body = pack(self.compression, batch.bytes())?;
        let path = Path::parse(name(&self.prefix, batch, self.extension))
            .map_err(|error| Failure::new(Remedy::Park, error.to_string()))?;
        let Self { store, requests, client, options, .. } = self;
        let mut put = store.put_opts(&path, PutPayload::from(body), options.clone());
        let mut outcome = None;
        let made = loop {
            // Losing an arm is safe: the put goes on in the next turn, and what is taken out of the queue
            // is sent below.
            tokio::select! {
                made = &mut put => break made,
                Some(Exchange { request, reply }) = requests.recv() => {
                    let answer = send(client, request, trace).await;
                    reply.answer(answer.as_ref().ok().and_then(response));
                    outcome = Some(answer);
                }
            }
        };
        let Some(answer) = outcome else {
            let reason = made.err().map(|error| error.to_string()).unwrap_or_default();
            let said = client.quote(reason.as_bytes());
            return Err(Failure::new(Remedy::Park, format!("the request cannot be made{said}")));
        };
        let answer = answer?;
        let started = Instant::now();
        let outcome = classify(client, &answer);
        note(trace, &answer, started, &outcome);
        outcome?;
        self.taken.add();
        Ok(())
    }

    async fn confirmed(&mut self, _pressed: bool) -> Result<usize, Failure> {
        Ok(self.taken.next().await)
    }

    fn rejected(&self, line: &[u8]) -> Value {
        without_nul(json_line(line, "/id"))
    }
}

/// Sends what the store has signed.
async fn send(
    client: &mut HttpClient,
    request: HttpRequest,
    trace: &mut Trace,
) -> Result<Answer, Failure> {
    let unusable = |_| Failure::new(Remedy::Park, "the request has no body");
    let (mut head, body) = request.into_parts();
    let body = body.collect().await.map_err(unusable)?.to_bytes();
    // The client knows the server.
    head.uri = head.uri.path_and_query().cloned().map(Into::into).unwrap_or_default();
    client.send(Request::from_parts(head, body), trace).await
}

/// An answer, for the store.
fn response(answer: &Answer) -> Option<object_store::client::HttpResponse> {
    let mut response = Response::builder().status(answer.status);
    response.headers_mut()?.clone_from(&answer.headers);
    response.body(answer.body.clone().into()).ok()
}

/// The name of a batch's object.
fn name(prefix: &str, batch: &Batch, extension: &str) -> String {
    let at = batch.begun_at().date_time();
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second, nanos) = (at.hour(), at.minute(), at.second(), at.nanosecond());
    let slash = if prefix.is_empty() { "" } else { "/" };
    format!(
        "{prefix}{slash}{year:04}/{month:02}/{day:02}/{hour:02}/\
         {year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{nanos:09}Z-{}.{extension}",
        batch.id()
    )
}

fn classify(client: &HttpClient, answer: &Answer) -> Result<(), Failure> {
    if answer.status.is_success() {
        return Ok(());
    }
    let body = String::from_utf8_lossy(&answer.body);
    let [code, message] = ["Code", "Message"].map(|name| element(&body, name));
    let (remedy, advice) = meaning(answer.status.as_u16(), code);
    let remedy = match remedy {
        Remedy::Retry(_) => Remedy::Retry(retry_after(&answer.headers)),
        other => other,
    };
    let words = if code.is_empty() { body.to_string() } else { format!("{code}: {message}") };
    let said = client.quote(words.as_bytes());
    let message = format!("the endpoint answered {}{said}{advice}", answer.status);
    Err(Failure::new(remedy, message))
}

/// What to do about an answer, and what its owner can do.
fn meaning(status: u16, code: &str) -> (Remedy, &'static str) {
    let park = |advice| (Remedy::Park, advice);
    match (status, code) {
        (413, _) | (_, "EntityTooLarge") => (Remedy::Halve, ""),
        (_, "NoSuchBucket") => park(": check the drain's bucket, region and endpoint"),
        (_, "AccessDenied") => park(": allow the access key s3:PutObject on the bucket"),
        (401, _)
        | (
            _,
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "InvalidToken"
            | "TokenRefreshRequired",
        ) => park(": check the drain's credentials"),
        (_, "RequestTimeTooSkewed") => park(": the worker's clock and the endpoint's differ"),
        (301, _)
        | (
            _,
            "PermanentRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException",
        ) => park(": check the drain's region"),
        (_, code) if code.starts_with("KMS.") => park(": check the drain's encryption key"),
        // Damaged or late on the way, or a bucket whose name is not known everywhere yet.
        (
            _,
            "BadDigest"
            | "IncompleteBody"
            | "OperationAborted"
            | "RequestTimeout"
            | "SlowDown"
            | "TemporaryRedirect"
            | "XAmzContentSHA256Mismatch",
        )
        | (408 | 425 | 429, _) => (Remedy::Retry(None), ""),
        (300..=499 | 501, _) => park(": that is about the drain, not about its lines"),
        _ => (Remedy::Retry(None), ""),
    }
}

/// The text of the first element of this name.
fn element<'a>(xml: &'a str, name: &str) -> &'a str {
    let rest = xml.split_once(&format!("<{name}>")).map(|(_, rest)| rest);
    rest.and_then(|rest| rest.split_once("</")).map_or("", |(text, _)| text)
}

#[cfg(test)]
mod tests;
