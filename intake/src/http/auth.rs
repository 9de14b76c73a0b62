//! Who sends: the token in a request's head.

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::time::timeout;

use super::take::DEADLINE;
use super::{Refusal, Shared};
use crate::sources::{Refused, Source, is_token};

/// The log source whose token the request has. A refusal is counted.
pub(super) async fn source(shared: &Shared, request: &HttpRequest) -> Result<Arc<Source>, Refusal> {
    let header = request.headers().get(AUTHORIZATION).and_then(|header| header.to_str().ok());
    let Some(token) = header.and_then(token) else {
        shared.intake.counts.unknown();
        return Err(Refusal::NoToken);
    };
    let sources = shared.intake.sources.clone();
    let found = async move { timeout(DEADLINE, sources.by_token(&token)).await };
    match shared.elsewhere(found).await? {
        // One that is not known is asked for, and the database does not answer.
        Ok(Err(Refused::Unread)) | Err(_) => Err(Refusal::Unread),
        Ok(found) => found.map_err(Refusal::Token),
    }
}

/// The token as `Bearer`, as Splunk's senders have it, or as Basic's password or user name.
fn token(header: &str) -> Option<String> {
    let (scheme, rest) = header.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("splunk") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    let token = if is_token(user) && !is_token(password) { user } else { password };
    Some(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_in_every_scheme() {
        let a_token = format!("s{}", "a".repeat(31));
        let basic = |user: &str, password: &str| {
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        };
        for header in [
            format!("Bearer {a_token}"),
            format!("bearer  {a_token}"),
            format!("Splunk {a_token}"),
            basic("anyone", &a_token),
            basic("", &a_token),
            basic(&a_token, ""),
            basic(&a_token, "x"),
        ] {
            assert_eq!(token(&header).as_ref(), Some(&a_token), "{header}");
        }
        for header in ["", "Bearer", "Digest x", "Basic !", "Basic YQ=="] {
            assert_eq!(token(header), None, "{header}");
        }
    }
}
