//! Who may write what: all log sources, in memory.
//!
//! A token is looked up without the database, so that whoever tries tokens costs nobody else anything. What was
//! changed is known here within [`LOOK_EVERY`]; an unknown token makes it look at once, but not more often than
//! [`LOOK_AGAIN`].
//!
//! Invariant: what a source may do is what its row said at the last look. Where the rows cannot be read, those of
//! the last look go on being good, and of anything else nobody is told that it is wrong.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use model::{Environment, Id, LogSource, Origin, Producer as ProducerKind, Source as SourceKind};
use service::Shutdown;
use sha2::{Digest as _, Sha256};
use store::Store;
use store::intake::{IntakeSource, TokenHash};
use subtle::ConstantTimeEq as _;
use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, sleep, sleep_until};

use crate::counts::Counts;
use crate::lanes::Producer;
use crate::loops::{Loops, SourceOf};

/// How long a change of a source may go unnoticed.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Characters of a token that say which source it is of.
const KEY_LENGTH: usize = 7;
/// Characters of a token: a letter, six that name the source, and 125 random bits.
pub(crate) const TOKEN_LENGTH: usize = 32;

/// A log source that may write.
#[derive(Debug)]
pub(crate) struct Source {
    row: IntakeSource,
    shared: Arc<Producer>,
}

/// A sender may not write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// Of no source.
    #[error("the token is not that of a log source")]
    UnknownToken,
    /// The token is not, or no longer, that of the source it names.
    #[error("the token is wrong: it may have been rotated")]
    WrongToken,
    /// It may not write at present.
    #[error("the log source is disabled")]
    Disabled,
    /// Of no source.
    #[error("the client certificate is not that of a log source")]
    UnknownCertificate,
    /// It may be good: it is not known, and the sources cannot be read.
    #[error(
        "the log sources cannot be read at present, and so not whose this is; send again later"
    )]
    Unread,
}

/// All sources. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    store: Store,
    counts: Counts,
    loops: Loops,
    all: Arc<RwLock<All>>,
    looked: Arc<Mutex<Option<Looked>>>,
    /// Told when somebody came with something unknown who does not wait.
    wanted: Arc<Notify>,
}

/// When the sources were last read, and whether they could be.
#[derive(Debug, Clone, Copy)]
struct Looked {
    at: Instant,
    is_ok: bool,
}

#[derive(Debug, Default)]
struct All {
    ids: HashMap<Id<LogSource>, Arc<Source>>,
    keys: HashMap<String, Arc<Source>>,
    certificates: HashMap<Vec<u8>, Arc<Source>>,
}

impl Source {
    pub(crate) fn new(row: IntakeSource) -> Self {
        let shared = Arc::new(Producer::new(Arc::new(origin(&row))));
        Self { row, shared }
    }

    /// Its id.
    pub(crate) const fn id(&self) -> Id<LogSource> {
        self.row.id
    }

    /// The environment whose stream it writes to.
    pub(crate) const fn environment(&self) -> Id<Environment> {
        self.row.environment.id
    }

    /// Both.
    pub(crate) const fn of(&self) -> SourceOf {
        (self.environment(), self.id())
    }

    /// The engine, if its lines are a database's.
    pub(crate) fn engine(&self) -> Option<&str> {
        self.row.engine.as_deref()
    }

    /// Its own quota, as far as it has one: bytes a second, bytes at once.
    pub(crate) const fn quota(&self) -> (Option<i64>, Option<i64>) {
        self.row.quota
    }

    /// Its environment's.
    pub(crate) const fn environment_quota(&self) -> (Option<i64>, Option<i64>) {
        self.row.environment_quota
    }

    /// A new producer of its lines: for a connection or a file, whose lines follow one another.
    pub(crate) fn producer(&self) -> Arc<Producer> {
        Arc::new(Producer::new(Arc::new(origin(&self.row))))
    }

    /// The producer of those of its lines that come with no connection that means anything.
    pub(crate) const fn shared_producer(&self) -> &Arc<Producer> {
        &self.shared
    }

    /// What its lines are about, under another producer.
    pub(crate) fn origin_as(&self, producer: Id<ProducerKind>) -> Arc<Origin> {
        Arc::new(Origin { producer, ..origin(&self.row) })
    }
}

fn origin(row: &IntakeSource) -> Origin {
    Origin {
        producer: Id::generate(),
        source: if row.app.is_some() { SourceKind::App } else { SourceKind::Database },
        environment: row.environment.clone(),
        app: row.app.clone(),
        database: row.database.clone(),
        session: None,
    }
}

/// The token's part that names its source, if the text may be a token.
fn key_of(token: &str) -> Option<&str> {
    let is_token = token.len() == TOKEN_LENGTH
        && token.starts_with('s')
        && token.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'));
    if is_token { token.get(..KEY_LENGTH) } else { None }
}

/// Whether some text has the form of a token.
pub(crate) fn is_token(text: &str) -> bool {
    key_of(text).is_some()
}

impl Sources {
    /// None yet.
    pub(crate) fn new(store: Store, counts: Counts, loops: Loops) -> Self {
        Self {
            store,
            counts,
            loops,
            all: Arc::default(),
            looked: Arc::default(),
            wanted: Arc::default(),
        }
    }

    /// Reads all of them.
    pub(crate) async fn look(&self) -> Result<(), store::StoreError> {
        let mut looked = self.looked.lock().await;
        self.look_now(&mut looked).await
    }

    async fn look_now(&self, looked: &mut Option<Looked>) -> Result<(), store::StoreError> {
        // Also after a failure: whoever tries tokens must not try the database.
        let at = Instant::now();
        *looked = Some(Looked { at, is_ok: false });
        self.loops.know(self.store.intake_drains().await?);
        self.know(self.store.intake_sources().await?);
        *looked = Some(Looked { at, is_ok: true });
        Ok(())
    }

    /// These are all the sources now.
    pub(crate) fn know(&self, rows: Vec<IntakeSource>) {
        let before = self.read(|all| all.ids.clone());
        let mut all = All::default();
        for row in rows {
            let source = match before.get(&row.id) {
                Some(source) if source.row == row => source.clone(),
                _ => Arc::new(Source::new(row)),
            };
            let row = &source.row;
            all.keys.insert(row.token.key.clone(), source.clone());
            if let Some((token, _)) = &row.previous_token {
                all.keys.insert(token.key.clone(), source.clone());
            }
            for certificate in &row.client_certificates {
                all.certificates.insert(certificate.clone(), source.clone());
            }
            all.ids.insert(row.id, source);
        }
        *self.all.write().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// Looks again and again until the shutdown is requested.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        let mut trouble = false;
        while !shutdown.is_requested() {
            match self.look().await {
                Ok(()) => trouble = false,
                Err(error) => {
                    if !std::mem::replace(&mut trouble, true) {
                        tracing::warn!("log sources cannot be looked at: {error}");
                    }
                }
            }
            // Losing an arm loses nothing.
            tokio::select! {
                () = shutdown.requested() => {}
                () = sleep(LOOK_EVERY) => {}
                () = async { sleep(LOOK_AGAIN).await; self.wanted.notified().await } => {}
            }
        }
    }

    /// The source of a token. A refusal is counted, but not that the sources cannot be read.
    pub(crate) async fn by_token(&self, token: &str) -> Result<Arc<Source>, Refused> {
        let find = |key| self.read(|all| all.keys.get(key).cloned());
        if let Some(key) = key_of(token)
            && !find(key).is_some_and(|source| source.row.opens(token))
        {
            self.look_again().await?;
        }
        self.known_by_token(token)
    }

    /// The same as far as it is known, without a look: for who holds up others.
    pub(crate) fn known_by_token(&self, token: &str) -> Result<Arc<Source>, Refused> {
        let find = |key| self.read(|all| all.keys.get(key).cloned());
        let source = key_of(token).and_then(find).ok_or_else(|| {
            self.counts.unknown();
            // Its next message may be known.
            self.wanted.notify_one();
            Refused::UnknownToken
        })?;
        if !source.row.opens(token) {
            self.counts.refused(source.id(), &Refused::WrongToken);
            return Err(Refused::WrongToken);
        }
        self.enabled(source)
    }

    /// The source of a client certificate, in DER. What is counted is the same.
    pub(crate) async fn by_certificate(&self, der: &[u8]) -> Result<Arc<Source>, Refused> {
        let hash = Sha256::digest(der).to_vec();
        let find = || self.read(|all| all.certificates.get(&hash).cloned());
        let mut found = find();
        if found.is_none() {
            self.look_again().await?;
            found = find();
        }
        let source = found.ok_or_else(|| {
            self.counts.unknown();
            Refused::UnknownCertificate
        })?;
        self.enabled(source)
    }

    fn enabled(&self, source: Arc<Source>) -> Result<Arc<Source>, Refused> {
        if source.row.disabled {
            self.counts.refused(source.id(), &Refused::Disabled);
            return Err(Refused::Disabled);
        }
        Ok(source)
    }

    /// Looks once more, for who came with something unknown. Everybody who came before it
    /// began shares a look, so who tries tokens waits and makes no more of them than one each [`LOOK_AGAIN`].
    async fn look_again(&self) -> Result<(), Refused> {
        let asked = Instant::now();
        let mut looked = self.looked.lock().await;
        if let Some(Looked { at, is_ok }) = *looked {
            if at >= asked {
                return if is_ok { Ok(()) } else { Err(Refused::Unread) };
            }
            // A refusal is final for many senders: what was changed since then must not be missed.
            sleep_until(at + LOOK_AGAIN).await;
        }
        self.look_now(&mut looked).await.map_err(|_| Refused::Unread)
    }

    fn read<T>(&self, read: impl FnOnce(&All) -> T) -> T {
        read(&self.all.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether a token opens a source; it takes as long whether it does or not.
trait Opens {
    fn opens(&self, token: &str) -> bool;
}

impl Opens for IntakeSource {
    fn opens(&self, token: &str) -> bool {
        let hash = Sha256::digest(token.as_bytes());
        let is = |kept: &TokenHash| bool::from(kept.hash.ct_eq(&hash));
        is(&self.token)
            || self.previous_token.as_ref().is_some_and(|(token, until)| {
                SystemTime::now() < SystemTime::from(*until) && is(token)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{intake, row, token};

    #[tokio::test]
    async fn without_the_database_what_is_not_known_is_not_said_to_be_wrong() {
        let disabled = IntakeSource { disabled: true, ..row(Id::generate(), &token(2)) };
        let rows = vec![row(Id::generate(), &token(1)), disabled];
        let sources = intake(&Arc::default(), rows).sources;
        let refused = async |token: &str| sources.by_token(token).await.err();
        assert_eq!(refused(&token(1)).await, None);
        assert_eq!(refused(&token(2)).await, Some(Refused::Disabled));
        assert_eq!(refused("no token").await, Some(Refused::UnknownToken));
        let mut rotated = token(1);
        rotated.replace_range(31.., "b");
        let (unknown, rotated, certificate) = tokio::join!(
            sources.by_token("sabcdefghijklmnopqrstuvwxyzabcde"),
            sources.by_token(&rotated),
            sources.by_certificate(b"x"),
        );
        for found in [unknown, rotated, certificate] {
            assert_eq!(found.err(), Some(Refused::Unread));
        }
    }
}
