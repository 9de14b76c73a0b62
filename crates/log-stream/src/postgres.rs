//! The stream in PostgreSQL: the table `stream.blocks`, partitioned by the day a block was made.
//!
//! An appended block carries the id of its transaction (`xid`) and a number (`seq`), both taken
//! before the commit, so blocks become visible out of order. Readers therefore read in the order of
//! (xid, seq) and only below the oldest transaction that is still open and appends, of which nothing can appear
//! any more. A transaction that writes something else does not hold them back: an append is the first thing that
//! its transaction writes, so that its lock on the table is seen before its id.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use model::{Appender, Environment, Id, Producer, Secret, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::{AppendError, Block, LogStream, Position, ReadError};

mod fence;
mod heads;
mod notifier;
mod reader;
mod session;
mod tail;
mod wakes;
mod writer;

pub use heads::{Extent, Head, Search};

use notifier::Notifier;
use reader::Readers;
use session::{Dialer, Failure};
use wakes::Wakes;
use writer::Append;

/// Appends that may wait for a writer; more wait before they are queued.
const QUEUE: usize = 1024;
/// KiB of blocks that the queue and the writers hold at most; more wait before they are queued. A larger
/// block waits until it is alone.
const QUEUE_KIB: u32 = 64 << 10;

/// How a stream in PostgreSQL is reached.
#[derive(Debug, Clone)]
pub struct PostgresSettings {
    /// `postgres://role:password@host/database`, without TLS.
    pub database_url: Secret<String>,
    /// Connections that append, 1 to 4: more only wait for each other.
    pub writers: usize,
    /// Connections that all readers together use at a time; one more listens.
    pub readers: usize,
    /// How long an append may take, waiting included, and a page of a reader.
    pub deadline: Duration,
    /// Bytes of blocks that a reader fetches, and holds, at a time; at least one block.
    pub page_bytes: u32,
    /// Bounds how many readers hold a page at a time. One that is dropped holds none, and neither does one that
    /// is asked for what follows its page.
    pub pages: Option<Pages>,
}

/// Permits to hold a page. Readers that follow the stream and those that catch up have their own: the former
/// do not wait for the latter, whose pages are full.
#[derive(Debug, Clone)]
pub struct Pages {
    following: Arc<Semaphore>,
    catching_up: Arc<Semaphore>,
}

impl Pages {
    /// So many of either kind.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let semaphore = || Arc::new(Semaphore::new(count));
        Self { following: semaphore(), catching_up: semaphore() }
    }

    /// Whether some reader may be waiting.
    #[must_use]
    pub fn are_scarce(&self) -> bool {
        self.following.available_permits() == 0 || self.catching_up.available_permits() == 0
    }

    async fn permit(&self, follows: bool) -> Option<OwnedSemaphorePermit> {
        let semaphore = if follows { &self.following } else { &self.catching_up };
        // It is never closed.
        Arc::clone(semaphore).acquire_owned().await.ok()
    }
}

impl PostgresSettings {
    /// The usual settings: 2 writers, 4 readers, 10 s, 1 MiB.
    #[must_use]
    pub const fn new(database_url: Secret<String>) -> Self {
        Self {
            database_url,
            writers: 2,
            readers: 4,
            deadline: Duration::from_secs(10),
            page_bytes: 1 << 20,
            pages: None,
        }
    }
}

/// Why a stream cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is not one of PostgreSQL.
    #[error("the log stream's database URL is not valid: {0}")]
    InvalidUrl(String),
    /// The database cannot be reached or refuses this role.
    #[error("the log stream's database cannot be used: {0}")]
    Unavailable(String),
    /// The stream's table is not there.
    #[error("the log stream's table does not exist: run the migrations first")]
    NotMigrated,
}

/// How far one producer's records have got in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerTail {
    /// The last record's number.
    pub last_seq: u64,
    /// When the last record happened.
    pub last_at: Timestamp,
    /// Bytes of output that all its records hold.
    pub output_bytes: u64,
    /// If its last record is a session's end: whether the session was aborted.
    pub aborted: Option<bool>,
}

/// The stream in PostgreSQL. It holds at most 64 MiB of blocks that are to be appended, those that their
/// callers have given up on included, and copies of at most eight and of no more than 512 KiB and a block
/// for each writer; callers beyond that wait. A reader holds one page, and while it fetches one twice
/// that, for no more readers at a time than there are connections. Clones share connections; the stream's tasks stop, and its connections
/// close, when the last clone and the last reader are dropped.
#[derive(Debug, Clone)]
pub struct PostgresStream {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    appender: Id<Appender>,
    settings: PostgresSettings,
    appends: mpsc::Sender<Append>,
    room: Arc<Semaphore>,
    dialer: Dialer,
    readers: Readers,
    wakes: Arc<Wakes>,
    // Both end their tasks when dropped. Only who reads needs to listen.
    _writers: JoinSet<()>,
    listener: OnceLock<JoinSet<()>>,
}

impl PostgresStream {
    /// Checks that the stream is there, and starts its writers.
    pub async fn connect(settings: PostgresSettings) -> Result<Self, ConnectError> {
        let dialer = Dialer::new(&settings.database_url, settings.deadline)?;
        dialer.check().await?;
        Ok(Self::start(settings, dialer))
    }

    fn start(settings: PostgresSettings, dialer: Dialer) -> Self {
        let appender = Id::generate();
        let (appends, queue) = mpsc::channel(QUEUE);
        let notifier = Arc::new(Notifier::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&notifier).run(dialer.clone()));
        let queue = Arc::new(tokio::sync::Mutex::new(queue));
        for _ in 0..settings.writers.clamp(1, 4) {
            let (queue, notifier) = (Arc::clone(&queue), Arc::clone(&notifier));
            tasks.spawn(writer::run(dialer.clone(), appender, queue, notifier));
        }
        let readers = Readers::new(dialer.clone(), settings.readers, settings.page_bytes);
        let inner = Inner {
            appender,
            settings,
            appends,
            room: Arc::new(Semaphore::new(QUEUE_KIB as usize)),
            dialer,
            readers,
            wakes: Arc::default(),
            _writers: tasks,
            listener: OnceLock::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Who appends here. An appender is fenced off as a whole, so each process that appends writes
    /// this down beside what it appends for.
    #[must_use]
    pub fn appender(&self) -> Id<Appender> {
        self.inner.appender
    }

    /// The same stream with connections and an appender of its own: for a process that was fenced
    /// off and begins anew.
    #[must_use]
    pub fn renewed(&self) -> Self {
        Self::start(self.inner.settings.clone(), self.inner.dialer.clone())
    }

    /// Fences an appender off: when this returns, nothing of it will get into the stream any more,
    /// and what has got in is seen by [`Self::tail_of`].
    pub async fn fence(&self, appender: Id<Appender>) -> Result<(), ReadError> {
        Ok(fence::close(&self.inner.dialer, appender).await?)
    }

    /// How far a producer's records have got; `None` without any since `since`, the time of its first
    /// record or before. It looks at headers only, so a role that may not read payloads can ask.
    pub async fn tail_of(
        &self,
        environment: Id<Environment>,
        producer: Id<Producer>,
        since: SystemTime,
    ) -> Result<Option<ProducerTail>, ReadError> {
        self.inner.readers.tail_of(environment, producer, since).await
    }

    /// Which blocks of an environment are there to be searched. A reader that begins at its end reads what is
    /// not among them.
    pub async fn extent(&self, environment: Id<Environment>) -> Result<Extent, ReadError> {
        self.inner.readers.extent(environment).await
    }

    /// The first [`Head::MOST`] blocks that are found within an [`Extent`], without their records.
    pub async fn heads(
        &self,
        environment: Id<Environment>,
        search: &Search,
    ) -> Result<Vec<Head>, ReadError> {
        self.inner.readers.heads(environment, search).await
    }

    /// The blocks that were found, in the same order; without those that are not kept any more. All of them are
    /// in memory at once.
    pub async fn blocks(&self, heads: &[Head]) -> Result<Vec<(Position, Block)>, ReadError> {
        self.inner.readers.blocks(heads).await
    }
}

#[async_trait]
impl LogStream for PostgresStream {
    async fn append(&self, block: Arc<Block>) -> Result<(), AppendError> {
        let kib = u32::try_from(block.stored_bytes().div_ceil(1024)).unwrap_or(QUEUE_KIB);
        let done = async {
            let stopped = || Failure::unknown("the stream's writers have stopped");
            let room = Arc::clone(&self.inner.room).acquire_many_owned(kib.min(QUEUE_KIB)).await;
            let (append, outcome) = Append::new(block, room.map_err(|_| stopped())?);
            self.inner.appends.send(append).await.map_err(|_| stopped())?;
            outcome.await.unwrap_or_else(|_| Err(stopped()))
        };
        match tokio::time::timeout(self.inner.settings.deadline, done).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => Err(failure.into()),
            Err(_) => Err(Failure::late(self.inner.settings.deadline).into()),
        }
    }

    fn read(
        &self,
        environment: Id<Environment>,
        from: Position,
    ) -> BoxStream<'static, Result<(Position, Block), ReadError>> {
        self.read_at_leisure(environment, from, Arc::default())
    }

    fn read_at_leisure(
        &self,
        environment: Id<Environment>,
        from: Position,
        leisure: Arc<AtomicBool>,
    ) -> BoxStream<'static, Result<(Position, Block), ReadError>> {
        self.inner.listener.get_or_init(|| {
            let mut tasks = JoinSet::new();
            tasks.spawn(Arc::clone(&self.inner.wakes).run(self.inner.dialer.clone()));
            tasks
        });
        tail::follow(Arc::clone(&self.inner), environment, from, leisure)
    }
}
