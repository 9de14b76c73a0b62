//! The certificate authority for engineers: signs a client's one-time key for one session.
//!
//! Invariant: a certificate names exactly one principal, the session, and is good for a minute.

use std::time::{SystemTime, UNIX_EPOCH};

use model::{EphemeralSession, Id};
use rand::RngCore as _;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::{PrivateKey, PublicKey};

use crate::app::AppError;

// To both sides of now: a minute to sign in, and a minute for clocks that differ.
const VALIDITY_SECONDS: u64 = 60;

/// A certificate for `key`, as a line of OpenSSH's public key format.
pub(crate) fn sign(
    authority: &PrivateKey,
    key: &PublicKey,
    session: Id<EphemeralSession>,
) -> Result<String, AppError> {
    build(authority, key, session)
        .map_err(|error| AppError::Internal(format!("cannot sign a certificate: {error}")))
}

fn build(
    authority: &PrivateKey,
    key: &PublicKey,
    session: Id<EphemeralSession>,
) -> Result<String, russh::keys::ssh_key::Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut nonce = vec![0; 32];
    rand::rng().fill_bytes(&mut nonce);
    let mut builder = Builder::new(
        nonce,
        key.key_data().clone(),
        now.saturating_sub(VALIDITY_SECONDS),
        now + VALIDITY_SECONDS,
    )?;
    builder
        .cert_type(CertType::User)?
        .key_id(session.to_string())?
        .valid_principal(session.to_string())?
        .extension("permit-pty", "")?;
    builder.sign(authority)?.to_openssh()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use russh::keys::Certificate;

    use super::*;

    #[test]
    fn certificate_is_for_one_session_and_two_minutes() -> anyhow::Result<()> {
        let folder = std::env::temp_dir().join(format!("spillway-ca-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&folder)?;
        let file = folder.join("ca");
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&file)
            .status()?;
        assert!(made.success());
        let authority = PrivateKey::from_openssh(std::fs::read_to_string(&file)?)?;
        let session = Id::generate();
        let text = sign(&authority, authority.public_key(), session)?;
        std::fs::write(folder.join("cert.pub"), &text)?;
        let shown =
            Command::new("ssh-keygen").arg("-L").arg("-f").arg(folder.join("cert.pub")).output()?;
        std::fs::remove_dir_all(&folder)?;
        let shown = String::from_utf8(shown.stdout)?;
        for wanted in
            ["user certificate", &format!("Key ID: \"{session}\""), "permit-pty", "(none)"]
        {
            assert!(shown.contains(wanted), "{wanted} in {shown}");
        }

        let certificate = Certificate::from_openssh(&text)?;
        assert_eq!(certificate.valid_principals(), [session.to_string()]);
        assert_eq!(certificate.valid_before() - certificate.valid_after(), 120);
        assert_eq!(certificate.extensions().len(), 1);
        Ok(())
    }
}
