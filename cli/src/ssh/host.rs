//! Whether the other end is an edge of this platform.
//!
//! Invariant: the answer is yes only for a host certificate, valid now, of the authority and with
//! the principal that the API named. A bare key is never trusted, not even once.

use std::time::{SystemTime, UNIX_EPOCH};

use russh::client::Handler;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Certificate, HashAlg, PublicKey, PublicKeyOrCertificate};

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The other end has not proved to be an edge of this platform.
    #[error("the server is not an edge of this platform: {0}")]
    Stranger(&'static str),
    /// The protocol failed.
    #[error("{0}")]
    Protocol(#[from] russh::Error),
}

/// Checks the server's certificate, and has no other opinions.
#[derive(Debug)]
pub(crate) struct HostCheck {
    authority: PublicKey,
    principal: String,
}

impl HostCheck {
    /// Accepts what `authority` vouches for under the name `principal`.
    pub(crate) const fn new(authority: PublicKey, principal: String) -> Self {
        Self { authority, principal }
    }

    fn check(&self, certificate: &Certificate) -> Result<(), ConnectError> {
        let refuse = |reason| Err(ConnectError::Stranger(reason));
        if certificate.cert_type() != CertType::Host {
            return refuse("its certificate is not one of a host");
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let authority = self.authority.fingerprint(HashAlg::Sha256);
        if certificate.validate_at(now, [&authority]).is_err() {
            return refuse(
                "its certificate is not of the platform's authority, or not valid now: are the clocks right?",
            );
        }
        if !certificate.valid_principals().contains(&self.principal) {
            return refuse("its certificate is for another name");
        }
        if !certificate.critical_options().is_empty() {
            return refuse("its certificate has options that are not understood");
        }
        Ok(())
    }
}

impl Handler for HostCheck {
    type Error = ConnectError;

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> Result<bool, ConnectError> {
        match key {
            PublicKeyOrCertificate::Certificate(certificate) => {
                self.check(certificate).map(|()| true)
            }
            PublicKeyOrCertificate::PublicKey { .. } => {
                Err(ConnectError::Stranger("it has no certificate"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use russh::keys::PrivateKey;
    use russh::keys::ssh_key::certificate::Builder;
    use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::new(KeypairData::from(Ed25519Keypair::from_seed(&[seed; 32])), "").unwrap()
    }

    struct Case {
        authority: u8,
        kind: CertType,
        principal: &'static str,
        ends_in: i64,
        option: bool,
    }

    const GOOD: Case = Case {
        authority: 1,
        kind: CertType::Host,
        principal: "spillway-edge",
        ends_in: 60,
        option: false,
    };

    fn check(case: &Case) -> Result<(), ConnectError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let end = now.checked_add_signed(case.ends_in).unwrap();
        let host = key(9).public_key().key_data().clone();
        let mut builder = Builder::new(vec![7; 16], host, now - 3600, end).unwrap();
        builder.cert_type(case.kind).unwrap().valid_principal(case.principal).unwrap();
        if case.option {
            builder.critical_option("force-command", "x").unwrap();
        }
        let certificate = builder.sign(&key(case.authority)).unwrap();
        HostCheck::new(key(1).public_key().clone(), "spillway-edge".to_owned()).check(&certificate)
    }

    #[test]
    fn only_a_valid_host_certificate_of_the_authority_is_trusted() {
        check(&GOOD).unwrap();
        assert!(check(&Case { authority: 2, ..GOOD }).is_err());
        assert!(check(&Case { kind: CertType::User, ..GOOD }).is_err());
        assert!(check(&Case { principal: "other", ..GOOD }).is_err());
        let expired = check(&Case { ends_in: -60, ..GOOD }).unwrap_err().to_string();
        assert!(expired.contains("clocks"), "{expired}");
        assert!(check(&Case { option: true, ..GOOD }).is_err());
    }

    #[tokio::test]
    async fn bare_key_is_not_trusted_even_if_it_is_the_authoritys() {
        let mut host = HostCheck::new(key(1).public_key().clone(), "spillway-edge".to_owned());
        let bare = PublicKeyOrCertificate::from(key(1).public_key().clone());
        assert!(host.check_server_key(&bare).await.is_err());
    }
}
