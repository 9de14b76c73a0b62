//! `/v1/sign-in`, `/v1/sign-out`.

use actix_web::HttpResponse;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::sign_in::{self, RefreshToken, SignIn, Tokens as Issued};
use crate::http::openapi::Failure;
use crate::http::problem::Problem;
use crate::http::request::{Body, ClientAddress};
use crate::http::{Shared, answer};

/// The tokens of a sign-in.
#[derive(Serialize, ToSchema)]
struct Tokens<'a> {
    /// Goes into the Authorization header: `Bearer` and this.
    access_token: &'a str,
    /// Always `Bearer`.
    token_type: &'static str,
    /// Seconds for which the access token is good.
    expires_in: u64,
    /// Good once, at `/v1/sign-in/refresh`, for the next tokens.
    refresh_token: &'a str,
}

fn render(issued: &Issued) -> HttpResponse {
    HttpResponse::Ok().json(Tokens {
        access_token: issued.access_token.expose(),
        token_type: "Bearer",
        expires_in: issued.expires_in.as_secs(),
        refresh_token: issued.refresh_token.expose(),
    })
}

/// Signs in with e-mail address and password.
#[utoipa::path(
    post, path = "/v1/sign-in", tag = "sign-in", operation_id = "sign_in", security(()),
    request_body = SignIn,
    responses((status = 200, description = "Signed in.", body = Tokens), Failure)
)]
pub(crate) async fn sign_in(
    app: Shared,
    address: ClientAddress,
    body: Body<SignIn>,
) -> Result<HttpResponse, Problem> {
    Ok(render(&sign_in::sign_in(&app, address.0, body.0).await?))
}

/// Exchanges a refresh token for new tokens. Sending one twice ends the sign-in.
#[utoipa::path(
    post, path = "/v1/sign-in/refresh", tag = "sign-in", operation_id = "refresh_sign_in",
    security(()),
    request_body = RefreshToken,
    responses((status = 200, description = "Signed in for longer.", body = Tokens), Failure)
)]
pub(crate) async fn refresh(
    app: Shared,
    address: ClientAddress,
    body: Body<RefreshToken>,
) -> Result<HttpResponse, Problem> {
    Ok(render(&sign_in::refresh(&app, address.0, &body.0).await?))
}

/// Ends a sign-in: its refresh tokens are no longer good. An access token expires by itself.
#[utoipa::path(
    post, path = "/v1/sign-out", tag = "sign-in", operation_id = "sign_out", security(()),
    request_body = RefreshToken,
    responses((status = 204, description = "Signed out, or the token was unknown."), Failure)
)]
pub(crate) async fn sign_out(
    app: Shared,
    body: Body<RefreshToken>,
) -> Result<HttpResponse, Problem> {
    sign_in::sign_out(&app, &body.0).await?;
    Ok(answer::done())
}
