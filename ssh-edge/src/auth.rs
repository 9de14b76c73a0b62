//! Who is it? Certificates of our authority, and registered public keys.
//!
//! Sign-in says only who somebody is. What they may open is decided at the channel (`admission`),
//! where a refusal can be told in a sentence. Possession of the key is proven to russh before any
//! of this is asked.

use std::time::{SystemTime, UNIX_EPOCH};

use model::{EphemeralSession, Id, SshKey};
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::{Algorithm, Certificate, Fingerprint, HashAlg, PublicKey};
use store::sign_in::{Engineer, Target};
use store::{Store, StoreError};

use crate::edge::answered;

/// Somebody who has signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The bearer of the certificate that the api signed for one session.
    Certificate { session: Id<EphemeralSession>, fingerprint: String, may_have_pty: bool },
    /// The owner of a registered key, and the user name that they gave.
    Key { key: Id<SshKey>, engineer: Engineer, fingerprint: String, user_name: String },
}

impl Identity {
    pub(crate) fn fingerprint(&self) -> &str {
        match self {
            Self::Certificate { fingerprint, .. } | Self::Key { fingerprint, .. } => fingerprint,
        }
    }

    pub(crate) const fn method(&self) -> &'static str {
        match self {
            Self::Certificate { .. } => "certificate",
            Self::Key { .. } => "public_key",
        }
    }
}

/// Whether this user name can only be meant for a certificate.
pub(crate) fn names_a_session(user_name: &str) -> bool {
    user_name.parse::<Id<EphemeralSession>>().is_ok()
}

/// SHA-1 signatures can be forged; the same key signs with SHA-2.
pub(crate) fn is_acceptable(algorithm: &Algorithm) -> bool {
    !matches!(algorithm, Algorithm::Rsa { hash: None } | Algorithm::Dsa)
}

/// Checks all of a certificate: authority, kind, time, principal, options, key id.
pub(crate) fn check_certificate(
    certificate: &Certificate,
    user_name: &str,
    authority: &Fingerprint,
    now: SystemTime,
) -> Option<Identity> {
    let now = now.duration_since(UNIX_EPOCH).ok()?.as_secs();
    certificate.validate_at(now, [authority]).ok()?;
    let session: Id<EphemeralSession> = certificate.key_id().parse().ok()?;
    let valid = certificate.cert_type() == CertType::User
        && matches!(certificate.valid_principals(), [only] if only == user_name)
        && user_name == session.to_string()
        // A critical option restricts, and we know none; unknown ones must be refused.
        && certificate.critical_options().is_empty();
    valid.then(|| Identity::Certificate {
        session,
        fingerprint: certificate.public_key().fingerprint(HashAlg::Sha256).to_string(),
        may_have_pty: certificate.extensions().contains_key("permit-pty"),
    })
}

/// Finds the owner of a key. A database that does not answer signs nobody in.
pub(crate) async fn check_key(
    store: &Store,
    key: &PublicKey,
    user_name: &str,
) -> Result<Option<Identity>, StoreError> {
    let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
    let owner = answered(store.owner_of_ssh_key(&fingerprint)).await?;
    Ok(owner.map(|(key, engineer)| Identity::Key {
        key,
        engineer,
        fingerprint,
        user_name: user_name.to_owned(),
    }))
}

/// Reads `app.environment` or `app.environment.organization`.
pub(crate) fn parse_target(user_name: &str) -> Option<Target> {
    let mut parts = user_name.split('.');
    let target = Target {
        app: parts.next()?.parse().ok()?,
        environment: parts.next()?.parse().ok()?,
        organization: parts.next().map(str::parse).transpose().ok()?,
    };
    parts.next().is_none().then_some(target)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use russh::keys::PrivateKey;
    use russh::keys::ssh_key::certificate::Builder;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    struct Case {
        authority: PrivateKey,
        session: Id<EphemeralSession>,
    }

    impl Case {
        fn new() -> Self {
            Self { authority: key(), session: Id::generate() }
        }

        fn certificate(&self, change: impl FnOnce(&mut Builder)) -> Certificate {
            self.certificate_of(CertType::User, &self.session.to_string(), change)
        }

        fn certificate_of(
            &self,
            kind: CertType,
            key_id: &str,
            change: impl FnOnce(&mut Builder),
        ) -> Certificate {
            let public = key().public_key().key_data().clone();
            let mut builder =
                Builder::new(vec![7; 32], public, NOW - 60, NOW + 60).expect("a builder");
            builder.cert_type(kind).expect("a type");
            builder.key_id(key_id).expect("an id");
            change(&mut builder);
            builder.sign(&self.authority).expect("a certificate")
        }

        fn check(&self, certificate: &Certificate, at: u64) -> Option<Identity> {
            let authority = self.authority.fingerprint(HashAlg::Sha256);
            let now = UNIX_EPOCH + Duration::from_secs(at);
            check_certificate(certificate, &self.session.to_string(), &authority, now)
        }
    }

    fn key() -> PrivateKey {
        let seed = *uuid::Uuid::new_v4().as_bytes();
        let mut doubled = [0; 32];
        doubled[..16].copy_from_slice(&seed);
        russh::keys::ssh_key::private::Ed25519Keypair::from_seed(&doubled).into()
    }

    #[test]
    fn certificate_signs_in_only_to_its_own_session_while_valid() {
        let case = Case::new();
        let name = case.session.to_string();
        let good = case.certificate(|builder| {
            builder.valid_principal(name.clone()).expect("a principal");
            builder.extension("permit-pty", "").expect("an extension");
        });
        assert!(matches!(
            case.check(&good, NOW),
            Some(Identity::Certificate { session, may_have_pty: true, .. }) if session == case.session
        ));
        assert_eq!(case.check(&good, NOW + 60), None, "expired");
        assert_eq!(case.check(&good, NOW - 61), None, "not yet valid");

        let stranger = Case { authority: key(), session: case.session };
        assert_eq!(stranger.check(&good, NOW), None, "another authority");
        let other = Case { authority: case.authority.clone(), session: Id::generate() };
        assert_eq!(other.check(&good, NOW), None, "another user name");
    }

    #[test]
    fn certificate_with_anything_unusual_is_refused() {
        let case = Case::new();
        let name = case.session.to_string();
        let refused = |change: &dyn Fn(&mut Builder)| {
            let certificate = case.certificate(|builder| change(builder));
            assert_eq!(case.check(&certificate, NOW), None);
        };
        refused(&|builder| {
            builder.all_principals_valid().expect("principals");
        });
        refused(&|builder| {
            builder.valid_principal(name.clone()).expect("a principal");
            builder.valid_principal("root").expect("a principal");
        });
        refused(&|builder| {
            builder.valid_principal(name.clone()).expect("a principal");
            builder.critical_option("force-command", "true").expect("an option");
        });
        for (kind, key_id) in [(CertType::Host, name.as_str()), (CertType::User, "someone")] {
            let certificate = case.certificate_of(kind, key_id, |builder| {
                builder.valid_principal(name.clone()).expect("a principal");
            });
            assert_eq!(case.check(&certificate, NOW), None);
        }
    }

    #[test]
    fn user_names_of_keys_split_in_one_way() {
        let target = parse_target("web.production").expect("a target");
        assert_eq!((target.app.as_str(), target.environment.as_str()), ("web", "production"));
        assert_eq!(target.organization, None);
        let target = parse_target("web.production.acme").expect("a target");
        assert_eq!(target.organization.map(String::from), Some("acme".to_owned()));
        for bad in ["", "web", "web.", ".production", "a.b.c.d", "root", "Web.production"] {
            assert_eq!(parse_target(bad), None, "{bad}");
        }
    }
}
