//! How far drains have got, and how they are.
//!
//! Invariant: only the lease's generation writes. The lease's row is locked for the write, so it
//! cannot change its owner between the check and the write.

use model::{Drain, Id};
use serde_json::Value;
use sqlx::FromRow;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::leases::Lease;
use crate::{Store, StoreError};

/// How far a drain has got; positions are (xid, seq) of the stream.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct DrainPosition {
    /// All of a block at or below is delivered: transaction.
    pub low_xid: i64,
    /// All of a block at or below is delivered: number.
    pub low_seq: i64,
    /// All of a block at or below is delivered but what `open` names: transaction.
    pub high_xid: i64,
    /// All of a block at or below is delivered but what `open` names: number.
    pub high_seq: i64,
    /// `{"producer": {"stream": first undelivered offset}}`.
    pub open: Value,
}

/// What went wrong with a drain.
#[derive(Debug, Clone)]
pub struct DrainFailure {
    /// When it began.
    pub since: OffsetDateTime,
    /// What last went wrong.
    pub error: String,
    /// When it did.
    pub at: OffsetDateTime,
}

/// A line that an endpoint refused for good.
#[derive(Debug, Clone)]
pub struct RejectedLine {
    /// The line's id.
    pub line_id: String,
    /// The line as it was sent.
    pub line: Value,
    /// Why it was refused.
    pub reason: String,
}

/// What a worker has to say about a drain.
#[derive(Debug, Clone, Default)]
pub struct DrainProgress {
    /// How far it has got by now; None leaves it as it is.
    pub position: Option<DrainPosition>,
    /// Lines delivered since the last report.
    pub delivered: i64,
    /// Lines refused since the last report.
    pub rejected: Vec<RejectedLine>,
    /// Whether it fails.
    pub failure: Option<DrainFailure>,
    /// Records that it has yet to deliver.
    pub lag_records: i64,
    /// Age of the oldest of them.
    pub lag_seconds: f64,
}

/// The lease is another worker's by now, or the drain is gone.
#[derive(Debug, thiserror::Error)]
pub enum ProgressError {
    /// Nothing was written; stop.
    #[error("another worker has taken the drain")]
    LeaseLost,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for ProgressError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Store {
    /// How far a drain has got. One that has not begun begins now.
    pub async fn drain_position(&self, drain: Id<Drain>) -> Result<DrainPosition, StoreError> {
        // All that is visible now is below xmin, and numbers begin at 1.
        sqlx::query(
            "insert into drain_positions (drain_id, low_xid, low_seq, high_xid, high_seq)
             select $1, x.xmin, 0, x.xmin, 0
             from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as xmin) as x
             on conflict do nothing",
        )
        .bind(drain.uuid())
        .execute(&self.pool)
        .await?;
        Ok(sqlx::query_as(
            "select low_xid, low_seq, high_xid, high_seq, open from drain_positions
             where drain_id = $1",
        )
        .bind(drain.uuid())
        .fetch_one(&self.pool)
        .await?)
    }

    /// Writes how a drain is and how far it has got, all or nothing.
    pub async fn report_drain_progress(
        &self,
        lease: &Lease,
        progress: &DrainProgress,
    ) -> Result<(), ProgressError> {
        let mut transaction = self.pool.begin().await?;
        let position = progress.position.as_ref();
        let failure = progress.failure.as_ref();
        let done = sqlx::query(
            "with lease as materialized (
                 select 1 from drain_leases
                 where drain_id = $1 and worker_id = $2 and generation = $3 for share
             )
             update drain_positions set
                 low_xid = coalesce($4, low_xid), low_seq = coalesce($5, low_seq),
                 high_xid = coalesce($6, high_xid), high_seq = coalesce($7, high_seq),
                 open = coalesce($8, open),
                 delivered_lines = delivered_lines + $9, rejected_lines = rejected_lines + $10,
                 failing_since = $11,
                 last_error = coalesce($12, last_error),
                 last_error_at = coalesce($13, last_error_at),
                 lag_records = $14, lag_seconds = $15, updated_at = now()
             where drain_id = $1 and exists (select 1 from lease)",
        )
        .bind(lease.drain.uuid())
        .bind(lease.worker.uuid())
        .bind(lease.generation)
        .bind(position.map(|position| position.low_xid))
        .bind(position.map(|position| position.low_seq))
        .bind(position.map(|position| position.high_xid))
        .bind(position.map(|position| position.high_seq))
        .bind(position.map(|position| &position.open))
        .bind(progress.delivered)
        .bind(i64::try_from(progress.rejected.len()).unwrap_or(i64::MAX))
        .bind(failure.map(|failure| failure.since))
        .bind(failure.map(|failure| &failure.error))
        .bind(failure.map(|failure| failure.at))
        .bind(progress.lag_records)
        .bind(progress.lag_seconds)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Err(ProgressError::LeaseLost);
        }
        for rejected in &progress.rejected {
            sqlx::query(
                "insert into rejected_lines (id, drain_id, line_id, line, reason)
                 values ($1, $2, $3, $4, $5) on conflict do nothing",
            )
            .bind(Uuid::now_v7())
            .bind(lease.drain.uuid())
            .bind(&rejected.line_id)
            .bind(&rejected.line)
            .bind(&rejected.reason)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Writes the lag of a paused drain, which nobody owns.
    pub async fn report_paused_lag(
        &self,
        drain: Id<Drain>,
        lag_records: i64,
        lag_seconds: f64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "update drain_positions p set lag_records = $2, lag_seconds = $3, updated_at = now()
             from log_drains d
             where p.drain_id = $1 and d.id = $1 and d.paused_at is not null",
        )
        .bind(drain.uuid())
        .bind(lag_records)
        .bind(lag_seconds)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The headers of the blocks that follow a drain's position, in order and at most `limit`, as the
    /// log stream wrote them.
    pub async fn drain_backlog(
        &self,
        drain: Id<Drain>,
        limit: u16,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        Ok(sqlx::query_scalar(
            "select b.header
             from drain_positions p
             join log_drains d on d.id = p.drain_id
             join stream.blocks b on b.environment_id = d.environment_id
              and (b.xid, b.seq) > (p.high_xid::text::xid8, p.high_seq)
             where p.drain_id = $1
             order by b.xid, b.seq limit $2",
        )
        .bind(drain.uuid())
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?)
    }
}
