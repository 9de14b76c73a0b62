//! A reader that follows one environment: pages to the end of the stream, then waits for more.
//!
//! A reader holds no connection while it waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use model::{Environment, Id};
use tokio::sync::watch;

use super::Inner;
use super::reader::After;
use crate::{Block, Position, ReadError};

/// The poll that backs up notifications, which can be lost.
const SLOW_POLL: Duration = Duration::from_secs(1);
/// The first poll for blocks that wait for an open transaction, whose end is not announced; then
/// twice as long each time, up to the slow poll.
const FAST_POLL: Duration = Duration::from_millis(10);

struct Tail {
    stream: Arc<Inner>,
    environment: Id<Environment>,
    position: Position,
    announced: watch::Receiver<()>,
    page: VecDeque<Result<(Position, Block), ReadError>>,
    /// How long to wait for an announcement before looking for the next page; at first, unknown.
    wait: Option<Duration>,
    /// The wait after that one, if blocks are still not settled.
    unsettled_wait: Duration,
}

pub(super) fn follow(
    stream: Arc<Inner>,
    environment: Id<Environment>,
    from: Position,
) -> BoxStream<'static, Result<(Position, Block), ReadError>> {
    let announced = stream.wakes.subscribe(environment);
    let tail = Tail {
        stream,
        environment,
        position: from,
        announced,
        page: VecDeque::new(),
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
            match self.wait {
                None => self.stream.readers.check(self.position).await?,
                Some(Duration::ZERO) => {}
                // Either may win: both lead to a look at the table.
                Some(wait) => tokio::select! {
                    Ok(()) = self.announced.changed() => {}
                    () = tokio::time::sleep(wait) => {}
                },
            }
            self.turn_page().await?;
        }
    }

    async fn turn_page(&mut self) -> Result<(), ReadError> {
        // Before looking: what is announced from here on may not be on this page.
        self.announced.borrow_and_update();
        let page = self.stream.readers.page(self.environment, self.position).await?;
        if !page.blocks.is_empty() {
            self.unsettled_wait = FAST_POLL;
        }
        self.wait = Some(match page.after {
            After::More => Duration::ZERO,
            After::Nothing => SLOW_POLL,
            After::Unsettled => {
                let wait = self.unsettled_wait;
                self.unsettled_wait = (wait * 2).min(SLOW_POLL);
                wait
            }
        });
        self.page = page.blocks.into();
        Ok(())
    }
}
