//! `/v1/environments/{id}/activity`.

use actix_web::{HttpResponse, web};
use model::{Activity as ActivityKind, Environment, Id};
use serde::Serialize;
use store::activity::ActivityRow;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::activity;
use crate::http::Shared;
use crate::http::openapi::Failure;
use crate::http::page::{self, Page, PageQuery};
use crate::http::problem::Problem;
use crate::http::request::{Query, SignedIn};

/// Something that a user or the platform did.
#[derive(Serialize, ToSchema)]
struct Activity {
    #[schema(value_type = Uuid)]
    id: Id<ActivityKind>,
    #[schema(value_type = Uuid)]
    environment_id: Id<Environment>,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// The user who did it; null: the platform.
    actor_id: Option<Uuid>,
    /// The user's e-mail address then, or `platform`.
    actor: String,
    /// What was done.
    #[schema(example = "log_drain.failing")]
    action: String,
    /// The kind of thing that it was done to.
    #[schema(example = "log_drain")]
    target_kind: String,
    /// The thing's id; it may be gone.
    target_id: Uuid,
    /// The thing's handle then.
    target: String,
    /// More about it, in words; may be empty.
    detail: String,
}

impl From<ActivityRow> for Activity {
    fn from(row: ActivityRow) -> Self {
        Self {
            id: row.id,
            environment_id: row.environment_id,
            at: row.at,
            actor_id: row.actor_id,
            actor: row.actor,
            action: row.action,
            target_kind: row.target_kind,
            target_id: row.target_id,
            target: row.target_handle,
            detail: row.detail,
        }
    }
}

/// Lists what was done in an environment, newest first. Drains can take it, too.
#[utoipa::path(
    get, path = "/v1/environments/{id}/activity", tag = "activity", operation_id = "list_activity",
    params(("id" = Uuid, Path, description = "The environment."), PageQuery),
    responses((status = 200, description = "A page.", body = Page<Activity>), Failure)
)]
pub(crate) async fn list(
    app: Shared,
    caller: SignedIn,
    environment: web::Path<Id<Environment>>,
    query: Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let page = query.0.parse()?;
    let found = activity::list(&app, app.permit(&caller.0, *environment).await?, page).await?;
    Ok(HttpResponse::Ok().json(page::page(found, page, |it| it.id.uuid(), Activity::from)))
}
