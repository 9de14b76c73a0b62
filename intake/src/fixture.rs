//! What unit tests share: an intake of which all is real but the database, which cannot be reached.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use clap::Parser;
use futures_util::stream::BoxStream;
use log_stream::{AppendError, Block, LogStream, Position, ReadError};
use model::{AppTag, DatabaseTag, Environment, EnvironmentTag, Handle, Id, Record};
use service::Shutdown;
use sha2::{Digest as _, Sha256};
use store::Store;
use store::intake::{IntakeSource, TokenHash};
use tokio::time::sleep;

use crate::Intake;
use crate::config::Settings;
use crate::counts::Counts;
use crate::lanes::Lanes;
use crate::loops::Loops;
use crate::quota::Quotas;
use crate::sources::Sources;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    settings: Settings,
}

/// A stream that keeps blocks; fails a few times first.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) failures: AtomicUsize,
    pub(crate) blocks: Mutex<Vec<Arc<Block>>>,
}

#[async_trait]
impl LogStream for Kept {
    async fn append(&self, block: Arc<Block>) -> Result<(), AppendError> {
        sleep(Duration::from_millis(1)).await;
        let failed = self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |failures| failures.checked_sub(1));
        let mut blocks = self.blocks.lock().unwrap();
        // A failed append may have got through.
        if !blocks.iter().any(|kept| kept.id() == block.id()) {
            blocks.push(block);
        }
        failed.map_or(Ok(()), |_| Err(AppendError::Unknown("cut".to_owned())))
    }

    fn read(
        &self,
        _: Id<Environment>,
        _: Position,
    ) -> BoxStream<'static, Result<(Position, Block), ReadError>> {
        futures_util::StreamExt::boxed(futures_util::stream::empty())
    }
}

impl Kept {
    /// All of them.
    pub(crate) fn records(&self) -> Vec<Record> {
        let blocks = self.blocks.lock().unwrap();
        blocks.iter().flat_map(|block| block.records().unwrap()).collect()
    }
}

/// What flags say.
pub(crate) fn settings(flags: &[&str]) -> Settings {
    Flags::parse_from(std::iter::once(&"intake").chain(flags)).settings
}

/// An app's source, with this token.
pub(crate) fn row(environment: Id<Environment>, token: &str) -> IntakeSource {
    let handle = || "web".parse::<Handle>().unwrap();
    IntakeSource {
        id: Id::generate(),
        handle: "s".to_owned(),
        environment: EnvironmentTag {
            id: environment,
            handle: handle(),
            organization: Id::generate(),
        },
        app: Some(AppTag { id: Id::generate(), handle: handle() }),
        database: None,
        engine: None,
        token: TokenHash {
            key: token.get(..7).unwrap_or_default().to_owned(),
            hash: Sha256::digest(token.as_bytes()).to_vec(),
        },
        previous_token: None,
        client_certificates: Vec::new(),
        quota: (None, None),
        environment_quota: (None, None),
        disabled: false,
    }
}

/// The same of a database.
pub(crate) fn database_row(token: &str, engine: &str) -> IntakeSource {
    let handle = "main".parse().unwrap();
    IntakeSource {
        app: None,
        database: Some(DatabaseTag { id: Id::generate(), handle }),
        engine: Some(engine.to_owned()),
        ..row(Id::generate(), token)
    }
}

/// The token number `n`.
pub(crate) fn token(n: u32) -> String {
    let letters: String =
        format!("{n:06}").bytes().map(|digit| char::from(digit - b'0' + b'a')).collect();
    format!("s{letters}{}", "a".repeat(25))
}

/// An intake that knows these sources.
pub(crate) fn intake(kept: &Arc<Kept>, rows: Vec<IntakeSource>) -> Intake {
    let store = Store::connect("postgres://nobody@127.0.0.1:1/none", 1).unwrap();
    let (counts, loops) = (Counts::default(), Loops::default());
    let sources = Sources::new(store.clone(), counts.clone(), loops.clone());
    sources.know(rows);
    let lanes = Lanes::new(kept.clone(), counts.clone(), loops, Shutdown::new());
    let quotas = Quotas::new(&settings(&[]), counts.clone());
    Intake { store, sources, lanes, quotas, counts }
}
