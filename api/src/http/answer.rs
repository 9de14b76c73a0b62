//! How answers look.

use actix_web::HttpResponse;
use actix_web::http::header::{ETAG, LOCATION};
use serde::Serialize;

/// Something that has a revision.
pub(crate) fn revised(revision: i64, body: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok().insert_header(etag(revision)).json(body)
}

/// Something new that has a revision, and its path.
pub(crate) fn created_revised(
    location: String,
    revision: i64,
    body: &impl Serialize,
) -> HttpResponse {
    HttpResponse::Created()
        .insert_header((LOCATION, location))
        .insert_header(etag(revision))
        .json(body)
}

/// Something new, and its path.
pub(crate) fn created(location: String, body: &impl Serialize) -> HttpResponse {
    HttpResponse::Created().insert_header((LOCATION, location)).json(body)
}

/// Done, nothing to say.
pub(crate) fn done() -> HttpResponse {
    HttpResponse::NoContent().finish()
}

fn etag(revision: i64) -> (actix_web::http::header::HeaderName, String) {
    (ETAG, format!("\"{revision}\""))
}
