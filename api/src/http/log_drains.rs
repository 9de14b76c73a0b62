//! `/v1/log-drains`.

use actix_web::{HttpResponse, web};
use destinations::{AnyDestination, Kind, Options};
use model::{Drain as DrainKind, Environment, Handle, Id};
use serde::Serialize;
use serde_json::Value;
use store::log_drains::LogDrain as Stored;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::log_drains::{self, ControlSequences, LogDrainPatch, LogDrainToCreate, Redraws};
use crate::http::openapi::{Failure, IfMatch};
use crate::http::page::{self, HandleQuery, Page};
use crate::http::problem::Problem;
use crate::http::request::{Body, ExpectedRevision, Query, SignedIn};
use crate::http::{Shared, answer};

/// A log drain, how far it has got and how it is.
#[derive(Serialize, ToSchema)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
struct LogDrain {
    #[schema(value_type = Uuid)]
    id: Id<DrainKind>,
    #[schema(value_type = Uuid)]
    environment_id: Id<Environment>,
    #[schema(value_type = String)]
    handle: Handle,
    #[schema(value_type = Kind)]
    kind: String,
    #[schema(value_type = AnyDestination)]
    destination: Value,
    /// Whether it has credentials; they are never shown.
    has_credentials: bool,
    /// Takes what apps print.
    drain_apps: bool,
    /// Takes what databases print.
    drain_databases: bool,
    /// Takes what ephemeral sessions show.
    drain_ephemeral_sessions: bool,
    /// Takes what users and the platform did in the environment.
    drain_activity: bool,
    #[schema(value_type = ControlSequences)]
    control_sequences: String,
    #[schema(value_type = Redraws)]
    redraws: String,
    #[schema(value_type = Options)]
    options: Value,
    state: State,
    /// Since when it fails; null if it does not.
    #[serde(with = "time::serde::rfc3339::option")]
    failing_since: Option<OffsetDateTime>,
    /// What last went wrong, if anything did.
    last_error: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    last_error_at: Option<OffsetDateTime>,
    /// Records of its sources that it has yet to deliver; those that its lists or options leave out are
    /// among them. Of 10,000 blocks of the log stream: where more wait, there are more.
    lag_records: i64,
    /// Bytes that these have, before compression.
    lag_bytes: i64,
    /// Age of the oldest of them in seconds.
    lag_seconds: f64,
    /// Lines delivered since it was made.
    delivered_lines: i64,
    /// Bytes that these had, as they were sent before compression.
    delivered_bytes: i64,
    /// Lines that were sent again because the endpoint may not have had them; the endpoint tells them by
    /// their ids. What a worker that was killed had sent is not counted.
    repeated_lines: i64,
    /// Lines that the endpoint refused for good.
    rejected_lines: i64,
    /// Lines delivered of which something was masked.
    redacted_lines: i64,
    /// Records that it was told to leave out.
    skipped_records: i64,
    /// Records of its sources that the environment's retention horizon has passed before they were
    /// delivered, and refused lines that were kept for as long as records are.
    dropped_records: i64,
    /// Lines that it had delivered and that came back into the environment as those of an app or a database:
    /// its receiver logs into the environment. They were not taken in again.
    looped_lines: i64,
    /// When the last of them did.
    #[serde(with = "time::serde::rfc3339::option")]
    last_looped_at: Option<OffsetDateTime>,
    /// What was delivered in the last minute.
    last_minute: Delivered,
    /// What was delivered in the last hour.
    last_hour: Delivered,
    /// The connection to the endpoint; null before the first.
    #[schema(value_type = Option<Connection>)]
    connection: Option<Value>,
    /// Raised by each change of what is configured; the ETag.
    revision: i64,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

/// How long a loop counts as one.
const LOOPING: time::Duration = time::Duration::minutes(10);

/// How a drain is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum State {
    /// It delivers.
    Active,
    /// It was told to wait; records wait with it.
    Paused,
    /// It tries and does not succeed; records wait.
    Failing,
    /// It delivers, and in the last ten minutes lines came back into its environment.
    Looping,
}

/// What was delivered in a time.
#[derive(Serialize, ToSchema)]
struct Delivered {
    lines: i64,
    /// As they were sent, before compression.
    bytes: i64,
}

/// A connection to an endpoint.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what a worker wrote")]
struct Connection {
    /// The address and port that were dialled.
    address: String,
    /// Such as `TLSv1.3`.
    tls_version: String,
    /// When the endpoint's certificate expires.
    #[schema(format = DateTime)]
    certificate_expires_at: Option<String>,
    /// When it was made.
    #[schema(format = DateTime)]
    since: String,
}

/// How a test line fared.
#[derive(Serialize, ToSchema)]
struct DrainTest {
    /// Whether the endpoint took it.
    ok: bool,
    /// What was tried, in this order, up to the first failure.
    #[schema(value_type = Vec<DrainTestStep>)]
    steps: Value,
}

/// One step of a test.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what a worker wrote")]
struct DrainTestStep {
    /// What was tried, such as `resolve`, `connect`, `tls`, `send`.
    step: String,
    /// Whether it worked.
    ok: bool,
    /// What came of it.
    detail: String,
    /// How long it took in milliseconds.
    duration_ms: f64,
}

impl From<Stored> for LogDrain {
    fn from(stored: Stored) -> Self {
        let loops =
            stored.last_looped_at.is_some_and(|at| OffsetDateTime::now_utc() - at < LOOPING);
        let state = match (stored.paused_at, stored.failing_since) {
            (Some(_), _) => State::Paused,
            (None, Some(_)) => State::Failing,
            (None, None) if loops => State::Looping,
            (None, None) => State::Active,
        };
        Self {
            id: stored.id,
            environment_id: stored.environment_id,
            handle: stored.handle,
            kind: stored.kind,
            destination: stored.destination,
            has_credentials: stored.has_credentials,
            drain_apps: stored.drain_apps,
            drain_databases: stored.drain_databases,
            drain_ephemeral_sessions: stored.drain_ephemeral_sessions,
            drain_activity: stored.drain_activity,
            control_sequences: stored.control_sequences,
            redraws: stored.redraws,
            options: stored.options,
            state,
            failing_since: stored.failing_since,
            last_error: stored.last_error,
            last_error_at: stored.last_error_at,
            lag_records: stored.lag_records,
            lag_bytes: stored.lag_bytes,
            lag_seconds: stored.lag_seconds,
            delivered_lines: stored.delivered_lines,
            delivered_bytes: stored.delivered_bytes,
            repeated_lines: stored.repeated_lines,
            rejected_lines: stored.rejected_lines,
            redacted_lines: stored.redacted_lines,
            skipped_records: stored.skipped_records,
            dropped_records: stored.dropped_records,
            looped_lines: stored.looped_lines,
            last_looped_at: stored.last_looped_at,
            last_minute: Delivered { lines: stored.minute_lines, bytes: stored.minute_bytes },
            last_hour: Delivered { lines: stored.hour_lines, bytes: stored.hour_bytes },
            connection: stored.connection,
            revision: stored.revision,
            created_at: stored.created_at,
            updated_at: stored.updated_at,
        }
    }
}

/// Lists an environment's log drains.
#[utoipa::path(
    get, path = "/v1/environments/{id}/log-drains", tag = "log drains", operation_id = "list_log_drains",
    params(("id" = Uuid, Path, description = "The environment."), HandleQuery),
    responses((status = 200, description = "A page.", body = Page<LogDrain>), Failure)
)]
pub(crate) async fn list(
    app: Shared,
    caller: SignedIn,
    environment: web::Path<Id<Environment>>,
    query: Query<HandleQuery>,
) -> Result<HttpResponse, Problem> {
    let page = query.0.parse()?;
    let permit = app.permit(&caller.0, *environment).await?;
    let found = log_drains::list(&app, permit, query.0.handle.as_ref(), page).await?;
    Ok(HttpResponse::Ok().json(page::page(found, page, |it| it.id.uuid(), LogDrain::from)))
}

/// Creates a log drain.
#[utoipa::path(
    post, path = "/v1/environments/{id}/log-drains", tag = "log drains",
    operation_id = "create_log_drain",
    params(("id" = Uuid, Path, description = "The environment.")),
    request_body = LogDrainToCreate,
    responses((status = 201, description = "Created.", body = LogDrain), Failure)
)]
pub(crate) async fn create(
    app: Shared,
    caller: SignedIn,
    environment: web::Path<Id<Environment>>,
    body: Body<LogDrainToCreate>,
) -> Result<HttpResponse, Problem> {
    let permit = app.permit(&caller.0, *environment).await?;
    let created = LogDrain::from(log_drains::create(&app, permit, body.0).await?);
    let location = format!("/v1/log-drains/{}", created.id);
    Ok(answer::created_revised(location, created.revision, &created))
}

/// Shows a log drain.
#[utoipa::path(
    get, path = "/v1/log-drains/{id}", tag = "log drains", operation_id = "show_log_drain",
    params(("id" = Uuid, Path, description = "The log drain.")),
    responses((status = 200, description = "The log drain.", body = LogDrain), Failure)
)]
pub(crate) async fn show(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<DrainKind>>,
) -> Result<HttpResponse, Problem> {
    let shown = LogDrain::from(log_drains::show(app.permit(&caller.0, *id).await?));
    Ok(answer::revised(shown.revision, &shown))
}

/// Changes a log drain.
#[utoipa::path(
    patch, path = "/v1/log-drains/{id}", tag = "log drains", operation_id = "update_log_drain",
    params(("id" = Uuid, Path, description = "The log drain."), IfMatch),
    request_body = LogDrainPatch,
    responses((status = 200, description = "Changed.", body = LogDrain), Failure)
)]
pub(crate) async fn update(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<DrainKind>>,
    expected: ExpectedRevision,
    body: Body<LogDrainPatch>,
) -> Result<HttpResponse, Problem> {
    let permit = app.permit(&caller.0, *id).await?;
    let changed = log_drains::update(&app, permit, expected.0, body.0).await?;
    Ok(answer::revised(changed.revision, &LogDrain::from(changed)))
}

/// Deletes a log drain; what it has not delivered it never will.
#[utoipa::path(
    delete, path = "/v1/log-drains/{id}", tag = "log drains", operation_id = "delete_log_drain",
    params(("id" = Uuid, Path, description = "The log drain."), IfMatch),
    responses((status = 204, description = "Deleted."), Failure)
)]
pub(crate) async fn delete(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<DrainKind>>,
    expected: ExpectedRevision,
) -> Result<HttpResponse, Problem> {
    log_drains::delete(&app, app.permit(&caller.0, *id).await?, expected.0).await?;
    Ok(answer::done())
}

/// Pauses a log drain. Records wait for it until they are too old to be kept.
#[utoipa::path(
    post, path = "/v1/log-drains/{id}/pause", tag = "log drains", operation_id = "pause_log_drain",
    params(("id" = Uuid, Path, description = "The log drain.")),
    responses((status = 200, description = "It is paused.", body = LogDrain), Failure)
)]
pub(crate) async fn pause(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<DrainKind>>,
) -> Result<HttpResponse, Problem> {
    let paused = log_drains::pause(&app, app.permit(&caller.0, *id).await?, true).await?;
    Ok(answer::revised(paused.revision, &LogDrain::from(paused)))
}

/// Lets a log drain go on from where it was paused.
#[utoipa::path(
    post, path = "/v1/log-drains/{id}/resume", tag = "log drains",
    operation_id = "resume_log_drain",
    params(("id" = Uuid, Path, description = "The log drain.")),
    responses((status = 200, description = "It is not paused.", body = LogDrain), Failure)
)]
pub(crate) async fn resume(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<DrainKind>>,
) -> Result<HttpResponse, Problem> {
    let resumed = log_drains::pause(&app, app.permit(&caller.0, *id).await?, false).await?;
    Ok(answer::revised(resumed.revision, &LogDrain::from(resumed)))
}

/// Has a log drain leave out all that it has not delivered by now. It never will; the records are counted
/// as skipped.
#[utoipa::path(
    post, path = "/v1/log-drains/{id}/skip", tag = "log drains", operation_id = "skip_log_drain",
    params(("id" = Uuid, Path, description = "The log drain.")),
    responses((status = 200, description = "It goes on from now.", body = LogDrain), Failure)
)]
pub(crate) async fn skip(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<DrainKind>>,
) -> Result<HttpResponse, Problem> {
    let skipped = log_drains::skip(&app, app.permit(&caller.0, *id).await?).await?;
    Ok(answer::revised(skipped.revision, &LogDrain::from(skipped)))
}

/// Sends a test line as a log drain would that was created like this, and tells how that went, within 10 s.
/// Nothing is kept.
#[utoipa::path(
    post, path = "/v1/environments/{id}/log-drains/verify", tag = "log drains",
    operation_id = "verify_log_drain",
    params(("id" = Uuid, Path, description = "The environment.")),
    request_body = LogDrainToCreate,
    responses((status = 200, description = "How it went.", body = DrainTest), Failure)
)]
pub(crate) async fn verify(
    app: Shared,
    caller: SignedIn,
    environment: web::Path<Id<Environment>>,
    body: Body<LogDrainToCreate>,
) -> Result<HttpResponse, Problem> {
    let permit = app.permit(&caller.0, *environment).await?;
    let answer = log_drains::verify(&app, permit, body.0).await?;
    Ok(HttpResponse::Ok().json(DrainTest { ok: answer.ok, steps: answer.steps }))
}

/// Sends a test line as the log drain would if it was changed like this, and tells how that went, within
/// 10 s. Nothing is changed.
#[utoipa::path(
    post, path = "/v1/log-drains/{id}/verify", tag = "log drains",
    operation_id = "verify_log_drain_change",
    params(("id" = Uuid, Path, description = "The log drain.")),
    request_body = LogDrainPatch,
    responses((status = 200, description = "How it went.", body = DrainTest), Failure)
)]
pub(crate) async fn verify_change(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<DrainKind>>,
    body: Body<LogDrainPatch>,
) -> Result<HttpResponse, Problem> {
    let permit = app.permit(&caller.0, *id).await?;
    let answer = log_drains::verify_change(&app, permit, body.0).await?;
    Ok(HttpResponse::Ok().json(DrainTest { ok: answer.ok, steps: answer.steps }))
}

/// Sends a test line to a log drain's endpoint and tells how that went, within 10 s.
#[utoipa::path(
    post, path = "/v1/log-drains/{id}/test", tag = "log drains", operation_id = "test_log_drain",
    params(("id" = Uuid, Path, description = "The log drain.")),
    responses((status = 200, description = "How it went.", body = DrainTest), Failure)
)]
pub(crate) async fn test(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<DrainKind>>,
) -> Result<HttpResponse, Problem> {
    let answer = log_drains::test(&app, app.permit(&caller.0, *id).await?).await?;
    Ok(HttpResponse::Ok().json(DrainTest { ok: answer.ok, steps: answer.steps }))
}
