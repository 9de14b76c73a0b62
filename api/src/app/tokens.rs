//! Tokens: short JWTs that are checked without the database, and opaque ones that are kept hashed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use model::{Id, Secret, User};
use rand::RngCore as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::app::AppError;

/// What every API token begins with, so that scanners find one that leaks.
pub(crate) const API_TOKEN_PREFIX: &str = "spw_";
const ISSUER: &str = "spillway";

/// 256 random bits in base64url.
pub(crate) fn random_text() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What is kept of an opaque token. It has 256 random bits, so it needs neither salt nor work.
pub(crate) fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: Uuid,
    iat: u64,
    exp: u64,
    jti: Uuid,
}

/// Signs and checks access tokens.
pub(crate) struct AccessTokens {
    signing: EncodingKey,
    checking: DecodingKey,
    validation: Validation,
    lifetime: Duration,
}

impl AccessTokens {
    /// Tokens that are good for `lifetime`.
    pub(crate) fn new(key: &Secret<Vec<u8>>, lifetime: Duration) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        // One clock signs and checks.
        validation.leeway = 0;
        Self {
            signing: EncodingKey::from_secret(key.expose()),
            checking: DecodingKey::from_secret(key.expose()),
            validation,
            lifetime,
        }
    }

    /// How long a token is good.
    pub(crate) const fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// A token for a user.
    pub(crate) fn issue(&self, user: Id<User>) -> Result<Secret<String>, AppError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: user.uuid(),
            iat: now.as_secs(),
            exp: (now + self.lifetime).as_secs(),
            jti: Uuid::now_v7(),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing)
            .map(Secret::new)
            .map_err(|error| AppError::Internal(format!("cannot sign an access token: {error}")))
    }

    /// Whose token this is, if it is good.
    pub(crate) fn check(&self, token: &str) -> Option<Id<User>> {
        let token = jsonwebtoken::decode::<Claims>(token, &self.checking, &self.validation).ok()?;
        Some(Id::from_uuid(token.claims.sub))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(key: u8, seconds: u64) -> AccessTokens {
        AccessTokens::new(&Secret::new(vec![key; 32]), Duration::from_secs(seconds))
    }

    #[test]
    fn access_token_is_good_for_its_key_and_time_only() {
        let user = Id::generate();
        let token = tokens(1, 60).issue(user).expect("signs");
        assert_eq!(tokens(1, 60).check(token.expose()), Some(user));
        assert_eq!(tokens(2, 60).check(token.expose()), None);
        let expired = tokens(1, 0).issue(user).expect("signs");
        std::thread::sleep(Duration::from_millis(1100));
        assert_eq!(tokens(1, 0).check(expired.expose()), None);
    }

    #[test]
    fn unsigned_token_is_refused() {
        // {"alg":"none"} over claims that would be good.
        let user = Id::<User>::generate();
        let claims = serde_json::json!({
            "iss": ISSUER, "sub": user, "iat": 0, "exp": 9_999_999_999_u64, "jti": user
        });
        let encode = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let header = encode(r#"{"alg":"none","typ":"JWT"}"#);
        let token = format!("{header}.{}.", encode(&claims.to_string()));
        assert_eq!(tokens(1, 60).check(&token), None);
    }
}
