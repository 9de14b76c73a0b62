//! Why a request is not taken, in the words of who asked: problem details (RFC 9457) for Spillway's own endpoint,
//! `google.rpc.Status` for OpenTelemetry's, codes for Splunk's.
//!
//! Invariant: nothing of what was sent is in it but what the sender needs to find the place.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;

use super::lines::{BadLine, Outcome};
use super::{otlp, splunk};
use crate::sources::Refused;

/// How long to wait where nothing says when it will be better.
const LATER: Duration = Duration::from_secs(5);

/// A request is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// Nobody knows who sends.
    #[error(
        "there is no token: send the log source's in the Authorization header, as `Bearer TOKEN`, `Splunk TOKEN` or the password of Basic"
    )]
    NoToken,
    /// The sender may not.
    #[error("{0}")]
    Token(Refused),
    /// More than a body may have.
    #[error("the body is larger than {0} bytes, as sent or decompressed; send less at a time")]
    TooLarge(usize),
    /// Its lines would take too much memory.
    #[error(
        "the lines and their fields are more than {0} bytes, counting 256 for each line and each resource, scope and stream of lines; send fewer at a time"
    )]
    TooManyLines(usize),
    /// It did not come in time.
    #[error("the body did not come in time; send less at a time")]
    TooSlow,
    /// It ended too early.
    #[error("the body was cut off; send it again")]
    CutOff,
    /// Not compressed as can be read here.
    #[error("Content-Encoding is not one of gzip, zstd, deflate and snappy")]
    Encoding,
    /// Not of a kind that is read here.
    #[error("Content-Type is not one of {0}")]
    MediaType(&'static str),
    /// It is not what it is said to be.
    #[error("the body cannot be read: {0}")]
    Unreadable(String),
    /// Nothing of it is good.
    #[error("none of its lines can be read; see `refused`")]
    NoneGood(Outcome),
    /// Nothing is in it.
    #[error("there is no event in it")]
    Nothing,
    /// The key is none.
    #[error("{0} is not 1 to 255 visible ASCII characters")]
    Key(&'static str),
    /// The key is another request's.
    #[error("the key was used with another body within the last day; send this one under another")]
    KeyUsed,
    /// It has sent too much.
    #[error("the quota is used up; send again in {} s", seconds(*.0))]
    OverQuota(Duration),
    /// Others have sent too much.
    #[error("too much is being taken in at once; send again in a moment")]
    Busy,
    /// Nobody can tell who sends.
    #[error("{}", Refused::Unread)]
    Unread,
    /// The stream does not take it.
    #[error("the lines could not be made durable in time; send them again")]
    NotDurable,
    /// There is nothing there.
    #[error(
        "there is nothing at this path; lines go to /logs, /v1/logs, /loki/api/v1/push or /services/collector"
    )]
    NoSuchPath,
    /// The path has other methods.
    #[error("this path does not take this method")]
    WrongMethod,
}

/// How an endpoint says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Problem details.
    Spillway,
    /// OpenTelemetry's, in JSON or else protobuf.
    Otlp {
        /// In JSON.
        json: bool,
    },
    /// Splunk's codes.
    Splunk,
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    refused: &'a [BadLine],
}

impl Refusal {
    /// The status, and the kind in one word and in several.
    pub(super) const fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::NoToken => (StatusCode::UNAUTHORIZED, "no-token", "No token"),
            Self::Token(Refused::Disabled) => (StatusCode::FORBIDDEN, "disabled", "Disabled"),
            Self::Token(_) => (StatusCode::UNAUTHORIZED, "wrong-token", "Wrong token"),
            Self::TooLarge(_) | Self::TooManyLines(_) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large")
            }
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "too-slow", "Too slow"),
            Self::CutOff | Self::Unreadable(_) | Self::Nothing | Self::Key(_) => {
                (StatusCode::BAD_REQUEST, "bad-request", "Bad request")
            }
            Self::NoneGood(_) => (StatusCode::BAD_REQUEST, "no-good-line", "No good line"),
            Self::Encoding | Self::MediaType(_) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-type", "Unsupported type")
            }
            Self::KeyUsed => (StatusCode::UNPROCESSABLE_ENTITY, "key-used", "Key used"),
            Self::OverQuota(_) => (StatusCode::TOO_MANY_REQUESTS, "over-quota", "Over quota"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "Busy"),
            Self::Unread => {
                (StatusCode::SERVICE_UNAVAILABLE, "sources-unread", "Log sources cannot be read")
            }
            Self::NotDurable => (StatusCode::SERVICE_UNAVAILABLE, "not-durable", "Not durable"),
            Self::NoSuchPath => (StatusCode::NOT_FOUND, "not-found", "Not found"),
            Self::WrongMethod => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed")
            }
        }
    }

    /// Whole seconds after which it may be tried again, if it may.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::OverQuota(wait) => Some(seconds(*wait)),
            Self::Busy => Some(1),
            Self::NotDurable | Self::Unread => Some(LATER.as_secs()),
            _ => None,
        }
    }

    /// Whether some of the body may still be on its way, which nobody is going to read.
    const fn is_early(&self) -> bool {
        matches!(
            self,
            Self::NoToken
                | Self::Token(_)
                | Self::TooLarge(_)
                | Self::TooSlow
                | Self::CutOff
                | Self::Encoding
                | Self::Key(_)
                | Self::Busy
                | Self::Unread
                | Self::NoSuchPath
                | Self::WrongMethod
        )
    }
}

/// At least one.
fn seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

impl Dialect {
    /// The answer.
    pub(super) fn refuse(self, refusal: &Refusal) -> HttpResponse {
        let (status, name, title) = refusal.kind();
        let mut response = match self {
            Self::Splunk => HttpResponse::build(splunk::status(refusal)),
            Self::Spillway | Self::Otlp { .. } => HttpResponse::build(status),
        };
        if let Some(seconds) = refusal.retry_after() {
            response.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.insert_header((WWW_AUTHENTICATE, "Bearer"));
        }
        if refusal.is_early() {
            response.force_close();
        }
        match self {
            Self::Splunk => response.json(splunk::said(refusal)),
            Self::Otlp { json } => otlp::refuse(&mut response, json, &refusal.to_string()),
            Self::Spillway => {
                let refused = match refusal {
                    Refusal::NoneGood(outcome) => outcome.refused.as_slice(),
                    _ => &[],
                };
                response.content_type("application/problem+json").json(Problem {
                    r#type: format!("urn:spillway:problem:{name}"),
                    title,
                    status: status.as_u16(),
                    detail: sentence(&refusal.to_string()),
                    refused,
                })
            }
        }
    }
}

/// With a capital and a full stop.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).chain(std::iter::once('.')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_whole_seconds_and_at_least_one() {
        for (wait, whole) in [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 2), (90_000, 90)] {
            assert_eq!(seconds(Duration::from_millis(wait)), whole);
        }
    }

    #[test]
    fn what_is_to_be_sent_again_says_when() {
        let wait = Duration::from_millis(1200);
        for refusal in
            [Refusal::OverQuota(wait), Refusal::Busy, Refusal::Unread, Refusal::NotDurable]
        {
            for dialect in [Dialect::Spillway, Dialect::Otlp { json: false }, Dialect::Splunk] {
                let response = dialect.refuse(&refusal);
                assert!(response.headers().contains_key(RETRY_AFTER), "{refusal} {dialect:?}");
                assert!(matches!(response.status().as_u16(), 429 | 503));
            }
        }
    }
}
