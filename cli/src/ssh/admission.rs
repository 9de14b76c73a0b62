//! Asking the API for a session.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use rand::RngCore as _;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{Certificate, PrivateKey, PublicKey};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::client::Client;
use crate::select::field;

/// What lets this process into one session.
#[derive(Debug)]
pub(crate) struct Admission {
    /// The session's own key.
    pub(crate) key: Arc<PrivateKey>,
    /// The API's word for the key.
    pub(crate) certificate: Certificate,
    /// The name to sign in with.
    pub(crate) user_name: String,
    /// Who vouches for edges.
    pub(crate) host_authority: PublicKey,
    /// The name that an edge proves to have.
    pub(crate) host_principal: String,
    /// Where edges listen, `host:port` each.
    pub(crate) addresses: Vec<String>,
}

/// The API's answer.
#[derive(Deserialize)]
struct Answer {
    certificate: String,
    host_authority: String,
    host_principal: String,
    addresses: Vec<String>,
    user_name: String,
}

/// Asks for a session in `app`.
pub(crate) async fn request(
    client: &Client,
    app: &Value,
    reason: Option<&str>,
) -> Result<Admission> {
    let key = one_time_key()?;
    let body = json!({ "public_key": key.public_key().to_openssh()?, "reason": reason });
    let path = ["apps", field(app, "id"), "ephemeral-sessions"];
    let answer = client.post(&path, &body).await?.body;
    let answer: Answer =
        serde_json::from_value(answer).context("the API's answer is not complete")?;
    if answer.addresses.is_empty() {
        bail!("no SSH edge is running; tell your operator");
    }
    Ok(Admission {
        key: Arc::new(key),
        certificate: Certificate::from_openssh(answer.certificate.trim())
            .context("the API's certificate is damaged")?,
        user_name: answer.user_name,
        host_authority: PublicKey::from_openssh(answer.host_authority.trim())
            .context("the API's host authority is damaged")?,
        host_principal: answer.host_principal,
        addresses: answer.addresses,
    })
}

fn one_time_key() -> Result<PrivateKey> {
    let mut seed = Zeroizing::new([0; 32]);
    rand::rng().fill_bytes(&mut *seed);
    Ok(PrivateKey::new(KeypairData::from(Ed25519Keypair::from_seed(&seed)), "")?)
}
