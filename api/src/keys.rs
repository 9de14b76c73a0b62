//! The keys that the API signs and seals with, read from their files.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::{SealingKey, Secret};
use russh::keys::{PrivateKey, PublicKey};

use crate::Connections;

/// A key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// Its file cannot be read.
    #[error("--{flag}: cannot read {}: {source}", path.display())]
    Read {
        /// Which setting names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Its file holds something else.
    #[error("--{flag}: {} does not hold {wanted}", path.display())]
    Content {
        /// Which setting names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What it must hold.
        wanted: &'static str,
    },
}

/// Every key of the API.
pub(crate) struct Keys {
    /// Signs access tokens.
    pub(crate) jwt: Secret<Vec<u8>>,
    /// Signs users' certificates.
    pub(crate) user_ca: PrivateKey,
    /// Vouches for edges.
    pub(crate) host_ca: PublicKey,
    /// App variables are sealed to it.
    pub(crate) edge: SealingKey,
    /// Drain credentials are sealed to it.
    pub(crate) worker: SealingKey,
}

impl Keys {
    /// Reads them all.
    pub(crate) fn read(files: &Connections) -> Result<Self, KeyError> {
        Ok(Self {
            jwt: read("api-jwt-key", &files.api_jwt_key, "base64 of 32 bytes", |text| {
                let key = Secret::new(STANDARD.decode(text).ok()?);
                (key.expose().len() == 32).then_some(key)
            })?,
            user_ca: read(
                "api-user-ca-key",
                &files.api_user_ca_key,
                "an OpenSSH private key without passphrase",
                |text| PrivateKey::from_openssh(text).ok().filter(|key| !key.is_encrypted()),
            )?,
            host_ca: read(
                "api-host-ca-public",
                &files.api_host_ca_public,
                "an OpenSSH public key",
                |text| PublicKey::from_openssh(text).ok(),
            )?,
            edge: read(
                "api-edge-sealing-key",
                &files.api_edge_sealing_key,
                "base64 of 32 bytes",
                |text| text.parse().ok(),
            )?,
            worker: read(
                "api-worker-sealing-key",
                &files.api_worker_sealing_key,
                "base64 of 32 bytes",
                |text| text.parse().ok(),
            )?,
        })
    }
}

fn read<T>(
    flag: &'static str,
    path: &Path,
    wanted: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, KeyError> {
    let text = std::fs::read_to_string(path).map_err(|source| KeyError::Read {
        flag,
        path: path.to_owned(),
        source,
    })?;
    let text = Secret::new(text);
    parse(text.expose().trim()).ok_or_else(|| KeyError::Content {
        flag,
        path: path.to_owned(),
        wanted,
    })
}
