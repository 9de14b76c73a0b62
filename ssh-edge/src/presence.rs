//! The heartbeat, and the reaper of what dead edges have left.
//!
//! Invariants: nothing of a living edge is touched. An edge is dead when its row says so and this
//! edge has itself seen the database answer for a while, because after an outage every edge's row
//! is old. What bears this edge's own id and is not live in this process is from an earlier life.

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use futures_util::future::try_join_all;
use model::{Event, Timestamp};
use store::StoreError;
use store::edges::DEAD_AFTER;
use store::live_sessions::{End, Orphan};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::edge::Edge;
use crate::recorder::Recorder;

const HEARTBEAT: Duration = Duration::from_secs(5);
const REAP_EVERY: Duration = Duration::from_secs(30);
/// Every living edge has had the time for a heartbeat.
const CONFIDENT_AFTER: Duration = Duration::from_secs(DEAD_AFTER.as_secs() + 5);
/// The row bears the database's time, the records the dead edge's.
const CLOCKS_DIFFER: Duration = Duration::from_hours(1);
const DIED: &str = "the SSH edge died";

/// Since when the database has answered, without a failure in between.
pub(crate) type Answering = Option<Instant>;

/// Says every few seconds that this edge lives.
pub(crate) async fn heartbeat(edge: Arc<Edge>, answering: watch::Sender<Answering>) {
    loop {
        let well = matches!(timeout(HEARTBEAT, beat(&edge)).await, Ok(Ok(())));
        answering.send_if_modified(|since| {
            let changed = since.is_some() != well;
            if changed {
                *since = well.then(Instant::now);
                tracing::info!(well, "the database's answer to the heartbeat has changed");
            }
            changed
        });
        tokio::select! {
            () = edge.tasks.requested() => return,
            () = sleep(HEARTBEAT) => {}
        }
    }
}

/// Tells that this edge lives, and asks whether others took it for dead before that.
async fn beat(edge: &Edge) -> Result<(), StoreError> {
    edge.store.beat_edge(edge.id()).await?;
    let live = edge.live.all();
    if !live.is_empty() {
        for session in edge.store.lost_sessions(edge.id(), &live).await? {
            edge.live.lose(session);
        }
    }
    Ok(())
}

/// Removes and closes what dead edges have left, now and every half minute.
pub(crate) async fn reaper(edge: Arc<Edge>, answering: watch::Receiver<Answering>) {
    loop {
        let confident = answering.borrow().is_some_and(|since| since.elapsed() > CONFIDENT_AFTER);
        let reaping = async {
            reap_containers(&edge, confident).await;
            if let Err(error) = close_orphans(&edge, confident).await {
                tracing::warn!(%error, "sessions of dead edges cannot be looked for");
            }
        };
        // What is lost at the stop is found at the next start.
        tokio::select! {
            () = edge.tasks.requested() => return,
            () = reaping => {}
        }
        tokio::select! {
            () = edge.tasks.requested() => return,
            () = sleep(REAP_EVERY) => {}
        }
    }
}

async fn reap_containers(edge: &Edge, confident: bool) {
    let owned = match edge.runtime.list().await {
        Ok(owned) => owned,
        Err(error) => {
            return tracing::warn!(%error, "containers of dead sessions cannot be looked for");
        }
    };
    let mut dead = Vec::new();
    if confident {
        let others: Vec<_> =
            owned.iter().map(|owned| owned.edge).filter(|&id| id != edge.id()).collect();
        dead = edge.store.dead_edges(&others).await.unwrap_or_default();
    }
    for container in owned {
        let left_over = if container.edge == edge.id() {
            !edge.live.contains(container.session)
        } else {
            dead.contains(&container.edge)
        };
        if left_over {
            tracing::info!(session = %container.session, "removing a dead session's container");
            edge.remove_container(container.session).await;
        }
    }
}

async fn close_orphans(edge: &Edge, confident: bool) -> Result<(), StoreError> {
    edge.store.expire_requested_sessions().await?;
    // Asked before the rows, so that a session that begins in between is not taken for an orphan:
    // it is live before its row is active.
    let mut orphans = edge.store.own_orphans(edge.id(), &edge.live.all()).await?;
    orphans.retain(|orphan| !edge.live.contains(orphan.id));
    if confident {
        orphans.extend(edge.store.orphans_of_dead_edges().await?);
    }
    for orphan in orphans {
        close_orphan(edge, orphan).await?;
    }
    Ok(())
}

async fn close_orphan(edge: &Edge, orphan: Orphan) -> Result<(), StoreError> {
    let session = orphan.id;
    let Some(_live) = edge.live.enter(session) else { return Ok(()) };
    if orphan.edge != edge.id() && !edge.store.take_over_session(&orphan, edge.id()).await? {
        return Ok(());
    }
    let environment = orphan.origin.environment.id;
    let since = UNIX_EPOCH + Duration::from_nanos(orphan.started_at.nanos()) - CLOCKS_DIFFER;
    let tail = match edge.stream.tail_of(environment, session.producer(), since).await {
        Ok(tail) => tail,
        Err(error) => {
            tracing::warn!(%session, %error, "a dead session's last record cannot be looked up");
            return Ok(());
        }
    };
    let next_seq = tail.map_or(0, |tail| tail.last_seq + 1);
    let last_at = tail.map_or(orphan.started_at, |tail| tail.last_at);
    let output_bytes = tail.map_or(0, |tail| tail.output_bytes);
    let mut recorder = Recorder::resume(edge.gate.clone(), orphan.origin, next_seq, last_at);
    let ended = Event::SessionEnded {
        reason: DIED.to_owned(),
        aborted: true,
        output_bytes,
        duration: Timestamp::now().since(orphan.started_at),
    };
    if try_join_all(recorder.record([ended])).await.is_ok() {
        let end = End {
            aborted: true,
            reason: DIED.to_owned(),
            exit: None,
            output_bytes: Some(output_bytes),
        };
        edge.store.end_session(session, edge.id(), &end).await?;
        tracing::info!(%session, "closed a dead edge's session as aborted");
    }
    Ok(())
}
