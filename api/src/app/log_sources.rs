//! Log sources: who may write lines of an app or a database.

use model::{App as AppKind, Database as DatabaseKind, Handle, Id, Secret};
use rand::Rng as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use store::StoreError;
use store::environments::Environment;
use store::intake::TokenHash;
use store::log_sources::{LogSource, LogSourceChange, NewLogSource, Subject};
use time::OffsetDateTime;
use utoipa::ToSchema;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::app::apps::null_is_a_value;
use crate::app::tokens::hash;
use crate::app::{App, AppError, PageRequest};
use crate::authz::{ChangeLogSources, Permit, ReadLogSources};
use model::validation::{Checks, FieldError};

const MOST_CERTIFICATES: usize = 10;
const LONGEST_CERTIFICATE: usize = 16 * 1024;
const LONGEST_KEEP: u32 = 86_400;
const KEY_LENGTH: usize = 7;
/// Keys that are tried: a thousand million sources would be needed for the first to be taken mostly.
const KEY_TRIES: usize = 8;

/// A log source to create, of an app or of a database.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogSourceToCreate {
    /// Unique among the environment's log sources.
    #[schema(value_type = String, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    handle: Handle,
    /// The app whose lines it writes.
    #[schema(value_type = Option<Uuid>)]
    app_id: Option<Id<AppKind>>,
    /// The database whose lines it writes.
    #[schema(value_type = Option<Uuid>)]
    database_id: Option<Id<DatabaseKind>>,
    /// Client certificates that stand for the token, each in PEM: 10 at most.
    #[serde(default)]
    client_certificates: Vec<String>,
    /// Bytes that it may send in a second: 1024 to 1073741824; what the intake's settings say, if left out.
    bytes_per_second: Option<i64>,
    /// Bytes that it may send at once: 1024 to 1073741824; what the intake's settings say, if left out.
    burst_bytes: Option<i64>,
}

/// What to change; what is left out stays. Intakes know of it within 2 s.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(clippy::option_option, reason = "absent, null and a value are three things")]
pub(crate) struct LogSourcePatch {
    /// Unique among the environment's log sources.
    #[schema(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    handle: Option<Handle>,
    /// All client certificates that stand for the token: each in PEM or, if it has it already, as its
    /// fingerprint.
    client_certificates: Option<Vec<String>>,
    /// Bytes that it may send in a second: 1024 to 1073741824; null: what the intake's settings say.
    #[serde(default, deserialize_with = "null_is_a_value")]
    #[schema(value_type = Option<i64>)]
    bytes_per_second: Option<Option<i64>>,
    /// Bytes that it may send at once: 1024 to 1073741824; null: what the intake's settings say.
    #[serde(default, deserialize_with = "null_is_a_value")]
    #[schema(value_type = Option<i64>)]
    burst_bytes: Option<Option<i64>>,
    /// While it is disabled, nothing is taken.
    disabled: Option<bool>,
}

/// What becomes of the old token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rotation {
    /// It is good for so many seconds more: 0 to 86400; 0, if left out.
    #[serde(default)]
    #[schema(maximum = 86_400)]
    keep_old_seconds: u32,
}

/// Log sources of an environment.
pub(crate) async fn list(
    app: &App,
    permit: Permit<ReadLogSources, Environment>,
    handle: Option<&Handle>,
    page: PageRequest,
) -> Result<Vec<LogSource>, AppError> {
    let handle = handle.map(Handle::as_str);
    Ok(app.store.log_sources(permit.thing().id, handle, page.after, page.limit).await?)
}

/// Creates a log source; its token is not kept.
pub(crate) async fn create(
    app: &App,
    permit: Permit<ChangeLogSources, Environment>,
    request: LogSourceToCreate,
) -> Result<(LogSource, Secret<String>), AppError> {
    let mut checks = Checks::default();
    let subject = match (request.app_id, request.database_id) {
        (Some(id), None) => Some((Subject::App(id), "app_id")),
        (None, Some(id)) => Some((Subject::Database(id), "database_id")),
        _ => {
            checks.rule(false, "app_id", "give exactly one of app_id and database_id");
            None
        }
    };
    let certificates = checks.keep(fingerprints(&request.client_certificates, &[]));
    check_quota(
        &mut checks,
        ("bytes_per_second", request.bytes_per_second),
        ("burst_bytes", request.burst_bytes),
    );
    checks.finish()?;
    let missing = || AppError::Internal("fields without error are missing".to_owned());
    let ((subject, field), certificates) = subject.zip(certificates).ok_or_else(missing)?;
    let (token, kept) = new_token(app).await?;
    let source = NewLogSource {
        environment_id: permit.thing().id,
        handle: request.handle,
        subject,
        token: kept,
        client_certificates: certificates,
        bytes_per_second: request.bytes_per_second,
        burst_bytes: request.burst_bytes,
    };
    let created = app.store.create_log_source(&source, permit.user()).await.map_err(taken)?;
    let detail = "must be the id of one in the log source's environment";
    let foreign = || AppError::Invalid(vec![FieldError::new(field, detail)]);
    Ok((created.ok_or_else(foreign)?, token))
}

/// Shows a log source.
pub(crate) fn show(permit: Permit<ReadLogSources, LogSource>) -> LogSource {
    permit.into_thing()
}

/// Changes a log source.
pub(crate) async fn update(
    app: &App,
    permit: Permit<ChangeLogSources, LogSource>,
    expected_revision: Option<i64>,
    patch: LogSourcePatch,
) -> Result<LogSource, AppError> {
    let source = permit.thing();
    let mut checks = Checks::default();
    let certificates = patch.client_certificates.as_ref();
    let certificates =
        certificates.and_then(|them| checks.keep(fingerprints(them, &source.client_certificates)));
    check_quota(
        &mut checks,
        ("bytes_per_second", patch.bytes_per_second.flatten()),
        ("burst_bytes", patch.burst_bytes.flatten()),
    );
    checks.finish()?;
    let change = LogSourceChange {
        handle: patch.handle,
        client_certificates: certificates,
        bytes_per_second: patch.bytes_per_second,
        burst_bytes: patch.burst_bytes,
        disabled: patch.disabled,
    };
    // What was checked was this revision, so no other is changed.
    let revision = Some(expected_revision.unwrap_or(source.revision));
    app.store
        .update_log_source(source.id, revision, &change, permit.user())
        .await
        .map_err(taken)?
        .ok_or(AppError::RevisionChanged)
}

/// Gives a log source another token, which is not kept.
pub(crate) async fn rotate(
    app: &App,
    permit: Permit<ChangeLogSources, LogSource>,
    rotation: &Rotation,
) -> Result<(LogSource, Secret<String>), AppError> {
    let mut checks = Checks::default();
    let seconds = rotation.keep_old_seconds;
    checks.rule(seconds <= LONGEST_KEEP, "keep_old_seconds", "must be 0 to 86400");
    checks.finish()?;
    let (token, kept) = new_token(app).await?;
    let rotated =
        app.store.rotate_log_source(permit.thing().id, &kept, seconds, permit.user()).await?;
    Ok((rotated.ok_or(AppError::NotFound)?, token))
}

/// Deletes a log source; what it has written stays.
pub(crate) async fn delete(
    app: &App,
    permit: Permit<ChangeLogSources, LogSource>,
    expected_revision: Option<i64>,
) -> Result<(), AppError> {
    let source = permit.thing().id;
    let done = app.store.delete_log_source(source, expected_revision, permit.user()).await?;
    if done { Ok(()) } else { Err(AppError::RevisionChanged) }
}

/// Checks a rate and a burst, which are those of these fields.
pub(crate) fn check_quota(
    checks: &mut Checks,
    rate: (&str, Option<i64>),
    burst: (&str, Option<i64>),
) {
    for (field, bytes) in [rate, burst] {
        let holds = bytes.is_none_or(|bytes| (1 << 10..=1 << 30).contains(&bytes));
        checks.rule(holds, field, "must be 1024 to 1073741824");
    }
}

fn taken(error: StoreError) -> AppError {
    if error.violates("log_sources_handle") {
        AppError::HandleTaken
    } else if error.violates("log_source_certificates_pkey") {
        AppError::CertificateTaken
    } else {
        error.into()
    }
}

/// A token that no source has, and what is kept of it.
async fn new_token(app: &App) -> Result<(Secret<String>, TokenHash), AppError> {
    for _ in 0..KEY_TRIES {
        let token = random_token();
        let key: String = token.expose().chars().take(KEY_LENGTH).collect();
        if !app.store.is_token_key_taken(&key).await? {
            let hash = hash(token.expose());
            return Ok((token, TokenHash { key, hash }));
        }
    }
    Err(AppError::Internal("every key of a token is taken".to_owned()))
}

/// A letter and 155 random bits, of letters that survive any configuration file.
fn random_token() -> Secret<String> {
    let mut random = rand::rng();
    let letters = (0..31).map(|_| match random.random_range(0..32_u8) {
        letter @ 0..26 => char::from(b'a' + letter),
        digit => char::from(b'2' + digit - 26),
    });
    Secret::new(std::iter::once('s').chain(letters).collect())
}

/// SHA-256 of certificates in DER, which come in PEM or, if they are among `known`, as they go out.
fn fingerprints(texts: &[String], known: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Vec<FieldError>> {
    const FIELD: &str = "client_certificates";
    if texts.len() > MOST_CERTIFICATES {
        return Err(vec![FieldError::new(FIELD, "must be 10 at most")]);
    }
    let mut found = Vec::new();
    let mut errors = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let kept = known.iter().find(|known| hex(known).eq_ignore_ascii_case(text.trim()));
        match kept.map_or_else(|| fingerprint(text), |kept| Ok(kept.clone())) {
            Ok(fingerprint) if found.contains(&fingerprint) => {
                errors.push(FieldError::new(format!("{FIELD}.{index}"), "is there already"));
            }
            Ok(fingerprint) => found.push(fingerprint),
            Err(detail) => errors.push(FieldError::new(format!("{FIELD}.{index}"), detail)),
        }
    }
    if errors.is_empty() { Ok(found) } else { Err(errors) }
}

fn fingerprint(pem: &str) -> Result<Vec<u8>, &'static str> {
    if pem.contains("PRIVATE KEY") {
        return Err("has a private key: keep that, and send the certificate alone");
    }
    if pem.len() > LONGEST_CERTIFICATE {
        return Err("must have 16384 bytes at most");
    }
    let unread = "must be a certificate in PEM, from -----BEGIN CERTIFICATE----- to its END, or the \
                  fingerprint of one that the source has";
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|_| unread)?;
    let [der] = found.as_slice() else {
        return Err(if found.is_empty() {
            unread
        } else {
            "must be one certificate: that of the sender, without those of its issuers"
        });
    };
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| unread)?;
    if !rest.is_empty() {
        return Err(unread);
    }
    if certificate.validity().not_after.to_datetime() < OffsetDateTime::now_utc() {
        return Err("has expired");
    }
    Ok(Sha256::digest(der).to_vec())
}

/// As fingerprints are shown.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_what_an_intake_takes_for_one() {
        for _ in 0..100 {
            let token = random_token();
            let token = token.expose();
            assert!(token.len() == 32 && token.starts_with('s'), "{token}");
            assert!(token.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7')), "{token}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused_in_words() {
        let pem = |name: &str, body: &str| {
            format!("-----BEGIN {name}-----\n{body}\n-----END {name}-----\n")
        };
        for (text, word) in [
            (String::new(), "in PEM"),
            ("a".repeat(64), "in PEM"),
            (pem("CERTIFICATE", "AAAA"), "in PEM"),
            (pem("PRIVATE KEY", "AAAA"), "keep"),
            (pem("CERTIFICATE", "AAAA").repeat(2), "one certificate"),
            ("x".repeat(LONGEST_CERTIFICATE + 1), "16384"),
        ] {
            let refused = fingerprints(&[text], &[]).expect_err("no certificate");
            assert_eq!(refused[0].field, "client_certificates.0");
            assert!(refused[0].detail.contains(word), "{refused:?}");
        }
        let known = vec![vec![0xab; 32]];
        let kept = fingerprints(&["AB".repeat(32)], &known);
        assert_eq!(kept, Ok(known.clone()));
        assert!(fingerprints(&["ab".repeat(32), "ab".repeat(32)], &known).is_err());
        assert!(fingerprints(&vec!["ab".repeat(32); 11], &known).is_err());
    }
}
