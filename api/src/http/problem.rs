//! Failures as problem details (RFC 9457).
//!
//! Invariant: what only operators may know goes to the log, here and once; a caller gets the request id to
//! quote.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::AppError;
use crate::http::trace;
use model::validation::FieldError;

const INVALID: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;
const NOT_FOUND: &str =
    "There is no such thing, or you are not a member of its organization. Check the id.";

/// A failure (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Body {
    /// Names the kind of failure; stable.
    #[schema(example = "urn:spillway:problem:not-found")]
    r#type: String,
    /// The kind of failure in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What happened and what to do.
    detail: String,
    /// This request's id, as in the server's log.
    request_id: Uuid,
    /// Which fields are wrong, for `invalid-input`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Field>,
}

/// A wrong field.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProblemField)]
pub(crate) struct Field {
    /// Its path in the body, with dots.
    field: String,
    /// What is wrong and what is allowed.
    detail: String,
}

/// A failure to be rendered.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    name: &'static str,
    title: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    retry_after: Option<u64>,
}

impl Problem {
    /// A failure with nothing special about it.
    pub(crate) fn new(
        status: StatusCode,
        name: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self { status, name, title, detail: detail.into(), errors: Vec::new(), retry_after: None }
    }

    /// The request cannot be understood.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "Bad request", detail)
    }

    /// Fields are wrong.
    pub(crate) fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = "Some fields are not as they must be; see `errors`.";
        Self { errors, ..Self::new(INVALID, "invalid-input", "Invalid input", detail) }
    }

    /// There is nothing there.
    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", NOT_FOUND)
    }
}

impl From<AppError> for Problem {
    fn from(error: AppError) -> Self {
        if let AppError::Store(_) | AppError::Stream(_) | AppError::Internal(_) = error {
            tracing::error!(request_id = %trace::request_id(), %error, "a request failed");
        }
        let (status, name, title) = kind(&error);
        let retry_after = match &error {
            AppError::TooMany { retry_after } => Some(retry_after.as_secs() + 1),
            AppError::Busy => Some(2),
            AppError::Store(_) | AppError::Stream(_) => Some(5),
            _ => None,
        };
        let detail = detail(&error, retry_after);
        match error {
            AppError::NotFound => Self::not_found(),
            AppError::Invalid(errors) => Self::invalid(errors),
            _ => Self { retry_after, ..Self::new(status, name, title, detail) },
        }
    }
}

fn kind(error: &AppError) -> (StatusCode, &'static str, &'static str) {
    match error {
        AppError::NotFound => (StatusCode::NOT_FOUND, "not-found", "Not found"),
        AppError::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden", "Not allowed"),
        AppError::NotSignedIn => (StatusCode::UNAUTHORIZED, "not-signed-in", "Not signed in"),
        AppError::SignInFailed => (StatusCode::UNAUTHORIZED, "sign-in-failed", "Sign-in failed"),
        AppError::RefreshFailed => (StatusCode::UNAUTHORIZED, "refresh-failed", "Refresh failed"),
        AppError::TooMany { .. } => {
            (StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests")
        }
        AppError::Invalid(_) => (INVALID, "invalid-input", "Invalid input"),
        AppError::HandleTaken => (StatusCode::CONFLICT, "handle-taken", "Handle taken"),
        AppError::KeyRegistered => (StatusCode::CONFLICT, "key-registered", "Key registered"),
        AppError::CertificateTaken => {
            (StatusCode::CONFLICT, "certificate-taken", "Certificate taken")
        }
        AppError::NotEmpty => (StatusCode::CONFLICT, "not-empty", "Not empty"),
        AppError::RevisionChanged => {
            (StatusCode::PRECONDITION_FAILED, "revision-changed", "Changed meanwhile")
        }
        AppError::NoEdge => (StatusCode::SERVICE_UNAVAILABLE, "no-edge", "No SSH edge is running"),
        AppError::NoWorker => {
            (StatusCode::GATEWAY_TIMEOUT, "no-worker", "No drain worker answered")
        }
        AppError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "Busy"),
        AppError::Store(_) | AppError::Stream(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "database-failed", "Unavailable")
        }
        AppError::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error"),
    }
}

/// What happened and what to do, without what a caller may not know.
fn detail(error: &AppError, retry_after: Option<u64>) -> String {
    let words = match error {
        AppError::NotFound => NOT_FOUND,
        AppError::Forbidden(forbidden) => {
            return format!("In this organization {forbidden}. Ask an owner or admin.");
        }
        AppError::NotSignedIn => {
            "Send a valid token in the Authorization header: Bearer TOKEN. Sign in, or refresh, for \
             a new one."
        }
        AppError::SignInFailed => "The e-mail address and the password do not belong together.",
        AppError::RefreshFailed => {
            "The refresh token is unknown, used, ended or expired. Sign in again."
        }
        AppError::TooMany { .. } => {
            let seconds = retry_after.unwrap_or_default();
            return format!("Too many sign-ins were tried. Try again in {seconds} s.");
        }
        AppError::Invalid(_) => "Some fields are not as they must be; see `errors`.",
        AppError::HandleTaken => {
            "Something of this kind has this handle here already. Choose another."
        }
        AppError::KeyRegistered => {
            "This SSH key is registered already, and a key signs in as one user only. Make another."
        }
        AppError::CertificateTaken => {
            "A client certificate is that of another log source already, and it says whose lines come. Make \
             another, or take it away there."
        }
        AppError::NotEmpty => {
            "The environment has apps, databases or log drains. Delete them first."
        }
        AppError::RevisionChanged => {
            "It was changed or deleted since you read it. Read it again, and send its new ETag in \
             If-Match."
        }
        AppError::NoEdge => {
            "No SSH edge has been seen in the last 15 s. Start one, or see why it cannot reach the \
             database."
        }
        AppError::NoWorker => {
            "No drain worker answered within 10 s. Check that one is running and reaches the \
             database, then test again."
        }
        AppError::Busy => "The server has too much to do at once. Try again in a moment.",
        AppError::Store(_) | AppError::Stream(_) => {
            "The database does not answer as it should. Try again; if it stays so, give your \
             operator the request id."
        }
        AppError::Internal(_) => {
            "This is a fault of the server. Give your operator the request id."
        }
    };
    words.to_owned()
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.title, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        response.content_type("application/problem+json");
        if let Some(seconds) = self.retry_after {
            response.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((WWW_AUTHENTICATE, "Bearer"));
        }
        response.json(Body {
            r#type: format!("urn:spillway:problem:{}", self.name),
            title: self.title,
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            request_id: trace::request_id(),
            errors: self
                .errors
                .iter()
                .map(|FieldError { field, detail }| Field {
                    field: field.clone(),
                    detail: detail.clone(),
                })
                .collect(),
        })
    }
}

/// No such path.
pub(crate) async fn no_such_path() -> Result<HttpResponse, Problem> {
    Err(Problem::new(
        StatusCode::NOT_FOUND,
        "not-found",
        "Not found",
        "There is nothing at this path. /openapi.yaml lists every path.",
    ))
}

/// The path has other methods.
pub(crate) async fn method_not_allowed() -> Result<HttpResponse, Problem> {
    Err(Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "Method not allowed",
        "This path does not take this method. /openapi.yaml lists what it takes.",
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_problem_says_what_to_do_and_hides_causes() {
        let cause = "relation \"users\" does not exist";
        for error in [
            AppError::NotFound,
            AppError::NotSignedIn,
            AppError::SignInFailed,
            AppError::TooMany { retry_after: Duration::from_secs(3) },
            AppError::RevisionChanged,
            AppError::NoEdge,
            AppError::NoWorker,
            AppError::Busy,
            AppError::Store(store::StoreError::Invalid(cause.to_owned())),
            AppError::Stream(cause.to_owned()),
            AppError::Internal(cause.to_owned()),
        ] {
            let problem = Problem::from(error);
            assert!(problem.detail.len() > 20 && problem.detail.ends_with('.'));
            assert!(!problem.detail.contains("users"));
        }
    }
}
