//! `/v1/databases`.

use actix_web::{HttpResponse, web};
use model::{Database as DatabaseKind, Environment, Handle, Id};
use serde::Serialize;
use store::databases::Database as Stored;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::databases::{self, DatabasePatch, Engine, NewDatabase};
use crate::http::openapi::{Failure, IfMatch};
use crate::http::page::{self, HandleQuery, Page};
use crate::http::problem::Problem;
use crate::http::request::{Body, ExpectedRevision, Query, SignedIn};
use crate::http::{Shared, answer};

/// A database.
#[derive(Serialize, ToSchema)]
struct Database {
    #[schema(value_type = Uuid)]
    id: Id<DatabaseKind>,
    #[schema(value_type = Uuid)]
    environment_id: Id<Environment>,
    #[schema(value_type = String)]
    handle: Handle,
    #[schema(value_type = Engine)]
    engine: String,
    /// Raised by each change; the ETag.
    revision: i64,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

impl From<Stored> for Database {
    fn from(stored: Stored) -> Self {
        let Stored { id, environment_id, handle, engine, revision, created_at, updated_at } =
            stored;
        Self { id, environment_id, handle, engine, revision, created_at, updated_at }
    }
}

/// Lists an environment's databases.
#[utoipa::path(
    get, path = "/v1/environments/{id}/databases", tag = "databases", operation_id = "list_databases",
    params(("id" = Uuid, Path, description = "The environment."), HandleQuery),
    responses((status = 200, description = "A page.", body = Page<Database>), Failure)
)]
pub(crate) async fn list(
    app: Shared,
    caller: SignedIn,
    environment: web::Path<Id<Environment>>,
    query: Query<HandleQuery>,
) -> Result<HttpResponse, Problem> {
    let page = query.0.parse()?;
    let permit = app.permit(&caller.0, *environment).await?;
    let found = databases::list(&app, permit, query.0.handle.as_ref(), page).await?;
    Ok(HttpResponse::Ok().json(page::page(found, page, |it| it.id.uuid(), Database::from)))
}

/// Creates a database.
#[utoipa::path(
    post, path = "/v1/environments/{id}/databases", tag = "databases",
    operation_id = "create_database",
    params(("id" = Uuid, Path, description = "The environment.")),
    request_body = NewDatabase,
    responses((status = 201, description = "Created.", body = Database), Failure)
)]
pub(crate) async fn create(
    app: Shared,
    caller: SignedIn,
    environment: web::Path<Id<Environment>>,
    body: Body<NewDatabase>,
) -> Result<HttpResponse, Problem> {
    let permit = app.permit(&caller.0, *environment).await?;
    let created = Database::from(databases::create(&app, permit, body.0).await?);
    let location = format!("/v1/databases/{}", created.id);
    Ok(answer::created_revised(location, created.revision, &created))
}

/// Shows a database.
#[utoipa::path(
    get, path = "/v1/databases/{id}", tag = "databases", operation_id = "show_database",
    params(("id" = Uuid, Path, description = "The database.")),
    responses((status = 200, description = "The database.", body = Database), Failure)
)]
pub(crate) async fn show(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<DatabaseKind>>,
) -> Result<HttpResponse, Problem> {
    let shown = Database::from(databases::show(app.permit(&caller.0, *id).await?));
    Ok(answer::revised(shown.revision, &shown))
}

/// Changes a database.
#[utoipa::path(
    patch, path = "/v1/databases/{id}", tag = "databases", operation_id = "update_database",
    params(("id" = Uuid, Path, description = "The database."), IfMatch),
    request_body = DatabasePatch,
    responses((status = 200, description = "Changed.", body = Database), Failure)
)]
pub(crate) async fn update(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<DatabaseKind>>,
    expected: ExpectedRevision,
    body: Body<DatabasePatch>,
) -> Result<HttpResponse, Problem> {
    let permit = app.permit(&caller.0, *id).await?;
    let changed = databases::update(&app, permit, expected.0, body.0).await?;
    Ok(answer::revised(changed.revision, &Database::from(changed)))
}

/// Deletes a database.
#[utoipa::path(
    delete, path = "/v1/databases/{id}", tag = "databases", operation_id = "delete_database",
    params(("id" = Uuid, Path, description = "The database."), IfMatch),
    responses((status = 204, description = "Deleted."), Failure)
)]
pub(crate) async fn delete(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<DatabaseKind>>,
    expected: ExpectedRevision,
) -> Result<HttpResponse, Problem> {
    databases::delete(&app, app.permit(&caller.0, *id).await?, expected.0).await?;
    Ok(answer::done())
}
