//! `/v1/environments`.

use actix_web::{HttpResponse, web};
use model::{Environment as EnvironmentKind, Handle, Id, Organization};
use serde::Serialize;
use store::environments::Environment as Stored;
use store::notices::NoticeSettings;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::environments::{self, EnvironmentPatch, NewEnvironment};
use crate::http::openapi::{Failure, IfMatch};
use crate::http::page::{self, HandleQuery, Page};
use crate::http::problem::Problem;
use crate::http::request::{Body, ExpectedRevision, Query, SignedIn};
use crate::http::{Shared, answer};

/// An environment and its session policy.
#[derive(Serialize, ToSchema)]
struct Environment {
    #[schema(value_type = Uuid)]
    id: Id<EnvironmentKind>,
    #[schema(value_type = Uuid)]
    organization_id: Id<Organization>,
    #[schema(value_type = String)]
    handle: Handle,
    /// A session without input and output ends after so many seconds.
    idle_limit_seconds: i32,
    /// Memory of a session's container in bytes.
    memory_limit_bytes: i64,
    /// CPU of a session's container in thousandths of a CPU.
    cpu_limit_millis: i32,
    /// Processes in a session's container.
    pids_limit: i32,
    /// How long records are kept.
    retention: Retention,
    /// Bytes that all log sources together may send in a second; null: what the intake's settings say.
    intake_bytes_per_second: Option<i64>,
    /// Bytes that they may send at once.
    intake_burst_bytes: Option<i64>,
    /// Who is told of log drains that fail.
    notices: Notices,
    /// Raised by each change; the ETag.
    revision: i64,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

/// How long records are kept, which are the environment's own copy of what its log drains deliver.
#[derive(Serialize, ToSchema)]
struct Retention {
    /// For so many seconds; null: for ever.
    seconds: Option<i64>,
    /// As long as they have no more bytes, compressed; null: however many.
    bytes: Option<i64>,
    /// Bytes of those that are kept; counted every few minutes.
    kept_bytes: i64,
    /// Records that were made until then are not kept any more; null: none has been given up.
    #[serde(with = "time::serde::rfc3339::option")]
    horizon_at: Option<OffsetDateTime>,
}

/// Who is told that a log drain has failed for some minutes, and that it has recovered after that.
#[derive(Serialize, ToSchema)]
struct Notices {
    /// An https URL that is posted to, in the form of Standard Webhooks.
    webhook_url: Option<String>,
    /// Whether posts are signed; the secret is never shown.
    has_webhook_secret: bool,
    /// E-mail addresses.
    emails: Vec<String>,
    /// What last went wrong with a notice, if anything did. It is tried again for more than an hour.
    last_error: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    last_error_at: Option<OffsetDateTime>,
}

impl From<NoticeSettings> for Notices {
    fn from(stored: NoticeSettings) -> Self {
        Self {
            webhook_url: stored.webhook_url,
            has_webhook_secret: stored.has_webhook_secret,
            emails: stored.emails,
            last_error: stored.last_error,
            last_error_at: stored.last_error_at,
        }
    }
}

impl From<Stored> for Environment {
    fn from(stored: Stored) -> Self {
        Self {
            id: stored.id,
            organization_id: stored.organization_id,
            handle: stored.handle,
            idle_limit_seconds: stored.idle_limit_seconds,
            memory_limit_bytes: stored.memory_limit_bytes,
            cpu_limit_millis: stored.cpu_limit_millis,
            pids_limit: stored.pids_limit,
            retention: Retention {
                seconds: stored.retention_seconds,
                bytes: stored.retention_bytes,
                kept_bytes: stored.kept_bytes,
                horizon_at: stored.horizon_at,
            },
            intake_bytes_per_second: stored.intake_bytes_per_second,
            intake_burst_bytes: stored.intake_burst_bytes,
            notices: stored.notices.into(),
            revision: stored.revision,
            created_at: stored.created_at,
            updated_at: stored.updated_at,
        }
    }
}

/// Lists the environments of all the caller's organizations.
#[utoipa::path(
    get, path = "/v1/environments", tag = "environments", operation_id = "list_environments",
    params(HandleQuery),
    responses((status = 200, description = "A page.", body = Page<Environment>), Failure)
)]
pub(crate) async fn list_all(
    app: Shared,
    caller: SignedIn,
    query: Query<HandleQuery>,
) -> Result<HttpResponse, Problem> {
    let page = query.0.parse()?;
    let found = environments::list_all(&app, &caller.0, query.0.handle.as_ref(), page).await?;
    Ok(HttpResponse::Ok().json(page::page(found, page, |it| it.id.uuid(), Environment::from)))
}

/// Lists an organization's environments.
#[utoipa::path(
    get, path = "/v1/organizations/{organization}/environments", tag = "environments",
    operation_id = "list_organization_environments",
    params(
        ("organization" = String, Path, description = "The organization's id or handle."),
        HandleQuery
    ),
    responses((status = 200, description = "A page.", body = Page<Environment>), Failure)
)]
pub(crate) async fn list(
    app: Shared,
    caller: SignedIn,
    organization: web::Path<String>,
    query: Query<HandleQuery>,
) -> Result<HttpResponse, Problem> {
    let page = query.0.parse()?;
    let permit = app.permit(&caller.0, organization.into_inner()).await?;
    let found = environments::list(&app, permit, query.0.handle.as_ref(), page).await?;
    Ok(HttpResponse::Ok().json(page::page(found, page, |it| it.id.uuid(), Environment::from)))
}

/// Creates an environment.
#[utoipa::path(
    post, path = "/v1/organizations/{organization}/environments", tag = "environments",
    operation_id = "create_environment",
    params(("organization" = String, Path, description = "The organization's id or handle.")),
    request_body = NewEnvironment,
    responses((status = 201, description = "Created.", body = Environment), Failure)
)]
pub(crate) async fn create(
    app: Shared,
    caller: SignedIn,
    organization: web::Path<String>,
    body: Body<NewEnvironment>,
) -> Result<HttpResponse, Problem> {
    let permit = app.permit(&caller.0, organization.into_inner()).await?;
    let created = Environment::from(environments::create(&app, permit, body.0).await?);
    let location = format!("/v1/environments/{}", created.id);
    Ok(answer::created_revised(location, created.revision, &created))
}

/// Shows an environment.
#[utoipa::path(
    get, path = "/v1/environments/{id}", tag = "environments", operation_id = "show_environment",
    params(("id" = Uuid, Path, description = "The environment.")),
    responses((status = 200, description = "The environment.", body = Environment), Failure)
)]
pub(crate) async fn show(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<EnvironmentKind>>,
) -> Result<HttpResponse, Problem> {
    let shown = Environment::from(environments::show(app.permit(&caller.0, *id).await?));
    Ok(answer::revised(shown.revision, &shown))
}

/// Changes an environment.
#[utoipa::path(
    patch, path = "/v1/environments/{id}", tag = "environments",
    operation_id = "update_environment",
    params(("id" = Uuid, Path, description = "The environment."), IfMatch),
    request_body = EnvironmentPatch,
    responses((status = 200, description = "Changed.", body = Environment), Failure)
)]
pub(crate) async fn update(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<EnvironmentKind>>,
    expected: ExpectedRevision,
    body: Body<EnvironmentPatch>,
) -> Result<HttpResponse, Problem> {
    let permit = app.permit(&caller.0, *id).await?;
    let changed = environments::update(&app, permit, expected.0, body.0).await?;
    Ok(answer::revised(changed.revision, &Environment::from(changed)))
}

/// Deletes an environment that has no apps, databases and log drains.
#[utoipa::path(
    delete, path = "/v1/environments/{id}", tag = "environments",
    operation_id = "delete_environment",
    params(("id" = Uuid, Path, description = "The environment."), IfMatch),
    responses((status = 204, description = "Deleted."), Failure)
)]
pub(crate) async fn delete(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<EnvironmentKind>>,
    expected: ExpectedRevision,
) -> Result<HttpResponse, Problem> {
    environments::delete(&app, app.permit(&caller.0, *id).await?, expected.0).await?;
    Ok(answer::done())
}
