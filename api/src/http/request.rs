//! What handlers take out of a request.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE, IF_MATCH};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, web};
use serde::de::DeserializeOwned;

use crate::app::{AppError, Caller, sign_in};
use crate::http::Shared;
use crate::http::problem::Problem;
use crate::http::trace::SignedInUser;
use model::Secret;
use model::validation::parse_json;

/// Bytes in a body, at most.
pub(crate) const BODY_LIMIT: usize = 1024 * 1024;
const BODY_DEADLINE: Duration = Duration::from_secs(30);

type Extracted<T> = Pin<Box<dyn Future<Output = Result<T, Problem>>>>;

/// The user whose token the request carries.
pub(crate) struct SignedIn(pub(crate) Caller);

impl FromRequest for SignedIn {
    type Error = Problem;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let app = request
                .app_data::<Shared>()
                .ok_or_else(|| AppError::Internal("no app in the request".to_owned()))?;
            let token = bearer_token(&request).ok_or(AppError::NotSignedIn)?;
            let caller = sign_in::authenticate(app, token).await?;
            request.extensions_mut().insert(SignedInUser(caller.account.id));
            Ok(Self(caller))
        })
    }
}

/// The token that a request carries.
fn bearer_token(request: &HttpRequest) -> Option<&str> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The token itself, for who looks at it again later.
pub(crate) struct BearerToken(pub(crate) Secret<String>);

impl FromRequest for BearerToken {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let token = bearer_token(request).map(|token| Self(Secret::new(token.to_owned())));
        std::future::ready(token.ok_or_else(|| AppError::NotSignedIn.into()))
    }
}

/// A JSON body of at most 1 MiB, without fields that nobody knows.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = Problem;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let is_json = request.headers().get(CONTENT_TYPE).is_some_and(|value| {
            let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
            essence.trim().eq_ignore_ascii_case("application/json")
        });
        let bytes = web::Bytes::from_request(request, payload);
        Box::pin(async move {
            if !is_json {
                return Err(Problem::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "not-json",
                    "Not JSON",
                    "Send the body as JSON, with Content-Type: application/json.",
                ));
            }
            let bytes = match tokio::time::timeout(BODY_DEADLINE, bytes).await {
                Ok(Ok(bytes)) => bytes,
                Ok(Err(error))
                    if error.as_response_error().status_code() == StatusCode::PAYLOAD_TOO_LARGE =>
                {
                    return Err(Problem::new(
                        StatusCode::PAYLOAD_TOO_LARGE,
                        "body-too-large",
                        "Body too large",
                        format!("Send at most {BODY_LIMIT} bytes."),
                    ));
                }
                Ok(Err(_)) => return Err(Problem::bad_request("The body could not be read.")),
                Err(_) => {
                    return Err(Problem::new(
                        StatusCode::REQUEST_TIMEOUT,
                        "body-too-slow",
                        "Body too slow",
                        "The body did not arrive within 30 s. Send it again.",
                    ));
                }
            };
            // Apart, so that a body that is no JSON at all is not put down to a field.
            if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&bytes) {
                return Err(Problem::bad_request(format!(
                    "The body is not JSON: look at line {}, column {}.",
                    error.line(),
                    error.column()
                )));
            }
            let mut json = serde_json::Deserializer::from_slice(&bytes);
            parse_json("", &mut json).map(Body).map_err(|error| Problem::invalid(vec![error]))
        })
    }
}

/// A query string without parameters that nobody knows.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let parsed = web::Query::<T>::from_query(request.query_string());
        std::future::ready(parsed.map(|query| Self(query.into_inner())).map_err(|error| {
            Problem::bad_request(format!("The query string is not as it must be: {error}."))
        }))
    }
}

/// The revision that the caller expects, from If-Match; None if any will do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ExpectedRevision(pub(crate) Option<i64>);

impl FromRequest for ExpectedRevision {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let value = request.headers().get(IF_MATCH);
        std::future::ready(value.map_or(Ok(Self(None)), |value| {
            value.to_str().ok().and_then(expected_revision).ok_or_else(|| {
                Problem::bad_request("Send in If-Match one ETag as you got it, with its quotes.")
            })
        }))
    }
}

// An answer has one ETag, so a list of several is no use and is refused.
fn expected_revision(value: &str) -> Option<ExpectedRevision> {
    if value == "*" {
        return Some(ExpectedRevision(None));
    }
    let tag = value.strip_prefix('"')?.strip_suffix('"')?;
    // A tag that no answer ever had matches nothing (RFC 9110, section 13.1.1).
    let is_tag = tag.bytes().all(|byte| byte > b' ' && byte != b'"');
    is_tag.then(|| ExpectedRevision(Some(tag.parse().unwrap_or(-1))))
}

/// Where the request came from.
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// Whether X-Forwarded-For is to be believed.
#[derive(Clone, Copy)]
pub(crate) struct TrustForwardedFor(pub(crate) bool);

impl FromRequest for ClientAddress {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let trusted = request.app_data::<TrustForwardedFor>().is_some_and(|trust| trust.0);
        let forwarded = || {
            let value = request.headers().get_all("x-forwarded-for").last()?.to_str().ok()?;
            value.rsplit(',').next()?.trim().parse().ok()
        };
        let peer = request.peer_addr().map(|address| address.ip());
        let address = trusted.then(forwarded).flatten().or(peer);
        // Without any, all share one limit.
        std::future::ready(Ok(Self(address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_match_takes_an_etag_or_a_star() {
        let expected = |value| expected_revision(value).map(|expected| expected.0);
        assert_eq!(expected("\"7\""), Some(Some(7)));
        assert_eq!(expected("*"), Some(None));
        assert_eq!(expected("\"x\""), Some(Some(-1)));
        for bad in ["7", "", "W/\"7\"", "\"7\", \"8\"", "\"7"] {
            assert_eq!(expected_revision(bad), None, "{bad}");
        }
    }
}
