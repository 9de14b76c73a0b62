//! The heartbeat, and the reaper of what dead edges have left.
//!
//! Invariants: nothing of a living edge is touched. An edge is dead when its row says so and this
//! edge has itself seen the database answer for a while, because after an outage every edge's row
//! is old. What bears this edge's own id and is not live in this process is from an earlier life.

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use futures_util::future::try_join_all;
use log_stream::ProducerTail;
use model::{Event, Timestamp};
use store::StoreError;
use store::edges::DEAD_AFTER;
use store::live_sessions::{End, Orphan};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::edge::{Appending, Edge, answered};
use crate::gate::NotDurable;
use crate::recorder::Recorder;

const HEARTBEAT: Duration = Duration::from_secs(5);
/// A dead edge's containers are gone within a minute: after `DEAD_AFTER`, this, and the removal.
const REAP_EVERY: Duration = Duration::from_secs(15);
/// Every living edge has had the time for a heartbeat.
const CONFIDENT_AFTER: Duration = Duration::from_secs(DEAD_AFTER.as_secs() + 5);
/// The row bears the database's time, the blocks the dead edge's, which are refused past this.
const CLOCKS_DIFFER: Duration = Duration::from_hours(48);
const DIED: &str = "the SSH edge died";
const NOT_OPENED: &str = "the session could not be opened";
const ENDED: &str = "it had ended when the SSH edge died: its last record says how";

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

/// Removes and closes what dead edges have left, now and every few seconds.
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
        dead = answered(edge.store.dead_edges(&others)).await.unwrap_or_default();
    }
    for container in owned {
        let left_over = if container.edge == edge.id() {
            !edge.live.contains(container.session)
        } else {
            dead.contains(&container.edge)
        };
        if left_over {
            tracing::info!(session = %container.session, "removing a dead session's container");
            if let Err(error) = edge.runtime.remove_owned(&container).await {
                tracing::warn!(session = %container.session, %error, "it is tried again later");
            }
        }
    }
}

async fn close_orphans(edge: &Edge, confident: bool) -> Result<(), StoreError> {
    answered(edge.store.expire_requested_sessions()).await?;
    // Asked before the rows, so that a session that begins in between is not taken for an orphan:
    // it is live before its row is active.
    let mut orphans = answered(edge.store.own_orphans(edge.id(), &edge.live.all())).await?;
    orphans.retain(|orphan| !edge.live.contains(orphan.id));
    if confident {
        orphans.extend(answered(edge.store.orphans_of_dead_edges()).await?);
    }
    for orphan in orphans {
        close_orphan(edge, orphan).await?;
    }
    Ok(())
}

/// Closes a session that nobody has any more. Its last appender is fenced off before the row is
/// taken, and the row before the last record is looked up: so of any number of edges that were dead,
/// frozen or slow, one adds the end, and nobody anything after it.
async fn close_orphan(edge: &Edge, orphan: Orphan) -> Result<(), StoreError> {
    let session = orphan.id;
    let Some(_live) = edge.live.enter(session) else { return Ok(()) };
    let appending = edge.appending();
    let reason = if orphan.appender == Some(appending.appender()) {
        NOT_OPENED
    } else {
        if let Some(appender) = orphan.appender
            && let Err(error) = appending.stream.fence(appender).await
        {
            tracing::warn!(%session, %error, "a dead edge cannot be fenced off");
            return Ok(());
        }
        let taken = edge.store.take_over_session(&orphan, edge.id(), appending.appender());
        if !answered(taken).await? {
            return Ok(());
        }
        DIED
    };
    let environment = orphan.origin.environment.id;
    let since = UNIX_EPOCH + Duration::from_nanos(orphan.started_at.nanos()) - CLOCKS_DIFFER;
    let tail = match appending.stream.tail_of(environment, session.producer(), since).await {
        Ok(tail) => tail,
        Err(error) => {
            tracing::warn!(%session, %error, "a dead session's last record cannot be looked up");
            return Ok(());
        }
    };
    let Some(tail) = tail else {
        // Its beginning was never recorded, so it has shown nothing and needs no end.
        answered(edge.store.refuse_session(session, edge.id(), reason)).await?;
        tracing::info!(%session, reason, "closed a session that never began");
        return Ok(());
    };
    let output_bytes = Some(tail.output_bytes);
    let mut end = End { aborted: true, reason: reason.to_owned(), exit: None, output_bytes };
    if let Some(aborted) = tail.aborted {
        (end.aborted, end.reason) = (aborted, ENDED.to_owned());
    } else if record_end(&appending, orphan, tail, &end).await.is_err() {
        return Ok(());
    }
    answered(edge.store.end_session(session, edge.id(), &end)).await?;
    tracing::info!(%session, reason = end.reason, "closed a dead session");
    Ok(())
}

async fn record_end(
    appending: &Appending,
    orphan: Orphan,
    tail: ProducerTail,
    end: &End,
) -> Result<(), NotDurable> {
    let ProducerTail { last_seq, last_at, .. } = tail;
    let gate = appending.gate.clone();
    let mut recorder = Recorder::resume(gate, orphan.origin, last_seq + 1, last_at);
    let ended = Event::SessionEnded {
        reason: end.reason.clone(),
        aborted: end.aborted,
        output_bytes: end.output_bytes.unwrap_or(0),
        duration: Timestamp::now().since(orphan.started_at),
    };
    try_join_all(recorder.record([ended])).await.map(drop)
}
