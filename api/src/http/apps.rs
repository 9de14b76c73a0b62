//! `/v1/apps`.

use actix_web::{HttpResponse, web};
use model::{App as AppKind, Environment, Handle, Id};
use serde::Serialize;
use store::apps::{App as Stored, Variable as StoredVariable};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::apps::{self, AppPatch, ConfigurationPatch, NewApp};
use crate::http::openapi::{Failure, IfMatch};
use crate::http::page::{self, HandleQuery, Page};
use crate::http::problem::Problem;
use crate::http::request::{Body, ExpectedRevision, Query, SignedIn};
use crate::http::{Shared, answer};

/// An app.
#[derive(Serialize, ToSchema)]
struct App {
    #[schema(value_type = Uuid)]
    id: Id<AppKind>,
    #[schema(value_type = Uuid)]
    environment_id: Id<Environment>,
    #[schema(value_type = String)]
    handle: Handle,
    /// The container image.
    image: String,
    /// What a session runs that asks for no command; null for the shell.
    command: Option<Vec<String>>,
    /// Raised by each change, also of the configuration; the ETag.
    revision: i64,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

/// What an app is configured with. Values are never shown.
#[derive(Serialize, ToSchema)]
struct Configuration {
    /// In the order of their names.
    variables: Vec<Variable>,
}

/// A variable, without its value.
#[derive(Serialize, ToSchema)]
struct Variable {
    name: String,
    /// When its value was last set.
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

impl From<Stored> for App {
    fn from(stored: Stored) -> Self {
        Self {
            id: stored.id,
            environment_id: stored.environment_id,
            handle: stored.handle,
            image: stored.image,
            command: stored.command,
            revision: stored.revision,
            created_at: stored.created_at,
            updated_at: stored.updated_at,
        }
    }
}

fn configuration_of(variables: Vec<StoredVariable>) -> Configuration {
    let variables = variables
        .into_iter()
        .map(|StoredVariable { name, updated_at }| Variable { name, updated_at })
        .collect();
    Configuration { variables }
}

/// Lists an environment's apps.
#[utoipa::path(
    get, path = "/v1/environments/{id}/apps", tag = "apps", operation_id = "list_apps",
    params(("id" = Uuid, Path, description = "The environment."), HandleQuery),
    responses((status = 200, description = "A page.", body = Page<App>), Failure)
)]
pub(crate) async fn list(
    app: Shared,
    caller: SignedIn,
    environment: web::Path<Id<Environment>>,
    query: Query<HandleQuery>,
) -> Result<HttpResponse, Problem> {
    let page = query.0.parse()?;
    let permit = app.permit(&caller.0, *environment).await?;
    let found = apps::list(&app, permit, query.0.handle.as_ref(), page).await?;
    Ok(HttpResponse::Ok().json(page::page(found, page, |it| it.id.uuid(), App::from)))
}

/// Creates an app.
#[utoipa::path(
    post, path = "/v1/environments/{id}/apps", tag = "apps",
    operation_id = "create_app",
    params(("id" = Uuid, Path, description = "The environment.")),
    request_body = NewApp,
    responses((status = 201, description = "Created.", body = App), Failure)
)]
pub(crate) async fn create(
    app: Shared,
    caller: SignedIn,
    environment: web::Path<Id<Environment>>,
    body: Body<NewApp>,
) -> Result<HttpResponse, Problem> {
    let permit = app.permit(&caller.0, *environment).await?;
    let created = App::from(apps::create(&app, permit, body.0).await?);
    let location = format!("/v1/apps/{}", created.id);
    Ok(answer::created_revised(location, created.revision, &created))
}

/// Shows an app.
#[utoipa::path(
    get, path = "/v1/apps/{id}", tag = "apps", operation_id = "show_app",
    params(("id" = Uuid, Path, description = "The app.")),
    responses((status = 200, description = "The app.", body = App), Failure)
)]
pub(crate) async fn show(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<AppKind>>,
) -> Result<HttpResponse, Problem> {
    let shown = App::from(apps::show(app.permit(&caller.0, *id).await?));
    Ok(answer::revised(shown.revision, &shown))
}

/// Changes an app.
#[utoipa::path(
    patch, path = "/v1/apps/{id}", tag = "apps", operation_id = "update_app",
    params(("id" = Uuid, Path, description = "The app."), IfMatch),
    request_body = AppPatch,
    responses((status = 200, description = "Changed.", body = App), Failure)
)]
pub(crate) async fn update(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<AppKind>>,
    expected: ExpectedRevision,
    body: Body<AppPatch>,
) -> Result<HttpResponse, Problem> {
    let permit = app.permit(&caller.0, *id).await?;
    let changed = apps::update(&app, permit, expected.0, body.0).await?;
    Ok(answer::revised(changed.revision, &App::from(changed)))
}

/// Deletes an app and its configuration.
#[utoipa::path(
    delete, path = "/v1/apps/{id}", tag = "apps", operation_id = "delete_app",
    params(("id" = Uuid, Path, description = "The app."), IfMatch),
    responses((status = 204, description = "Deleted."), Failure)
)]
pub(crate) async fn delete(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<AppKind>>,
    expected: ExpectedRevision,
) -> Result<HttpResponse, Problem> {
    apps::delete(&app, app.permit(&caller.0, *id).await?, expected.0).await?;
    Ok(answer::done())
}

/// Lists the names of an app's variables.
#[utoipa::path(
    get, path = "/v1/apps/{id}/configuration", tag = "apps", operation_id = "show_configuration",
    params(("id" = Uuid, Path, description = "The app.")),
    responses((status = 200, description = "The names.", body = Configuration), Failure)
)]
pub(crate) async fn configuration(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<AppKind>>,
) -> Result<HttpResponse, Problem> {
    let permit = app.permit(&caller.0, *id).await?;
    let (variables, revision) = apps::configuration(&app, permit).await?;
    Ok(answer::revised(revision, &configuration_of(variables)))
}

/// Sets and removes variables, all or nothing. Sessions that begin afterwards get them.
#[utoipa::path(
    patch, path = "/v1/apps/{id}/configuration", tag = "apps",
    operation_id = "update_configuration",
    params(("id" = Uuid, Path, description = "The app."), IfMatch),
    request_body = ConfigurationPatch,
    responses((status = 200, description = "Changed.", body = Configuration), Failure)
)]
pub(crate) async fn configure(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<AppKind>>,
    expected: ExpectedRevision,
    body: Body<ConfigurationPatch>,
) -> Result<HttpResponse, Problem> {
    let permit = app.permit(&caller.0, *id).await?;
    let (variables, revision) = apps::configure(&app, permit, expected.0, body.0).await?;
    Ok(answer::revised(revision, &configuration_of(variables)))
}
