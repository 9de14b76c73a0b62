//! `/v1/log-sources`.

use actix_web::{HttpResponse, web};
use model::{Environment, Handle, Id, LogSource as LogSourceKind, Secret};
use serde::Serialize;
use store::log_sources::LogSource as Stored;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::log_sources::{self, LogSourcePatch, LogSourceToCreate, Rotation};
use crate::http::openapi::{Failure, IfMatch};
use crate::http::page::{self, HandleQuery, Page};
use crate::http::problem::Problem;
use crate::http::request::{Body, ExpectedRevision, Query, SignedIn};
use crate::http::{Shared, answer};

/// A log source: the right to write lines of an app or a database, and what has come in.
#[derive(Serialize, ToSchema)]
struct LogSource {
    #[schema(value_type = Uuid)]
    id: Id<LogSourceKind>,
    #[schema(value_type = Uuid)]
    environment_id: Id<Environment>,
    #[schema(value_type = String)]
    handle: Handle,
    /// The app whose lines it writes; or else there is a database.
    app_id: Option<uuid::Uuid>,
    /// The database whose lines it writes.
    database_id: Option<uuid::Uuid>,
    /// What its token begins with; the rest is never shown.
    token_key: String,
    /// Its token: shown where it was just made, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// Until when the token before is good; null: it was never rotated.
    #[serde(with = "time::serde::rfc3339::option")]
    previous_token_until: Option<OffsetDateTime>,
    /// SHA-256 of the client certificates that stand for the token, in hex.
    client_certificates: Vec<String>,
    /// Bytes that it may send in a second; null: what the intake's settings say.
    bytes_per_second: Option<i64>,
    /// Bytes that it may send at once; null: what the intake's settings say.
    burst_bytes: Option<i64>,
    /// Since when nothing is taken of it; null: it is not disabled.
    #[serde(with = "time::serde::rfc3339::option")]
    disabled_at: Option<OffsetDateTime>,
    /// Lines that came in and are durable. All counts are added up every two seconds.
    lines: i64,
    /// Their bytes.
    bytes: i64,
    /// Messages and requests with a wrong or an old token, or while it is disabled.
    refused: i64,
    /// Lines that could not be read as what they were said to be.
    malformed: i64,
    /// Datagrams over the quota, or while the log stream could not take them.
    dropped: i64,
    /// How often a sender was told to wait, or made to.
    throttled: i64,
    /// Lines that a log drain of the same environment had delivered; they are not taken again.
    looped: i64,
    #[serde(with = "time::serde::rfc3339::option")]
    last_line_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    last_refused_at: Option<OffsetDateTime>,
    /// Why something was last refused, in words.
    last_refusal: Option<String>,
    /// What came in the last minute.
    last_minute: Received,
    /// What came in the last hour.
    last_hour: Received,
    /// Raised by each change; the ETag.
    revision: i64,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

/// What came in a time.
#[derive(Serialize, ToSchema)]
struct Received {
    lines: i64,
    bytes: i64,
}

impl LogSource {
    fn with_token(self, token: &Secret<String>) -> Self {
        Self { token: Some(token.expose().clone()), ..self }
    }
}

impl From<Stored> for LogSource {
    fn from(stored: Stored) -> Self {
        Self {
            id: stored.id,
            environment_id: stored.environment_id,
            handle: stored.handle,
            app_id: stored.app_id,
            database_id: stored.database_id,
            token_key: stored.token_key,
            token: None,
            previous_token_until: stored.previous_token_until,
            client_certificates: stored
                .client_certificates
                .iter()
                .map(|fingerprint| log_sources::hex(fingerprint))
                .collect(),
            bytes_per_second: stored.bytes_per_second,
            burst_bytes: stored.burst_bytes,
            disabled_at: stored.disabled_at,
            lines: stored.lines,
            bytes: stored.bytes,
            refused: stored.refused,
            malformed: stored.malformed,
            dropped: stored.dropped,
            throttled: stored.throttled,
            looped: stored.looped,
            last_line_at: stored.last_line_at,
            last_refused_at: stored.last_refused_at,
            last_refusal: stored.last_refusal,
            last_minute: Received { lines: stored.minute_lines, bytes: stored.minute_bytes },
            last_hour: Received { lines: stored.hour_lines, bytes: stored.hour_bytes },
            revision: stored.revision,
            created_at: stored.created_at,
            updated_at: stored.updated_at,
        }
    }
}

/// Lists an environment's log sources.
#[utoipa::path(
    get, path = "/v1/environments/{id}/log-sources", tag = "log sources",
    operation_id = "list_log_sources",
    params(("id" = Uuid, Path, description = "The environment."), HandleQuery),
    responses((status = 200, description = "A page.", body = Page<LogSource>), Failure)
)]
pub(crate) async fn list(
    app: Shared,
    caller: SignedIn,
    environment: web::Path<Id<Environment>>,
    query: Query<HandleQuery>,
) -> Result<HttpResponse, Problem> {
    let page = query.0.parse()?;
    let permit = app.permit(&caller.0, *environment).await?;
    let found = log_sources::list(&app, permit, query.0.handle.as_ref(), page).await?;
    Ok(HttpResponse::Ok().json(page::page(found, page, |it| it.id.uuid(), LogSource::from)))
}

/// Creates a log source. Its token is in the answer, and never shown again.
#[utoipa::path(
    post, path = "/v1/environments/{id}/log-sources", tag = "log sources",
    operation_id = "create_log_source",
    params(("id" = Uuid, Path, description = "The environment.")),
    request_body = LogSourceToCreate,
    responses((status = 201, description = "Created.", body = LogSource), Failure)
)]
pub(crate) async fn create(
    app: Shared,
    caller: SignedIn,
    environment: web::Path<Id<Environment>>,
    body: Body<LogSourceToCreate>,
) -> Result<HttpResponse, Problem> {
    let permit = app.permit(&caller.0, *environment).await?;
    let (created, token) = log_sources::create(&app, permit, body.0).await?;
    let created = LogSource::from(created).with_token(&token);
    let location = format!("/v1/log-sources/{}", created.id);
    Ok(answer::created_revised(location, created.revision, &created))
}

/// Shows a log source.
#[utoipa::path(
    get, path = "/v1/log-sources/{id}", tag = "log sources", operation_id = "show_log_source",
    params(("id" = Uuid, Path, description = "The log source.")),
    responses((status = 200, description = "The log source.", body = LogSource), Failure)
)]
pub(crate) async fn show(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<LogSourceKind>>,
) -> Result<HttpResponse, Problem> {
    let shown = LogSource::from(log_sources::show(app.permit(&caller.0, *id).await?));
    Ok(answer::revised(shown.revision, &shown))
}

/// Changes a log source.
#[utoipa::path(
    patch, path = "/v1/log-sources/{id}", tag = "log sources", operation_id = "update_log_source",
    params(("id" = Uuid, Path, description = "The log source."), IfMatch),
    request_body = LogSourcePatch,
    responses((status = 200, description = "Changed.", body = LogSource), Failure)
)]
pub(crate) async fn update(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<LogSourceKind>>,
    expected: ExpectedRevision,
    body: Body<LogSourcePatch>,
) -> Result<HttpResponse, Problem> {
    let permit = app.permit(&caller.0, *id).await?;
    let changed = log_sources::update(&app, permit, expected.0, body.0).await?;
    Ok(answer::revised(changed.revision, &LogSource::from(changed)))
}

/// Gives a log source another token. It is in the answer, and never shown again.
#[utoipa::path(
    post, path = "/v1/log-sources/{id}/rotate", tag = "log sources",
    operation_id = "rotate_log_source",
    params(("id" = Uuid, Path, description = "The log source.")),
    request_body = Rotation,
    responses((status = 200, description = "Rotated.", body = LogSource), Failure)
)]
pub(crate) async fn rotate(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<LogSourceKind>>,
    body: Body<Rotation>,
) -> Result<HttpResponse, Problem> {
    let permit = app.permit(&caller.0, *id).await?;
    let (rotated, token) = log_sources::rotate(&app, permit, &body.0).await?;
    let rotated = LogSource::from(rotated).with_token(&token);
    Ok(answer::revised(rotated.revision, &rotated))
}

/// Deletes a log source; what it has written stays.
#[utoipa::path(
    delete, path = "/v1/log-sources/{id}", tag = "log sources",
    operation_id = "delete_log_source",
    params(("id" = Uuid, Path, description = "The log source."), IfMatch),
    responses((status = 204, description = "Deleted."), Failure)
)]
pub(crate) async fn delete(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<LogSourceKind>>,
    expected: ExpectedRevision,
) -> Result<HttpResponse, Problem> {
    log_sources::delete(&app, app.permit(&caller.0, *id).await?, expected.0).await?;
    Ok(answer::done())
}
