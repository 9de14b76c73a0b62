//! Ephemeral sessions.

use actix_web::{HttpResponse, web};
use model::{App, Environment, EphemeralSession as SessionKind, Handle, Id, Organization, User};
use serde::Serialize;
use store::sessions::EphemeralSession as Stored;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::sessions::{self, NewSession, SessionState, Wanted};
use crate::http::openapi::Failure;
use crate::http::page::{self, Page, SessionQuery};
use crate::http::problem::Problem;
use crate::http::request::{Body, Query, SignedIn};
use crate::http::{Shared, answer};

/// An ephemeral session.
#[derive(Serialize, ToSchema)]
struct EphemeralSession {
    #[schema(value_type = Uuid)]
    id: Id<SessionKind>,
    #[schema(value_type = Uuid)]
    organization_id: Id<Organization>,
    #[schema(value_type = Uuid)]
    environment_id: Id<Environment>,
    #[schema(value_type = Uuid)]
    app_id: Id<App>,
    /// The app's handle.
    #[schema(value_type = String)]
    app: Handle,
    #[schema(value_type = Uuid)]
    user_id: Id<User>,
    user_email: String,
    user_name: String,
    #[schema(value_type = SessionState)]
    state: String,
    /// Why, in the engineer's words.
    reason: Option<String>,
    /// The command, if one was asked for.
    command: Option<String>,
    /// The image it ran.
    image: Option<String>,
    client_address: Option<String>,
    client_version: Option<String>,
    /// `certificate` or `public_key`.
    auth_method: Option<String>,
    /// The fingerprint of the key that signed in, or may.
    key_fingerprint: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    requested_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    ended_at: Option<OffsetDateTime>,
    /// Why it ended.
    end_reason: Option<String>,
    /// Its program's exit status.
    exit_code: Option<i64>,
    /// The signal that ended its program, without `SIG`.
    exit_signal: Option<String>,
    /// Bytes shown.
    output_bytes: Option<i64>,
}

/// A granted session and what a client needs to enter it, within a minute.
#[derive(Serialize, ToSchema)]
struct GrantedSession {
    session: EphemeralSession,
    /// The client's certificate, as an OpenSSH line.
    certificate: String,
    /// The authority that edges' host certificates are from, as an OpenSSH line.
    host_authority: String,
    /// The principal that an edge's host certificate must have.
    host_principal: &'static str,
    /// `host:port` of the edges that are running; any will do.
    addresses: Vec<String>,
    /// The user name to sign in with.
    #[schema(value_type = Uuid)]
    user_name: Id<SessionKind>,
}

impl From<Stored> for EphemeralSession {
    fn from(stored: Stored) -> Self {
        Self {
            id: stored.id,
            organization_id: stored.organization_id,
            environment_id: stored.environment_id,
            app_id: stored.app_id,
            app: stored.app,
            user_id: stored.user_id,
            user_email: stored.user_email,
            user_name: stored.user_name,
            state: stored.state,
            reason: stored.reason,
            command: stored.command,
            image: stored.image,
            client_address: stored.client_address,
            client_version: stored.client_version,
            auth_method: stored.auth_method,
            key_fingerprint: stored.key_fingerprint,
            requested_at: stored.requested_at,
            started_at: stored.started_at,
            ended_at: stored.ended_at,
            end_reason: stored.end_reason,
            exit_code: stored.exit_code,
            exit_signal: stored.exit_signal,
            output_bytes: stored.output_bytes,
        }
    }
}

/// Lists an environment's ephemeral sessions, newest first: engineers see their own, owners, admins
/// and auditors all.
#[utoipa::path(
    get, path = "/v1/environments/{id}/ephemeral-sessions", tag = "ephemeral sessions",
    operation_id = "list_ephemeral_sessions",
    params(("id" = Uuid, Path, description = "The environment."), SessionQuery),
    responses((status = 200, description = "A page.", body = Page<EphemeralSession>), Failure)
)]
pub(crate) async fn list(
    app: Shared,
    caller: SignedIn,
    environment: web::Path<Id<Environment>>,
    query: Query<SessionQuery>,
) -> Result<HttpResponse, Problem> {
    let query = query.0;
    let page = query.parse()?;
    let permit = app.permit(&caller.0, *environment).await?;
    let wanted = Wanted { state: query.state, user: query.user, app: query.app };
    let found = sessions::list(&app, permit, wanted, page).await?;
    Ok(HttpResponse::Ok().json(page::page(found, page, |it| it.id.uuid(), EphemeralSession::from)))
}

/// Grants an ephemeral session: signs the client's one-time key for it.
#[utoipa::path(
    post, path = "/v1/apps/{id}/ephemeral-sessions", tag = "ephemeral sessions",
    operation_id = "create_ephemeral_session",
    params(("id" = Uuid, Path, description = "The app.")),
    request_body = NewSession,
    responses((status = 201, description = "Granted.", body = GrantedSession), Failure)
)]
pub(crate) async fn open(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<App>>,
    body: Body<NewSession>,
) -> Result<HttpResponse, Problem> {
    let permit = app.permit(&caller.0, *id).await?;
    let granted = sessions::open(&app, &caller.0, permit, body.0).await?;
    let session = EphemeralSession::from(granted.session);
    let location = format!("/v1/ephemeral-sessions/{}", session.id);
    Ok(answer::created(
        location,
        &GrantedSession {
            user_name: session.id,
            session,
            certificate: granted.certificate,
            host_authority: granted.host_authority,
            host_principal: "spillway-edge",
            addresses: granted.addresses,
        },
    ))
}

/// Shows an ephemeral session: to its engineer, and to owners, admins and auditors.
#[utoipa::path(
    get, path = "/v1/ephemeral-sessions/{id}", tag = "ephemeral sessions",
    operation_id = "show_ephemeral_session",
    params(("id" = Uuid, Path, description = "The session.")),
    responses((status = 200, description = "The session.", body = EphemeralSession), Failure)
)]
pub(crate) async fn show(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<SessionKind>>,
) -> Result<HttpResponse, Problem> {
    let shown = sessions::show(app.permit(&caller.0, *id).await?)?;
    Ok(HttpResponse::Ok().json(EphemeralSession::from(shown)))
}
