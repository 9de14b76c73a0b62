//! Logs as they come.
//!
//! A follower holds one page of the stream and what it makes of one block. It goes on as its reader takes what
//! it was given, and gives up on one that takes nothing for a while; where it had got is in the cursor of the
//! last event, from which another goes on. It asks again and again whether its user still may.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use log_stream::{Block, LogStream as _, Position, ReadError};
use model::{Environment as EnvironmentKind, Id, Secret};
use service::Shutdown;
use store::environments::Environment;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::cursor::Cursor;
use super::filter::Filter;
use super::scan::{Room, scan};
use super::{LogLine, Seat, Wanted, failed, filter_of};
use crate::app::{App, AppError, sign_in};
use crate::authz::{Permit, ReadLogs, ReadSessionLogs};

/// How often something is sent, whatever happens, and asked whether the user still may.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a reader may take nothing.
const STALLED: Duration = Duration::from_secs(30);

/// What a follower tells.
#[derive(Debug)]
pub(crate) enum Event {
    /// Lines, each with the cursor of what follows it.
    Lines(Vec<(Cursor, LogLine)>),
    /// Nothing for a while; all up to here was looked at.
    Nothing(Cursor),
}

struct Following {
    app: Arc<App>,
    token: Secret<String>,
    environment: Id<EnvironmentKind>,
    filter: Arc<Filter>,
    sees_sessions: bool,
    reached: Cursor,
    events: mpsc::Sender<Event>,
    _seat: Seat,
}

/// Why there is no more.
enum Ended {
    /// The reader is gone, or stalled, or may not see it any more.
    Reader,
    /// A block cannot be read; others can.
    Damaged(Position),
    /// The stream failed.
    Stream(ReadError),
}

/// Follows an environment's logs, from now or from where an earlier follower or page had got. The task ends
/// with the receiver, and with the process.
pub(crate) async fn follow(
    app: Arc<App>,
    permit: &Permit<ReadLogs, Environment>,
    token: Secret<String>,
    wanted: &Wanted,
    from: Option<Cursor>,
    shutdown: &Shutdown,
) -> Result<mpsc::Receiver<Event>, AppError> {
    let filter = Arc::new(filter_of(&app, permit, wanted).await?);
    let seat = app.logs.seat(permit.user())?;
    let environment = permit.thing().id;
    let extent = app.logs.stream().await?.extent(environment).await.map_err(failed)?;
    let now = Cursor::after(extent.end);
    let reached = from.map_or(now, |from| from.within(&extent));
    let (events, follower) = mpsc::channel(1);
    let sees_sessions = permit.also::<ReadSessionLogs>();
    let following =
        Following { app, token, environment, filter, sees_sessions, reached, events, _seat: seat };
    let stop = shutdown.clone();
    shutdown.spawn(async move {
        // Losing the follower is its end: the reader has a cursor to go on from.
        tokio::select! {
            () = stop.requested() => {}
            () = following.run() => {}
        }
    });
    Ok(follower)
}

impl Following {
    async fn run(mut self) {
        loop {
            match self.read().await {
                Ended::Reader => return,
                Ended::Damaged(position) => {
                    tracing::error!(%position, "a block of the log stream is left out of what is shown");
                    self.reached = Cursor::after(position);
                }
                Ended::Stream(error) => {
                    tracing::warn!("a follower of logs ends: {error}");
                    return;
                }
            }
        }
    }

    /// Reads on from where it has got.
    async fn read(&mut self) -> Ended {
        let stream = match self.app.logs.stream().await {
            Ok(stream) => stream.clone(),
            Err(error) => return Ended::Stream(ReadError::Unavailable(error.to_string())),
        };
        let mut blocks = stream.read(self.environment, self.reached.blocks_after());
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let events = self.events.clone();
            // In this order, so that it begins with where it is. The stream keeps what it has read where
            // another arm wins.
            let told = tokio::select! {
                biased;
                () = events.closed() => return Ended::Reader,
                _ = heartbeat.tick() => {
                    if !self.may_go_on().await {
                        return Ended::Reader;
                    }
                    self.tell(Event::Nothing(self.reached)).await
                }
                block = blocks.next() => match block {
                    Some(Ok((position, block))) => self.take(position, block).await,
                    Some(Err(ReadError::Damaged { position, .. })) => {
                        return Ended::Damaged(position);
                    }
                    Some(Err(error)) => return Ended::Stream(error),
                    None => return Ended::Reader,
                },
            };
            if !told {
                return Ended::Reader;
            }
        }
    }

    async fn take(&mut self, position: Position, block: Block) -> bool {
        let mut lines = Vec::new();
        if self.filter.takes_block(block.header()) {
            let (filter, from) = (Arc::clone(&self.filter), self.reached);
            let room = Room { lines: usize::MAX, bytes: usize::MAX, unpacked: usize::MAX };
            let blocks = [(position, block)];
            let scanned =
                tokio::task::spawn_blocking(move || scan(&blocks, &filter, from, false, room));
            let Ok(scanned) = scanned.await else { return false };
            lines = scanned.lines;
        }
        self.reached = Cursor::after(position);
        lines.is_empty() || self.tell(Event::Lines(lines)).await
    }

    /// Tells the reader; false if it takes nothing any more.
    async fn tell(&self, event: Event) -> bool {
        matches!(timeout(STALLED, self.events.send(event)).await, Ok(Ok(())))
    }

    /// Whether the user is still signed in, and may still see what is shown.
    async fn may_go_on(&self) -> bool {
        let Ok(caller) = sign_in::authenticate(&self.app, self.token.expose()).await else {
            return false;
        };
        let permit = self.app.permit::<ReadLogs, Environment>(&caller, self.environment).await;
        permit.is_ok_and(|permit| permit.also::<ReadSessionLogs>() == self.sees_sessions)
    }
}
