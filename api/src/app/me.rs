//! The caller's own: memberships, SSH keys, API tokens. Needs no permit.

use model::{ApiToken, Id, Secret, SshKey};
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{HashAlg, PublicKey};
use serde::Deserialize;
use store::accounts::{Membership, RegisteredKey};
use store::tokens::IssuedToken;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::tokens::{API_TOKEN_PREFIX, hash, random_text};
use crate::app::{App, AppError, Caller, PageRequest};
use model::validation::{Checks, FieldError};

/// A key to register.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSshKey {
    /// A name for it, 1 to 100 characters.
    name: String,
    /// A line as in `id_ed25519.pub`: ed25519, ECDSA, or RSA of 2048 to 16384 bits; also on a security key.
    #[schema(example = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI... anna@laptop")]
    public_key: String,
}

/// A token to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewApiToken {
    /// A name for it, 1 to 100 characters.
    name: String,
    /// When it ends by itself; never, if left out.
    #[serde(default, with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
}

/// Where the caller is a member.
pub(crate) async fn memberships(app: &App, caller: &Caller) -> Result<Vec<Membership>, AppError> {
    Ok(app.store.memberships(caller.account.id).await?)
}

/// Registers an SSH key.
pub(crate) async fn create_ssh_key(
    app: &App,
    caller: &Caller,
    request: &NewSshKey,
) -> Result<RegisteredKey, AppError> {
    let mut checks = Checks::default();
    checks.text(&request.name, "name", 100);
    let key = checks.keep(parse_public_key(&request.public_key));
    checks.finish()?;
    let key = key.ok_or_else(|| AppError::Internal("a key without error is none".to_owned()))?;
    // Without its comment, which may say what the user did not mean to publish.
    let line = PublicKey::from(key.key_data().clone())
        .to_openssh()
        .map_err(|error| AppError::Internal(format!("cannot write a public key: {error}")))?;
    let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
    app.store.create_ssh_key(caller.account.id, &request.name, &line, &fingerprint).await.map_err(
        |error| {
            if error.violates("ssh_keys_fingerprint_key") {
                AppError::KeyRegistered
            } else {
                error.into()
            }
        },
    )
}

/// The caller's SSH keys.
pub(crate) async fn ssh_keys(
    app: &App,
    caller: &Caller,
    page: PageRequest,
) -> Result<Vec<RegisteredKey>, AppError> {
    Ok(app.store.ssh_keys(caller.account.id, page.after, page.limit).await?)
}

/// Removes an SSH key of the caller.
pub(crate) async fn delete_ssh_key(
    app: &App,
    caller: &Caller,
    id: Id<SshKey>,
) -> Result<(), AppError> {
    let found = app.store.delete_ssh_key(caller.account.id, id).await?;
    if found { Ok(()) } else { Err(AppError::NotFound) }
}

/// Makes an API token; its text is not kept.
pub(crate) async fn create_api_token(
    app: &App,
    caller: &Caller,
    request: &NewApiToken,
) -> Result<(IssuedToken, Secret<String>), AppError> {
    let mut checks = Checks::default();
    checks.text(&request.name, "name", 100);
    checks.rule(
        request.expires_at.is_none_or(|at| at > OffsetDateTime::now_utc()),
        "expires_at",
        "must be in the future",
    );
    checks.finish()?;
    let token = Secret::new(format!("{API_TOKEN_PREFIX}{}", random_text()));
    let issued = app
        .store
        .create_api_token(
            caller.account.id,
            &request.name,
            &hash(token.expose()),
            request.expires_at,
        )
        .await?;
    Ok((issued, token))
}

/// The caller's API tokens.
pub(crate) async fn api_tokens(
    app: &App,
    caller: &Caller,
    page: PageRequest,
) -> Result<Vec<IssuedToken>, AppError> {
    Ok(app.store.api_tokens(caller.account.id, page.after, page.limit).await?)
}

/// Revokes an API token of the caller.
pub(crate) async fn revoke_api_token(
    app: &App,
    caller: &Caller,
    id: Id<ApiToken>,
) -> Result<(), AppError> {
    let found = app.store.revoke_api_token(caller.account.id, id).await?;
    if found { Ok(()) } else { Err(AppError::NotFound) }
}

/// Reads a public key that may sign in.
pub(crate) fn parse_public_key(line: &str) -> Result<PublicKey, Vec<FieldError>> {
    let refuse = |detail: &str| Err(vec![FieldError::new("public_key", detail)]);
    let line = line.trim();
    if line.contains("PRIVATE KEY") {
        return refuse("is a private key: keep it, and send the line in the file ending in .pub");
    }
    if line.len() > 16_384 || line.contains(['\r', '\n']) {
        return refuse("must be one line of at most 16384 bytes");
    }
    if line.split(' ').next().is_some_and(|name| name.contains("-cert-v01@")) {
        return refuse("is a certificate: send the public key that it was made for");
    }
    let Ok(key) = PublicKey::from_openssh(line) else {
        return refuse("is not an OpenSSH public key, such as the line in id_ed25519.pub");
    };
    match key.key_data() {
        KeyData::Ed25519(_)
        | KeyData::Ecdsa(_)
        | KeyData::SkEd25519(_)
        | KeyData::SkEcdsaSha2NistP256(_) => Ok(key),
        KeyData::Rsa(rsa) if (2048..=16_384).contains(&rsa.key_size()) => Ok(key),
        KeyData::Rsa(_) => refuse(
            "is an RSA key of fewer than 2048 or more than 16384 bits: make another, with \
             ssh-keygen -t ed25519",
        ),
        _ => refuse("is of a kind that is not accepted: use ed25519, ECDSA or RSA"),
    }
}
