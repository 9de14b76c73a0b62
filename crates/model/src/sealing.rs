//! Sealed boxes: whoever has the sealing key can write a secret, only the holder of the opening
//! key can read it (X25519, XSalsa20-Poly1305; libsodium's `crypto_box_seal`).
//!
//! Invariant: a box opens only for the id it was sealed for, so a box copied into another row of
//! the database opens nowhere.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_box::aead::OsRng;
use crypto_box::{PublicKey, SecretKey};
use uuid::Uuid;

use crate::Secret;

/// The public half: seals, cannot open. Its text is base64 of 32 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct SealingKey(PublicKey);

/// The private half: opens. Its text is base64 of 32 bytes.
#[derive(Clone)]
pub struct OpeningKey(SecretKey);

/// The text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a sealing key is 32 bytes in base64")]
pub struct InvalidKey;

/// A box does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the sealed value was not sealed with this key for this id")]
pub struct OpenError;

fn parse(text: &str) -> Result<[u8; 32], InvalidKey> {
    let bytes = STANDARD.decode(text.trim()).map_err(|_| InvalidKey)?;
    bytes.try_into().map_err(|_| InvalidKey)
}

impl SealingKey {
    /// Seals `secret` for the thing whose id is `owner`.
    #[must_use]
    pub fn seal(&self, owner: Uuid, secret: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(16 + secret.len());
        message.extend_from_slice(owner.as_bytes());
        message.extend_from_slice(secret);
        let message = Secret::new(message);
        // Sealing fails only when the message is longer than memory can hold.
        self.0.seal(&mut OsRng, message.expose()).unwrap_or_default()
    }
}

impl OpeningKey {
    /// Makes a new key pair from the system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        Self(SecretKey::generate(&mut OsRng))
    }

    /// The half that seals for this key.
    #[must_use]
    pub fn sealing_key(&self) -> SealingKey {
        SealingKey(self.0.public_key())
    }

    /// The key's text, for its file.
    #[must_use]
    pub fn to_text(&self) -> Secret<String> {
        Secret::new(STANDARD.encode(self.0.to_bytes()))
    }

    /// Opens what was sealed for the thing whose id is `owner`.
    pub fn open(&self, owner: Uuid, sealed: &[u8]) -> Result<Secret<Vec<u8>>, OpenError> {
        let message = Secret::new(self.0.unseal(sealed).map_err(|_| OpenError)?);
        let secret = message.expose().strip_prefix(owner.as_bytes()).ok_or(OpenError)?;
        Ok(Secret::new(secret.to_vec()))
    }
}

impl fmt::Display for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0.as_bytes()))
    }
}

impl FromStr for SealingKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map(|bytes| Self(PublicKey::from(bytes)))
    }
}

impl FromStr for OpeningKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map(|bytes| Self(SecretKey::from(bytes)))
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({self})")
    }
}

impl fmt::Debug for OpeningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpeningKey([secret])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_opens_only_with_its_key_and_for_its_owner() -> Result<(), Box<dyn std::error::Error>> {
        let key: OpeningKey = OpeningKey::generate().to_text().expose().parse()?;
        let sealing: SealingKey = key.sealing_key().to_string().parse()?;
        let (owner, other) = (Uuid::now_v7(), Uuid::now_v7());
        let sealed = sealing.seal(owner, b"hunter2");

        assert_eq!(key.open(owner, &sealed)?.expose(), b"hunter2");
        assert!(key.open(other, &sealed).is_err());
        assert!(OpeningKey::generate().open(owner, &sealed).is_err());
        Ok(())
    }
}
