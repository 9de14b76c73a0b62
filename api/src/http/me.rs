//! `/v1/me`: the caller's own.

use actix_web::{HttpResponse, web};
use model::{ApiToken as ApiTokenKind, Handle, Id, Organization, Role, SshKey as SshKeyKind, User};
use serde::Serialize;
use store::accounts::RegisteredKey;
use store::tokens::IssuedToken;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::me::{self, NewApiToken, NewSshKey};
use crate::http::openapi::Failure;
use crate::http::page::{self, Page, PageQuery};
use crate::http::problem::Problem;
use crate::http::request::{Body, Query, SignedIn};
use crate::http::{Shared, answer};

/// The caller.
#[derive(Serialize, ToSchema)]
struct Me {
    #[schema(value_type = Uuid)]
    id: Id<User>,
    email: String,
    /// As it appears in records.
    name: String,
    /// Where the caller is a member.
    memberships: Vec<Membership>,
}

/// A membership.
#[derive(Serialize, ToSchema)]
struct Membership {
    #[schema(value_type = Uuid)]
    organization_id: Id<Organization>,
    #[schema(value_type = String)]
    handle: Handle,
    name: String,
    /// One of owner, admin, engineer, auditor, viewer.
    #[schema(value_type = String)]
    role: Role,
}

/// A registered SSH key.
#[derive(Serialize, ToSchema)]
struct SshKey {
    #[schema(value_type = Uuid)]
    id: Id<SshKeyKind>,
    name: String,
    /// As an OpenSSH line, without its comment.
    public_key: String,
    /// As `SHA256:...`.
    fingerprint: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    last_used_at: Option<OffsetDateTime>,
}

/// An API token, without its text.
#[derive(Serialize, ToSchema)]
struct ApiToken {
    #[schema(value_type = Uuid)]
    id: Id<ApiTokenKind>,
    name: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// To the minute.
    #[serde(with = "time::serde::rfc3339::option")]
    last_used_at: Option<OffsetDateTime>,
}

/// A new API token.
#[derive(Serialize, ToSchema)]
struct CreatedApiToken<'a> {
    #[schema(value_type = Uuid)]
    id: Id<ApiTokenKind>,
    name: &'a str,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// Its text, shown this once.
    token: &'a str,
}

impl From<RegisteredKey> for SshKey {
    fn from(key: RegisteredKey) -> Self {
        let RegisteredKey { id, name, public_key, fingerprint, created_at, last_used_at } = key;
        Self { id, name, public_key, fingerprint, created_at, last_used_at }
    }
}

impl From<IssuedToken> for ApiToken {
    fn from(token: IssuedToken) -> Self {
        let IssuedToken { id, name, created_at, expires_at, last_used_at } = token;
        Self { id, name, created_at, expires_at, last_used_at }
    }
}

/// Shows the caller and the caller's memberships.
#[utoipa::path(
    get, path = "/v1/me", tag = "me", operation_id = "show_me",
    responses((status = 200, description = "The caller.", body = Me), Failure)
)]
pub(crate) async fn show(app: Shared, caller: SignedIn) -> Result<HttpResponse, Problem> {
    let memberships = me::memberships(&app, &caller.0).await?;
    let account = caller.0.account;
    Ok(HttpResponse::Ok().json(Me {
        id: account.id,
        email: account.email,
        name: account.name,
        memberships: memberships
            .into_iter()
            .map(|store::accounts::Membership { organization_id, handle, name, role }| Membership {
                organization_id,
                handle,
                name,
                role,
            })
            .collect(),
    }))
}

/// Lists the caller's SSH keys.
#[utoipa::path(
    get, path = "/v1/me/ssh-keys", tag = "me", operation_id = "list_ssh_keys",
    params(PageQuery),
    responses((status = 200, description = "A page.", body = Page<SshKey>), Failure)
)]
pub(crate) async fn ssh_keys(
    app: Shared,
    caller: SignedIn,
    query: Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let page = query.0.parse()?;
    let found = me::ssh_keys(&app, &caller.0, page).await?;
    Ok(HttpResponse::Ok().json(page::page(found, page, |key| key.id.uuid(), SshKey::from)))
}

/// Registers an SSH key of the caller, for sign-in with plain OpenSSH.
#[utoipa::path(
    post, path = "/v1/me/ssh-keys", tag = "me", operation_id = "create_ssh_key",
    request_body = NewSshKey,
    responses((status = 201, description = "Registered.", body = SshKey), Failure)
)]
pub(crate) async fn create_ssh_key(
    app: Shared,
    caller: SignedIn,
    body: Body<NewSshKey>,
) -> Result<HttpResponse, Problem> {
    let key = SshKey::from(me::create_ssh_key(&app, &caller.0, &body.0).await?);
    Ok(answer::created(format!("/v1/me/ssh-keys/{}", key.id), &key))
}

/// Removes an SSH key of the caller. Sessions that it opened go on.
#[utoipa::path(
    delete, path = "/v1/me/ssh-keys/{id}", tag = "me", operation_id = "delete_ssh_key",
    params(("id" = Uuid, Path, description = "The key.")),
    responses((status = 204, description = "Removed."), Failure)
)]
pub(crate) async fn delete_ssh_key(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<SshKeyKind>>,
) -> Result<HttpResponse, Problem> {
    me::delete_ssh_key(&app, &caller.0, *id).await?;
    Ok(answer::done())
}

/// Lists the caller's API tokens that are not revoked.
#[utoipa::path(
    get, path = "/v1/me/api-tokens", tag = "me", operation_id = "list_api_tokens",
    params(PageQuery),
    responses((status = 200, description = "A page.", body = Page<ApiToken>), Failure)
)]
pub(crate) async fn api_tokens(
    app: Shared,
    caller: SignedIn,
    query: Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let page = query.0.parse()?;
    let found = me::api_tokens(&app, &caller.0, page).await?;
    Ok(HttpResponse::Ok().json(page::page(found, page, |token| token.id.uuid(), ApiToken::from)))
}

/// Makes an API token that speaks for the caller.
#[utoipa::path(
    post, path = "/v1/me/api-tokens", tag = "me", operation_id = "create_api_token",
    request_body = NewApiToken,
    responses(
        (status = 201, description = "Made; the text is not shown again.", body = CreatedApiToken),
        Failure
    )
)]
pub(crate) async fn create_api_token(
    app: Shared,
    caller: SignedIn,
    body: Body<NewApiToken>,
) -> Result<HttpResponse, Problem> {
    let (issued, token) = me::create_api_token(&app, &caller.0, &body.0).await?;
    let created = CreatedApiToken {
        id: issued.id,
        name: &issued.name,
        created_at: issued.created_at,
        expires_at: issued.expires_at,
        token: token.expose(),
    };
    Ok(answer::created(format!("/v1/me/api-tokens/{}", issued.id), &created))
}

/// Revokes an API token of the caller.
#[utoipa::path(
    delete, path = "/v1/me/api-tokens/{id}", tag = "me", operation_id = "revoke_api_token",
    params(("id" = Uuid, Path, description = "The token.")),
    responses((status = 204, description = "Revoked."), Failure)
)]
pub(crate) async fn revoke_api_token(
    app: Shared,
    caller: SignedIn,
    id: web::Path<Id<ApiTokenKind>>,
) -> Result<HttpResponse, Problem> {
    me::revoke_api_token(&app, &caller.0, *id).await?;
    Ok(answer::done())
}
