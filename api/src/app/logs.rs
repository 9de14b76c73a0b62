//! Logs, as people look at them: back in time, and as they come.
//!
//! Invariants: nobody sees a record of an environment without a permit for its logs, and none of a session
//! without one for those of sessions; what a search or a follower costs is bounded, and so are their numbers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use log_stream::{Extent, Head, PostgresSettings, PostgresStream, Search};
use model::{Handle, Id, Secret, Source, User};
use store::environments::Environment;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use crate::app::{App, AppError};
use crate::authz::{Permit, ReadLogs, ReadSessionLogs};

mod cursor;
mod filter;
mod follow;
mod line;
mod scan;

pub(crate) use cursor::Cursor;
pub(crate) use filter::Wanted;
pub(crate) use follow::{Event, follow};
pub(crate) use line::LogLine;

use filter::{Filter, Thing};
use scan::{Room, scan};

/// Searches at a time: each unpacks blocks.
const SEARCHES: usize = 6;
/// How long one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// Followers at a time, and of them one user's.
const FOLLOWERS: usize = 200;
const FOLLOWERS_OF_USER: usize = 40;
/// Connections that searches and followers share; one more listens.
const CONNECTIONS: usize = 4;
/// What a follower holds of the stream at a time.
const PAGE_BYTES: u32 = 256 << 10;

/// How long a search goes on.
const SEARCH_TIME: Duration = Duration::from_millis(250);
/// Bytes that it unpacks, and answers.
const UNPACKED: usize = 32 << 20;
const ANSWERED: usize = 4 << 20;
/// Blocks, and bytes of them, that it reads at a time.
const BLOCKS: usize = 16;
const BLOCK_BYTES: usize = 1 << 20;

/// A block is made when its records have happened, by the same clock: within this, whatever delays it.
const LATEST_PACKED: Duration = Duration::from_hours(24);
/// Clocks differ, and blocks are made to the millisecond.
const CLOCK_SKEW: Duration = Duration::from_mins(10);

/// What reading logs needs.
pub(crate) struct Logs {
    settings: PostgresSettings,
    // Made when somebody first looks: the API has other things to do without it.
    stream: OnceCell<PostgresStream>,
    searches: Semaphore,
    followers: Arc<Semaphore>,
    of_users: Arc<Mutex<HashMap<Id<User>, usize>>>,
}

/// A follower's place among all; free again when it is dropped.
struct Seat {
    user: Id<User>,
    of_users: Arc<Mutex<HashMap<Id<User>, usize>>>,
    _permit: OwnedSemaphorePermit,
}

/// Which part of the logs is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The newest.
    Newest,
    /// The newest of those before this.
    Before(Cursor),
    /// The oldest of those after this.
    After(Cursor),
}

/// Some lines, oldest first.
pub(crate) struct LogPage {
    /// The lines.
    pub(crate) lines: Vec<LogLine>,
    /// What is before them begins here; None: nothing.
    pub(crate) before: Option<Cursor>,
    /// What is after them begins here.
    pub(crate) after: Cursor,
}

impl Logs {
    pub(crate) fn new(database_url: &Secret<String>) -> Self {
        let settings = PostgresSettings {
            // It appends nothing, and connects only to do so.
            writers: 1,
            readers: CONNECTIONS,
            page_bytes: PAGE_BYTES,
            ..PostgresSettings::new(database_url.clone())
        };
        Self {
            settings,
            stream: OnceCell::new(),
            searches: Semaphore::new(SEARCHES),
            followers: Arc::new(Semaphore::new(FOLLOWERS)),
            of_users: Arc::default(),
        }
    }

    async fn stream(&self) -> Result<&PostgresStream, AppError> {
        let connect = || PostgresStream::connect(self.settings.clone());
        self.stream.get_or_try_init(connect).await.map_err(failed)
    }

    fn seat(&self, user: Id<User>) -> Result<Seat, AppError> {
        let permit = Arc::clone(&self.followers).try_acquire_owned().map_err(|_| AppError::Busy)?;
        let mut of_users = self.of_users.lock().unwrap_or_else(PoisonError::into_inner);
        let count = of_users.entry(user).or_default();
        if *count >= FOLLOWERS_OF_USER {
            return Err(AppError::Busy);
        }
        *count += 1;
        Ok(Seat { user, of_users: Arc::clone(&self.of_users), _permit: permit })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut of_users = self.of_users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = of_users.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                of_users.remove(&self.user);
            }
        }
    }
}

/// A part of an environment's logs. It may be short, or empty, though there is more: then it has been looked
/// at for as long as one request may.
pub(crate) async fn page(
    app: &App,
    permit: &Permit<ReadLogs, Environment>,
    wanted: &Wanted,
    part: Part,
    limit: usize,
) -> Result<LogPage, AppError> {
    let filter = Arc::new(filter_of(app, permit, wanted).await?);
    let turn = tokio::time::timeout(PATIENCE, app.logs.searches.acquire()).await;
    let _turn = turn.map_err(|_| AppError::Busy)?.map_err(|_| AppError::Busy)?;
    let environment = permit.thing().id;
    let stream = app.logs.stream().await?;
    let extent = stream.extent(environment).await.map_err(failed)?;
    let (backwards, began) = match part {
        Part::Newest => (true, Cursor::after(extent.end)),
        Part::Before(cursor) => (true, cursor.within(&extent)),
        Part::After(cursor) => (false, cursor.within(&extent)),
    };
    let deadline = Instant::now() + SEARCH_TIME;
    let mut room = Room { lines: limit, bytes: ANSWERED, unpacked: UNPACKED };
    let (mut found, mut reached, mut is_through) = (Vec::new(), began, false);
    // However slow it is, a request gets further than the one before.
    let mut got_further = false;
    while !is_through && !room.is_used_up() && Instant::now() < deadline {
        let search = search(&filter, &extent, reached, backwards);
        let heads = stream.heads(environment, &search).await.map_err(failed)?;
        is_through = heads.len() < Head::MOST;
        let last = heads.last().map(|head| head.position);
        let heads: Vec<Head> = heads.into_iter().filter(|head| is_wanted(&filter, head)).collect();
        let mut rest = &heads[..];
        while !rest.is_empty() && !room.is_used_up() && (Instant::now() < deadline || !got_further)
        {
            let batch;
            (batch, rest) = rest.split_at(batch_of(rest));
            let blocks = stream.blocks(batch).await.map_err(failed)?;
            let (filter, from) = (Arc::clone(&filter), reached);
            let scanned =
                tokio::task::spawn_blocking(move || scan(&blocks, &filter, from, backwards, room));
            let scanned = scanned.await.map_err(|error| AppError::Internal(error.to_string()))?;
            found.extend(scanned.lines.into_iter().map(|(_, line)| line));
            (reached, room, got_further) = (scanned.reached, scanned.room, true);
        }
        if !rest.is_empty() || room.is_used_up() {
            is_through = false;
        } else if let Some(last) = last {
            // All of these were looked at, the last ones by their headers.
            reached = if backwards { Cursor::before(last, 0) } else { Cursor::after(last) };
            got_further = true;
        }
    }
    if backwards {
        found.reverse();
        return Ok(LogPage {
            lines: found,
            before: (!is_through).then_some(reached),
            after: began,
        });
    }
    let after = if is_through { Cursor::after(extent.end) } else { reached };
    Ok(LogPage { lines: found, before: Some(began), after })
}

/// What a caller wants, as far as it may be seen.
async fn filter_of(
    app: &App,
    permit: &Permit<ReadLogs, Environment>,
    wanted: &Wanted,
) -> Result<Filter, AppError> {
    if wanted.asks_for_sessions() {
        permit.demand::<ReadSessionLogs>()?;
    }
    let mut sources = wanted.sources.clone();
    if sources.is_empty() {
        sources.extend(Source::ALL);
    }
    if !permit.also::<ReadSessionLogs>() {
        sources.retain(|source| *source != Source::EphemeralSession);
    }
    let environment = permit.thing().id;
    let mut things = Vec::new();
    for name in &wanted.apps {
        // What is no handle may be no text that the database takes. An id looks like one.
        let found = match name.parse::<Handle>() {
            Ok(handle) => app.store.apps(environment, Some(handle.as_str()), None, 1).await?,
            Err(_) => Vec::new(),
        };
        let id = found.first().map(|app| app.id).or_else(|| name.parse().ok());
        things.push(Thing::App(id, name.clone()));
    }
    for name in &wanted.databases {
        let found = match name.parse::<Handle>() {
            Ok(handle) => app.store.databases(environment, Some(handle.as_str()), None, 1).await?,
            Err(_) => Vec::new(),
        };
        let id = found.first().map(|database| database.id).or_else(|| name.parse().ok());
        things.push(Thing::Database(id, name.clone()));
    }
    Ok(Filter {
        sources,
        things,
        session: wanted.session,
        text: wanted.pattern()?,
        severity: wanted.severity,
        since: wanted.since,
        until: wanted.until,
    })
}

fn search(filter: &Filter, extent: &Extent, from: Cursor, backwards: bool) -> Search {
    let time = |at: model::Timestamp| SystemTime::UNIX_EPOCH + Duration::from_nanos(at.nanos());
    let since = filter.since.and_then(|at| time(at).checked_sub(CLOCK_SKEW));
    let until = filter.until.map(|at| time(at) + LATEST_PACKED);
    Search {
        after: if backwards { extent.after } else { from.blocks_after() },
        end: if backwards { from.blocks_end() } else { extent.end },
        backwards,
        made_since: since.unwrap_or(SystemTime::UNIX_EPOCH),
        made_until: until.unwrap_or_else(|| SystemTime::now() + LATEST_PACKED * 7),
    }
}

/// Whether a block may have a record that fits. What cannot be read does not keep what can be from being seen.
fn is_wanted(filter: &Filter, head: &Head) -> bool {
    match &head.header {
        Ok(header) => filter.takes_block(header),
        Err(error) => {
            let position = head.position;
            tracing::error!(%position, "a block of the log stream is left out of what is shown: {error}");
            false
        }
    }
}

/// How many blocks to read at once: one at least.
fn batch_of(heads: &[Head]) -> usize {
    let mut bytes = 0;
    let fit = heads.iter().take(BLOCKS).take_while(|head| {
        bytes += head.payload_bytes;
        bytes <= BLOCK_BYTES
    });
    fit.count().max(1)
}

fn failed(error: impl std::fmt::Display) -> AppError {
    AppError::Stream(error.to_string())
}
