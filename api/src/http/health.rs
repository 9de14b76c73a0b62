//! Whether the process lives, whether it can serve, and what it offers.

use actix_web::HttpResponse;

use crate::app::AppError;
use crate::http::Shared;
use crate::http::openapi::{Failure, openapi_json, openapi_yaml};
use crate::http::problem::Problem;

/// Answers while the process runs.
#[utoipa::path(
    get, path = "/livez", tag = "health", operation_id = "live", security(()),
    responses((status = 204, description = "It runs."), Failure)
)]
pub(crate) async fn live() -> HttpResponse {
    HttpResponse::NoContent().finish()
}

/// Answers while the database does.
#[utoipa::path(
    get, path = "/readyz", tag = "health", operation_id = "ready", security(()),
    responses((status = 204, description = "The database answers."), Failure)
)]
pub(crate) async fn ready(app: Shared) -> Result<HttpResponse, Problem> {
    app.ready().await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Answers this description.
#[utoipa::path(
    get, path = "/openapi.yaml", tag = "health", operation_id = "describe_in_yaml",
    security(()),
    responses(
        (status = 200, description = "This API.", content_type = "application/yaml", body = String),
        Failure
    )
)]
pub(crate) async fn yaml() -> Result<HttpResponse, Problem> {
    let yaml = openapi_yaml().map_err(|error| AppError::Internal(error.to_string()))?;
    Ok(HttpResponse::Ok().content_type("application/yaml").body(yaml))
}

/// Answers this description.
#[utoipa::path(
    get, path = "/openapi.json", tag = "health", operation_id = "describe_in_json", security(()),
    responses((status = 200, description = "This API.", body = Object), Failure)
)]
pub(crate) async fn json() -> Result<HttpResponse, Problem> {
    let json = openapi_json().map_err(|error| AppError::Internal(error.to_string()))?;
    Ok(HttpResponse::Ok().content_type("application/json").body(json))
}
