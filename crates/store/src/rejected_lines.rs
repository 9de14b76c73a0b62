//! Lines that endpoints refused for good, and sending them again.

use model::{Drain, Id, User};
use serde_json::Value;
use sqlx::FromRow;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::activity::record;
use crate::leases::Lease;
use crate::log_drains::announce_and_read;
use crate::{Store, StoreError};

/// A line that was refused.
#[derive(Debug, Clone, FromRow)]
pub struct KeptRejectedLine {
    /// Its id here.
    pub id: Uuid,
    /// The line's own.
    pub line_id: String,
    /// The line as it was sent.
    pub line: Value,
    /// Why it was refused.
    pub reason: String,
    /// When it last was.
    pub rejected_at: OffsetDateTime,
    /// Since when it waits to be sent again, if it does.
    pub resend_requested_at: Option<OffsetDateTime>,
}

/// A line to send again.
#[derive(Debug, Clone, FromRow)]
pub struct LineToResend {
    /// Its id here.
    pub id: Uuid,
    /// As it was sent; None of lines that were kept without.
    pub encoded: Option<Vec<u8>>,
    /// In which format that is.
    pub format: String,
}

// The api's half.
impl Store {
    /// A drain's refused lines, oldest first.
    pub async fn rejected_lines(
        &self,
        drain: Id<Drain>,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<KeptRejectedLine>, StoreError> {
        Ok(sqlx::query_as(
            "select id, line_id, line, reason, rejected_at, resend_requested_at
             from rejected_lines
             where drain_id = $1 and ($2::uuid is null or id > $2) order by id limit $3",
        )
        .bind(drain.uuid())
        .bind(after)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Has these refused lines, or all, sent again; answers how many wait for that now, of these.
    pub async fn ask_resend(
        &self,
        drain: Id<Drain>,
        lines: Option<&[Uuid]>,
        by: Id<User>,
    ) -> Result<u64, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let done = sqlx::query(
            "update rejected_lines set resend_requested_at = coalesce(resend_requested_at, now())
             where drain_id = $1 and ($2::uuid[] is null or id = any($2))",
        )
        .bind(drain.uuid())
        .bind(lines)
        .execute(&mut *transaction)
        .await?;
        let count = done.rows_affected();
        if let Some(drain) = announce_and_read(&mut transaction, drain).await? {
            let detail = format!("{count} refused lines");
            record(&mut transaction, &drain.changed("log_drain.resent", detail, by)).await?;
        }
        transaction.commit().await?;
        Ok(count)
    }
}

// The worker's half.
impl Store {
    /// The drains that have lines to send again.
    pub async fn drains_to_resend(&self) -> Result<Vec<Id<Drain>>, StoreError> {
        let drains: Vec<Uuid> = sqlx::query_scalar(
            "select distinct drain_id from rejected_lines where resend_requested_at is not null",
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(drains.into_iter().map(Id::from_uuid).collect())
    }

    /// A drain's lines to send again, oldest first.
    pub async fn lines_to_resend(
        &self,
        drain: Id<Drain>,
        limit: i64,
    ) -> Result<Vec<LineToResend>, StoreError> {
        Ok(sqlx::query_as(
            "select id, encoded, format from rejected_lines
             where drain_id = $1 and resend_requested_at is not null order by id limit $2",
        )
        .bind(drain.uuid())
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Lines were delivered after all. Only the drain's owner says so.
    pub async fn lines_resent(&self, lease: &Lease, lines: &[Uuid]) -> Result<(), StoreError> {
        sqlx::query(
            "with lease as materialized (
                 select drain_id from drain_leases
                 where drain_id = $1 and worker_id = $2 and generation = $3 for share
             ), gone as (
                 delete from rejected_lines r using lease
                 where r.drain_id = lease.drain_id and r.id = any($4) returning r.id
             )
             update drain_positions p
             set delivered_lines = p.delivered_lines + (select count(*) from gone)
             from lease where p.drain_id = lease.drain_id",
        )
        .bind(lease.drain.uuid())
        .bind(lease.worker.uuid())
        .bind(lease.generation)
        .bind(lines)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Deletes at most so many lines that were refused before the time for which their environments keep
    /// records, and counts them with those that drains have lost to it; answers how many.
    pub async fn forget_rejected_lines(&self, most: i64) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar(
            "with old as (
                 select r.id from rejected_lines r join log_drains d on d.id = r.drain_id
                     join environments e on e.id = d.environment_id
                 where r.rejected_at < now() - make_interval(secs => e.retention_seconds)
                 limit $1 for update of r skip locked
             ), gone as (
                 delete from rejected_lines r using old where r.id = old.id returning r.drain_id
             ), counted as (
                 select drain_id, count(*) as lines from gone group by drain_id
             ), locked as (
                 select drain_id from drain_positions
                 where drain_id in (select drain_id from counted) order by drain_id for update
             ), told as (
                 update drain_positions p set dropped_records = p.dropped_records + counted.lines
                 from counted join locked using (drain_id) where p.drain_id = counted.drain_id
             )
             select count(*) from gone",
        )
        .bind(most)
        .fetch_one(&self.pool)
        .await?)
    }

    /// Deletes at most so many refused lines of a drain that was deleted; false if there is no such drain.
    pub async fn forget_lines_of_a_deleted_drain(&self, most: i64) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar(
            "with deleted as materialized (
                 select drain_id from deleted_drains order by drain_id limit 1
             ), old as (
                 select r.id from rejected_lines r
                 where r.drain_id = (select drain_id from deleted)
                 limit $1 for update skip locked
             ), gone as (
                 delete from rejected_lines r using old where r.id = old.id
             ), done as (
                 delete from deleted_drains where drain_id = (select drain_id from deleted)
                     and not exists (
                         select from rejected_lines r
                         where r.drain_id = (select drain_id from deleted))
             )
             select exists (select from deleted)",
        )
        .bind(most)
        .fetch_one(&self.pool)
        .await?)
    }

    /// A line was refused again. Only the drain's owner says so.
    pub async fn line_refused_again(
        &self,
        lease: &Lease,
        line: Uuid,
        reason: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "with lease as materialized (
                 select drain_id from drain_leases
                 where drain_id = $1 and worker_id = $2 and generation = $3 for share
             )
             update rejected_lines r
             set resend_requested_at = null, reason = $5, rejected_at = now()
             from lease where r.drain_id = lease.drain_id and r.id = $4",
        )
        .bind(lease.drain.uuid())
        .bind(lease.worker.uuid())
        .bind(lease.generation)
        .bind(line)
        .bind(reason)
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
