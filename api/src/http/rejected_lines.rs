//! `/v1/log-drains/{id}/rejected-lines`.

use actix_web::{HttpResponse, web};
use model::{Drain, Id};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::rejected_lines::KeptRejectedLine;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::log_drains;
use crate::http::Shared;
use crate::http::openapi::Failure;
use crate::http::page::{self, Page, PageQuery};
use crate::http::problem::Problem;
use crate::http::request::{Body, Query, SignedIn};

/// A line that an endpoint refused for good.
#[derive(Serialize, ToSchema)]
struct RejectedLine {
    id: Uuid,
    /// The line's own id, by which receivers tell repeats.
    line_id: String,
    /// The line in the form of the drain's kind.
    #[schema(value_type = Object)]
    line: Value,
    /// What the endpoint said.
    reason: String,
    #[serde(with = "time::serde::rfc3339")]
    rejected_at: OffsetDateTime,
    /// Since when it waits to be sent again; null if it does not.
    #[serde(with = "time::serde::rfc3339::option")]
    resend_requested_at: Option<OffsetDateTime>,
}

/// Which lines to send again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinesToResend {
    /// The ids of at most 1000 rejected lines; all of the drain's, if left out.
    #[schema(max_items = 1000)]
    ids: Option<Vec<Uuid>>,
}

/// What will be sent again.
#[derive(Serialize, ToSchema)]
struct Resend {
    /// Lines, of those asked for, that wait to be sent again.
    requested: u64,
}

impl From<KeptRejectedLine> for RejectedLine {
    fn from(kept: KeptRejectedLine) -> Self {
        let KeptRejectedLine { id, line_id, line, reason, rejected_at, resend_requested_at } = kept;
        Self { id, line_id, line, reason, rejected_at, resend_requested_at }
    }
}

/// Lists the lines that the endpoint refused for good, oldest first.
#[utoipa::path(
    get, path = "/v1/log-drains/{id}/rejected-lines", tag = "log drains",
    operation_id = "list_rejected_lines",
    params(("id" = Uuid, Path, description = "The log drain."), PageQuery),
    responses((status = 200, description = "A page.", body = Page<RejectedLine>), Failure)
)]
pub(crate) async fn list(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<Drain>>,
    query: Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let page = query.0.parse()?;
    let permit = app.permit(&caller.0, *id).await?;
    let found = log_drains::rejected_lines(&app, permit, page).await?;
    Ok(HttpResponse::Ok().json(page::page(found, page, |it| it.id, RejectedLine::from)))
}

/// Sends rejected lines again. Those that the endpoint takes are no longer listed; those that it refuses
/// again are, with the new reason.
#[utoipa::path(
    post, path = "/v1/log-drains/{id}/rejected-lines/resend", tag = "log drains",
    operation_id = "resend_rejected_lines",
    params(("id" = Uuid, Path, description = "The log drain.")),
    request_body = LinesToResend,
    responses((status = 202, description = "They will be sent.", body = Resend), Failure)
)]
pub(crate) async fn resend(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<Drain>>,
    body: Body<LinesToResend>,
) -> Result<HttpResponse, Problem> {
    let permit = app.permit(&caller.0, *id).await?;
    let requested = log_drains::resend(&app, permit, body.0.ids.as_deref()).await?;
    Ok(HttpResponse::Accepted().json(Resend { requested }))
}
