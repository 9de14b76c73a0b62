//! A reader that follows one environment: pages to the end of the stream, then waits for more.
//!
//! A reader holds no connection while it waits, and no more than one page: blocks of
//! [`page_bytes`](super::PostgresSettings::page_bytes) in all and one block more.
//! Invariant: it leaves out a day only when that day was closed before a look at all days found nothing
//! after the page: then everything of that day is before its position.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::stream::{self, BoxStream, StreamExt as _};
use model::{Environment, Id};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::Inner;
use super::reader::{After, EVERY_DAY, Page};
use crate::{Block, Position, ReadError};

/// The poll that backs up notifications, which are lost where an appender ends before it sends them.
const SLOW_POLL: Duration = Duration::from_secs(5);
/// While nobody hears notifications.
const DEAF_POLL: Duration = Duration::from_secs(1);
/// The first poll for blocks that wait for an open append, whose end is not announced; then
/// twice as long each time, up to a second.
const FAST_POLL: Duration = Duration::from_millis(2);
const FAST_POLL_MOST: Duration = Duration::from_secs(1);

/// How late a reader that is in no hurry looks, at most.
const LEISURE: Duration = Duration::from_secs(1);

/// How long a reader that has come to the end looks at the same open days. Each new one is among them.
const LOOK_AT_ALL: Duration = Duration::from_hours(1);

struct Tail {
    stream: Arc<Inner>,
    environment: Id<Environment>,
    position: Position,
    /// Nothing made before this can come any more, since when.
    open: Option<(SystemTime, Instant)>,
    announced: watch::Receiver<()>,
    /// What is announced need not be looked at at once.
    leisure: Arc<AtomicBool>,
    page: VecDeque<Result<(Position, Block), ReadError>>,
    /// For the page.
    permit: Option<OwnedSemaphorePermit>,
    /// How long to wait for an announcement before looking for the next page; at first, unknown.
    wait: Option<Duration>,
    /// The wait after that one, if blocks are still not settled.
    unsettled_wait: Duration,
}

pub(super) fn follow(
    stream: Arc<Inner>,
    environment: Id<Environment>,
    from: Position,
    leisure: Arc<AtomicBool>,
) -> BoxStream<'static, Result<(Position, Block), ReadError>> {
    let announced = stream.wakes.subscribe(environment);
    let tail = Tail {
        stream,
        environment,
        position: from,
        open: None,
        announced,
        leisure,
        page: VecDeque::new(),
        permit: None,
        wait: None,
        unsettled_wait: FAST_POLL,
    };
    stream::try_unfold(tail, Tail::next).boxed()
}

impl Tail {
    async fn next(mut self) -> Result<Option<((Position, Block), Self)>, ReadError> {
        loop {
            if let Some(block) = self.page.pop_front() {
                let (position, block) = block?;
                self.position = position;
                return Ok(Some(((position, block), self)));
            }
            self.permit = None;
            match self.wait {
                None => self.stream.readers.check(self.position).await?,
                Some(Duration::ZERO) => {}
                // Either may win: both lead to a look at the table.
                Some(wait) => tokio::select! {
                    Ok(()) = self.announced.changed() => self.dawdle().await,
                    () = tokio::time::sleep(wait) => {}
                },
            }
            if let Some(pages) = &self.stream.settings.pages {
                let follows = self.wait.is_some_and(|wait| !wait.is_zero());
                self.permit = pages.permit(follows).await;
            }
            self.turn_page().await?;
        }
    }

    /// Waits for a while if there is no hurry, others at another time.
    async fn dawdle(&self) {
        if self.leisure.load(Ordering::Relaxed) {
            tokio::time::sleep(LEISURE.mul_f64(rand::random())).await;
        }
    }

    async fn turn_page(&mut self) -> Result<(), ReadError> {
        // Before looking: what is announced from here on may not be on this page.
        self.announced.borrow_and_update();
        let page = match self.open {
            Some((since, known)) if known.elapsed() < LOOK_AT_ALL => {
                self.stream.readers.page(self.environment, self.position, since).await?
            }
            _ => self.look_at_all().await?,
        };
        if !page.blocks.is_empty() {
            self.unsettled_wait = FAST_POLL;
        }
        self.wait = Some(match page.after {
            After::More => Duration::ZERO,
            After::Nothing if self.stream.wakes.is_listening() => SLOW_POLL,
            After::Nothing => DEAF_POLL,
            After::Unsettled => {
                let wait = self.unsettled_wait;
                self.unsettled_wait = (wait * 2).min(FAST_POLL_MOST);
                wait
            }
        });
        self.page = page.blocks.into();
        Ok(())
    }
    /// The next page from every day, and, if it is the last, which days are open.
    async fn look_at_all(&mut self) -> Result<Page, ReadError> {
        // Asked before looking, and kept only if that finds the end.
        let since = self.stream.readers.open_since().await?;
        let page = self.stream.readers.page(self.environment, self.position, EVERY_DAY).await?;
        if page.after == After::Nothing {
            self.open = Some((since, Instant::now()));
        }
        Ok(page)
    }
}
