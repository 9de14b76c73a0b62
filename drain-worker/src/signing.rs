//! Signatures of requests, as Standard Webhooks 1.0 says (standardwebhooks.com, "Signature scheme"): over id,
//! time of the attempt and the body as it is sent, so after its compression.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use destinations::Credentials;
use model::Secret;

use crate::destination::{HttpClient, HttpConfigError};

/// Signs with a customer's secret.
pub(crate) struct Signer(hmac::Key);

impl Signer {
    /// From a drain's credentials, if there is a secret among them, which the client never quotes.
    pub(crate) fn of(
        credentials: &Credentials,
        client: &mut HttpClient,
    ) -> Result<Option<Self>, HttpConfigError> {
        let Some(secret) = &credentials.signing_secret else { return Ok(None) };
        client.mask(secret);
        let signer = Self::new(secret).ok_or(HttpConfigError::Missing("signing_secret"))?;
        Ok(Some(signer))
    }

    /// From a secret in the form `whsec_` and base64; None, if it has another.
    pub(crate) fn new(secret: &Secret<String>) -> Option<Self> {
        let key = STANDARD.decode(secret.expose().strip_prefix("whsec_")?).ok()?;
        Some(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// The headers of a request with this id and body that is sent now.
    pub(crate) fn headers(&self, id: &str, body: &[u8]) -> [(&'static str, String); 3] {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        [
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", now.to_string()),
            ("webhook-signature", self.signature(id, now, body)),
        ]
    }

    fn signature(&self, id: &str, seconds: u64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{seconds}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification's reference libraries.
    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        let signer = Signer::new(&secret).unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signature = signer.signature("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
