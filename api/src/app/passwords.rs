//! Password hashing: argon2id with the library's parameters, which are OWASP's (19 MiB, 2 passes,
//! 1 lane).
//!
//! Invariant: checking takes the same work whether the user exists or not, and a bounded number of
//! checks runs at once.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher as _, PasswordVerifier as _};
use model::Secret;
use tokio::sync::Semaphore;

use crate::app::AppError;

const PATIENCE: Duration = Duration::from_secs(5);

/// The password could not be hashed.
#[derive(Debug, thiserror::Error)]
#[error("the password could not be hashed: {0}")]
pub struct HashError(argon2::password_hash::Error);

/// The password's argon2id hash in PHC form. Takes some 30 ms of CPU: not for async tasks.
pub fn hash_password(password: &Secret<String>) -> Result<Secret<String>, HashError> {
    Argon2::default()
        .hash_password(password.expose().as_bytes())
        .map(|hash| Secret::new(hash.to_string()))
        .map_err(HashError)
}

/// Checks passwords.
pub(crate) struct Passwords {
    slots: Arc<Semaphore>,
    // Stands in for the hash of a user who does not exist.
    decoy: Secret<String>,
}

impl Passwords {
    /// Prepares to check so many at once.
    pub(crate) fn new(at_once: NonZeroU32) -> Result<Self, HashError> {
        let decoy = hash_password(&Secret::new(super::tokens::random_text()))?;
        Ok(Self { slots: Arc::new(Semaphore::new(at_once.get() as usize)), decoy })
    }

    /// Whether the password belongs to the hash; without a hash, no, after the same work.
    pub(crate) async fn verify(
        &self,
        password: Secret<String>,
        hash: Option<Secret<String>>,
    ) -> Result<bool, AppError> {
        let slot = tokio::time::timeout(PATIENCE, Arc::clone(&self.slots).acquire_owned())
            .await
            .map_err(|_| AppError::Busy)?
            .map_err(|_| AppError::Busy)?;
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.decoy.clone());
        let verified = tokio::task::spawn_blocking(move || {
            // Kept to the end of the work: a caller who goes away does not free the CPU.
            let _slot = slot;
            PasswordHash::new(hash.expose()).is_ok_and(|hash| {
                Argon2::default().verify_password(password.expose().as_bytes(), &hash).is_ok()
            })
        })
        .await
        .map_err(|error| AppError::Internal(error.to_string()))?;
        Ok(verified && known)
    }
}
