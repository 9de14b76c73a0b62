//! What is posted to that is no drain's: the rules are the same.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::Secret;
use model::validation::Checks;

use crate::rules;

/// Checks the URL of a webhook, and keeps it as it was parsed.
pub fn check_webhook_url(checks: &mut Checks, field: &str, url: &mut String) {
    rules::url(checks, field, url);
}

/// Checks a secret that requests are signed with (Standard Webhooks): `whsec_` and 24 to 64 bytes in
/// base64.
pub fn check_signing_secret(checks: &mut Checks, field: &str, secret: &Secret<String>) {
    let key = secret.expose().strip_prefix("whsec_").and_then(|key| STANDARD.decode(key).ok());
    checks.rule(
        key.is_some_and(|key| (24..=64).contains(&key.len())),
        field,
        "must be whsec_ and 24 to 64 bytes in base64",
    );
}
