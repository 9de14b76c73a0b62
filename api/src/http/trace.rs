//! One log line per request, under an id that the answer carries, too.
//!
//! Invariant: nothing that a caller chooses is logged but the method: no path, query, header or body.

use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _};
use model::{Id, User};
use uuid::Uuid;

tokio::task_local! {
    static REQUEST_ID: Uuid;
}

/// The caller's id, as the log line finds it.
pub(crate) struct SignedInUser(pub(crate) Id<User>);

/// The id of the request that this task serves; nil outside of one.
pub(crate) fn request_id() -> Uuid {
    REQUEST_ID.try_with(|id| *id).unwrap_or_default()
}

/// Gives a request its id, and logs how it went.
pub(crate) async fn request(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let began = Instant::now();
    let id = Uuid::now_v7();
    let outcome = REQUEST_ID.scope(id, next.call(request)).await;
    outcome.map(|mut response| {
        let request = response.request();
        let user = request.extensions().get::<SignedInUser>().map(|user| user.0.to_string());
        tracing::info!(
            method = request.method().as_str(),
            route = request.match_pattern().unwrap_or_default(),
            status = response.status().as_u16(),
            duration_ms = began.elapsed().as_secs_f64() * 1000.0,
            request_id = %id,
            user_id = user,
            "request"
        );
        if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
            response.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
        }
        response
    })
}
