//! Signing in and out, and telling who asks.

use std::net::IpAddr;
use std::time::Duration;

use model::{Id, Secret, User};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::app::tokens::{API_TOKEN_PREFIX, hash, random_text};
use crate::app::{App, AppError, Caller};

/// E-mail address and password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignIn {
    /// The user's e-mail address.
    email: String,
    /// The user's password.
    #[schema(value_type = String, format = Password, write_only)]
    password: Secret<String>,
}

/// A refresh token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefreshToken {
    /// The refresh token of the last sign-in or refresh.
    #[schema(value_type = String, format = Password, write_only)]
    refresh_token: Secret<String>,
}

/// The two tokens of a sign-in.
pub(crate) struct Tokens {
    /// A JWT.
    pub(crate) access_token: Secret<String>,
    /// How long it is good.
    pub(crate) expires_in: Duration,
    /// Good once, for the next two tokens.
    pub(crate) refresh_token: Secret<String>,
}

/// Signs a user in.
pub(crate) async fn sign_in(
    app: &App,
    address: IpAddr,
    request: SignIn,
) -> Result<Tokens, AppError> {
    app.rate_limits.try_address(address)?;
    app.rate_limits.try_email(&request.email)?;
    // The database takes no NUL in a text, so nobody has such an address.
    let found = if request.email.contains('\0') {
        None
    } else {
        app.store.account_by_email(&request.email).await?
    };
    let (account, password_hash) = found.unzip();
    let verified = app.passwords.verify(request.password, password_hash).await?;
    let Some(account) = account.filter(|_| verified) else { return Err(AppError::SignInFailed) };
    let refresh_token = random_text();
    app.store
        .start_refresh_family(account.id, &hash(&refresh_token), app.refresh_token_lifetime)
        .await?;
    tokens(app, account.id, refresh_token)
}

/// Exchanges a refresh token.
pub(crate) async fn refresh(
    app: &App,
    address: IpAddr,
    request: &RefreshToken,
) -> Result<Tokens, AppError> {
    app.rate_limits.try_address(address)?;
    let next = random_text();
    let account = app
        .store
        .rotate_refresh_token(
            &hash(request.refresh_token.expose()),
            &hash(&next),
            app.refresh_token_lifetime,
        )
        .await?
        .ok_or(AppError::RefreshFailed)?;
    tokens(app, account.id, next)
}

/// Ends a sign-in. An unknown token is no error (RFC 7009, section 2.2). Access tokens stay good until
/// they expire.
pub(crate) async fn sign_out(app: &App, request: &RefreshToken) -> Result<(), AppError> {
    Ok(app.store.end_refresh_family(&hash(request.refresh_token.expose())).await?)
}

/// Who a bearer token speaks for. Asks the database each time, so that a disabled user is out at
/// once.
pub(crate) async fn authenticate(app: &App, token: &str) -> Result<Caller, AppError> {
    let account = if token.starts_with(API_TOKEN_PREFIX) {
        app.store.account_by_api_token(&hash(token)).await?
    } else {
        match app.access_tokens.check(token) {
            Some(user) => app.store.account(user).await?,
            None => None,
        }
    };
    account.map(|account| Caller { account }).ok_or(AppError::NotSignedIn)
}

fn tokens(app: &App, user: Id<User>, refresh_token: String) -> Result<Tokens, AppError> {
    Ok(Tokens {
        access_token: app.access_tokens.issue(user)?,
        expires_in: app.access_tokens.lifetime(),
        refresh_token: Secret::new(refresh_token),
    })
}
