//! By whose authority requests are made: a token from the environment, or the sign-in.

use anyhow::{Context as _, Result, bail};
use model::Secret;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{Client, is_unauthorized};
use crate::credentials::{Credentials, CredentialsFile};

/// An access token with less than this left is replaced before it is used, in seconds.
const MARGIN: i64 = 30;

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) enum Authority {
    /// Nobody: signing in.
    Nobody,
    /// Whoever the token is for.
    Token(Secret<String>),
    /// Whoever signed in.
    SignIn(CredentialsFile),
}

impl Authority {
    /// The token to send, replaced if it is about to end.
    pub(super) async fn access_token(&self, client: &Client) -> Result<Option<Secret<String>>> {
        let file = match self {
            Self::Nobody => return Ok(None),
            Self::Token(token) => return Ok(Some(token.clone())),
            Self::SignIn(file) => file,
        };
        let credentials = signed_in(file, client)?;
        if credentials.access_expires_at > OffsetDateTime::now_utc().unix_timestamp() + MARGIN {
            return Ok(Some(Secret::new(credentials.access_token.to_string())));
        }
        refreshed(file, client, &credentials.access_token).await.map(Some)
    }

    /// Another token than `refused`, if there is a way to get one.
    pub(super) async fn replaced_token(
        &self,
        client: &Client,
        refused: &Secret<String>,
    ) -> Result<Option<Secret<String>>> {
        match self {
            Self::Nobody | Self::Token(_) => Ok(None),
            Self::SignIn(file) => refreshed(file, client, refused.expose()).await.map(Some),
        }
    }
}

fn signed_in(file: &CredentialsFile, client: &Client) -> Result<Credentials> {
    match file.read()? {
        Some(credentials) if credentials.api_url == client.base().as_str() => Ok(credentials),
        Some(credentials) => bail!(
            "you are signed in to {}, not to {}; sign in with: platform login --api {}",
            credentials.api_url,
            client.base(),
            client.base()
        ),
        None => bail!("you are not signed in; sign in with: platform login"),
    }
}

/// Uses the refresh token, unless another command has done so since `old` was read.
async fn refreshed(file: &CredentialsFile, client: &Client, old: &str) -> Result<Secret<String>> {
    let _lock = file.lock().await?;
    let current = signed_in(file, client)?;
    if current.access_token.as_str() != old {
        return Ok(Secret::new(current.access_token.to_string()));
    }
    let body = json!({ "refresh_token": current.refresh_token.as_str() });
    let path = ["sign-in", "refresh"];
    let answer = client.send(Method::POST, &path, &[], Some(&body), HeaderMap::new()).await;
    let answer = answer.map_err(|error| {
        if is_unauthorized(&error) {
            error.context("your sign-in has ended; sign in again: platform login")
        } else {
            error
        }
    })?;
    let credentials = credentials(&answer.body, current.api_url, current.email)?;
    file.write(&credentials)?;
    Ok(Secret::new(credentials.access_token.to_string()))
}

/// The sign-in that the API's answer describes.
pub(crate) fn credentials(answer: &Value, api_url: String, email: String) -> Result<Credentials> {
    let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
    let seconds = answer.get("expires_in").and_then(Value::as_i64);
    let parts = (text("access_token"), text("refresh_token"), seconds);
    let (Some(access), Some(refresh), Some(seconds)) = parts else {
        bail!("the API's answer to the sign-in is not complete");
    };
    let now = OffsetDateTime::now_utc().unix_timestamp();
    Ok(Credentials {
        api_url,
        email,
        access_token: Zeroizing::new(access),
        access_expires_at: now.checked_add(seconds).context("the token never ends")?,
        refresh_token: Zeroizing::new(refresh),
    })
}
