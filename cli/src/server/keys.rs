//! The keys and passwords of a deployment.
//!
//! Invariant: what exists is never overwritten. Public halves and the host certificate are derived
//! from private ones, so an interrupted start is completed by the next.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use model::{OpeningKey, Secret};
use rand::RngCore as _;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{PrivateKey, PublicKey};
use serde_json::json;
use zeroize::Zeroizing;

use crate::printer::Printer;
use crate::server::folder::make_folder;

/// The name that edges prove to have; clients accept no other.
const HOST_PRINCIPAL: &str = "spillway-edge";
const HOST_CERTIFICATE_SECONDS: u64 = 10 * 365 * 86_400;
const CLOCK_TOLERANCE_SECONDS: u64 = 3600;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the keys of a deployment with separate services; what exists is kept.
    ///
    /// The api needs `jwt.key`, `user_ca`, `host_ca.pub`, `edge_sealing.key` and
    /// `worker_sealing.key`; an edge `edge_host_key`, `edge_host_key-cert.pub`, `user_ca.pub` and
    /// `edge_opening.key`; a worker `worker_opening.key`. `host_ca` stays with you: it signs the host
    /// keys of further edges. Each service needs its role's password, too.
    Create {
        /// The folder for them.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
}

/// A folder of keys. The methods name its files.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    folder: PathBuf,
}

impl Command {
    pub(crate) fn run(self, printer: Printer) -> Result<()> {
        let Self::Create { dir } = self;
        let keys = Keys::create(&dir)?;
        let told = json!({ "dir": keys.folder });
        printer.done(&told, &format!("The keys are in {}.", keys.folder.display()))
    }
}

impl Keys {
    /// The keys in a folder, made where they are missing.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        make_folder(folder)?;
        let keys = Self { folder: folder.to_owned() };
        keys.text("jwt.key", || Ok(Secret::new(STANDARD.encode(*random_bytes()))))?;
        keys.key_pair("user_ca")?;
        let host_ca = keys.key_pair("host_ca")?;
        let host_key = keys.key_pair("edge_host_key")?;
        keys.text("edge_host_key-cert.pub", || host_certificate(&host_ca, host_key.public_key()))?;
        keys.sealing_pair("edge")?;
        keys.sealing_pair("worker")?;
        for role in store::migrations::ROLES {
            keys.password(role)?;
        }
        Ok(keys)
    }

    /// Whether the folder holds keys already.
    pub(crate) fn exist(folder: &Path) -> bool {
        folder.join("jwt.key").exists()
    }

    /// A file of the folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The password of a database role, made at the first call.
    pub(crate) fn password(&self, role: &str) -> Result<Secret<String>> {
        let name = format!("{role}.password");
        self.text(&name, || Ok(random_password()))
    }

    fn key_pair(&self, name: &str) -> Result<PrivateKey> {
        let text = self.text(name, || {
            let key = KeypairData::from(Ed25519Keypair::from_seed(&random_bytes()));
            let key = PrivateKey::new(key, name)?;
            Ok(Secret::new(key.to_openssh(LineEnding::LF)?.to_string()))
        })?;
        let key = PrivateKey::from_openssh(text.expose())
            .with_context(|| format!("{} holds no private key", self.file(name).display()))?;
        self.text(&format!("{name}.pub"), || Ok(Secret::new(key.public_key().to_openssh()?)))?;
        Ok(key)
    }

    fn sealing_pair(&self, service: &str) -> Result<()> {
        let name = format!("{service}_opening.key");
        let text = self.text(&name, || Ok(OpeningKey::generate().to_text()))?;
        let key: OpeningKey = text
            .expose()
            .parse()
            .with_context(|| format!("{} holds no key", self.file(&name).display()))?;
        let public = || Ok(Secret::new(key.sealing_key().to_string()));
        self.text(&format!("{service}_sealing.key"), public)?;
        Ok(())
    }

    /// The text of a file, which is made at the first call.
    fn text(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<Secret<String>>,
    ) -> Result<Secret<String>> {
        let path = self.file(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => return Ok(Secret::new(Secret::new(text).expose().trim_end().to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        }
        let text = make().with_context(|| format!("cannot make {name}"))?;
        let line = Zeroizing::new(format!("{}\n", text.expose().trim_end()));
        write_new(&path, line.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(text)
    }
}

/// Writes a file for its owner alone, whole or not at all, unless it exists.
fn write_new(path: &Path, contents: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut options = OpenOptions::new();
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
    file.write_all(contents)?;
    file.sync_all()?;
    // A link refuses what exists, where a rename would replace it.
    let linked = std::fs::hard_link(&draft, path);
    std::fs::remove_file(&draft)?;
    linked
}

fn host_certificate(authority: &PrivateKey, host_key: &PublicKey) -> Result<Secret<String>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    if now < CLOCK_TOLERANCE_SECONDS {
        bail!("the system's clock is not set");
    }
    let mut certificate = Builder::new(
        *random_bytes(),
        host_key.key_data().clone(),
        now - CLOCK_TOLERANCE_SECONDS,
        now + HOST_CERTIFICATE_SECONDS,
    )?;
    certificate.cert_type(CertType::Host)?.key_id(HOST_PRINCIPAL)?;
    certificate.valid_principal(HOST_PRINCIPAL)?;
    Ok(Secret::new(certificate.sign(authority)?.to_openssh()?))
}

fn random_bytes() -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    rand::rng().fill_bytes(&mut *bytes);
    bytes
}

/// 256 random bits, in letters that need no quoting anywhere.
pub(crate) fn random_password() -> Secret<String> {
    let mut text = String::with_capacity(64);
    for byte in *random_bytes() {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(digit.into(), 16));
        }
    }
    Secret::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use russh::keys::{Certificate, HashAlg};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn keys_fit_together_and_are_kept() {
        let folder = std::env::temp_dir().join(format!("keys-{}", std::process::id()));
        let keys = Keys::create(&folder).unwrap();
        let text = |name: &str| std::fs::read_to_string(keys.file(name)).unwrap();

        let certificate = Certificate::from_openssh(text("edge_host_key-cert.pub").trim()).unwrap();
        let authority = PublicKey::from_openssh(text("host_ca.pub").trim()).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        certificate.validate_at(now, [&authority.fingerprint(HashAlg::Sha256)]).unwrap();
        assert_eq!(certificate.cert_type(), CertType::Host);
        assert_eq!(certificate.valid_principals(), [HOST_PRINCIPAL]);
        let opening: OpeningKey = text("edge_opening.key").trim().parse().unwrap();
        assert_eq!(opening.sealing_key().to_string(), text("edge_sealing.key").trim());

        let before: Vec<_> = contents(&folder);
        std::fs::remove_file(keys.file("user_ca.pub")).unwrap();
        Keys::create(&folder).unwrap();
        assert!(before == contents(&folder), "a second start changed a key");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600);
                (entry.path(), std::fs::read(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    }
}
