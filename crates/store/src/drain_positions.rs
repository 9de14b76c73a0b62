//! How far drains have got, and how they are.
//!
//! Invariants: only the lease's generation writes. The lease's row is locked for the write, so it
//! cannot change its owner between the check and the write. That a drain fails for long, and that it has
//! recovered, is written down as activity, with the notices of it, in the statement that keeps it in the drain's
//! row: once for each outage, whichever worker finds it, and whatever is killed.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::{Drain, Environment, Id};
use serde_json::{Value, json};
use sqlx::FromRow;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
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

/// How a drain is, as far as its worker knows.
#[derive(Debug, Clone, Default)]
pub enum DrainHealth {
    /// It has not tried anything yet, so the drain is as it was.
    #[default]
    Unknown,
    /// Lines were delivered, or none is left to be.
    Works,
    /// It fails.
    Fails {
        /// Since when, and why.
        failure: DrainFailure,
        /// Whether the drain worked before that, in this worker's hands: what failed before is over then.
        has_worked: bool,
    },
}

/// A line that an endpoint refused for good.
#[derive(Debug, Clone)]
pub struct RejectedLine {
    /// The line's id.
    pub line_id: String,
    /// The line as it was sent.
    pub line: Value,
    /// The same, byte for byte.
    pub encoded: Vec<u8>,
    /// In which format that is.
    pub format: String,
    /// Why it was refused.
    pub reason: String,
}

/// What happened to a drain's lines, for its minutes.
#[derive(Debug, Clone, Copy, Default)]
pub struct DrainMinute {
    /// Lines delivered.
    pub delivered: i64,
    /// Bytes of these, as they were encoded.
    pub delivered_bytes: i64,
    /// Lines refused.
    pub rejected: i64,
    /// What failed.
    pub failures: i64,
}

/// Why a drain does not deliver records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassedOver {
    /// A user has said so.
    Skipped,
    /// The retention horizon has passed them.
    Dropped,
}

/// What a worker has to say about a drain.
#[derive(Debug, Clone, Default)]
pub struct DrainProgress {
    /// How far it has got by now; None leaves it as it is.
    pub position: Option<DrainPosition>,
    /// Lines delivered since the last report.
    pub delivered: i64,
    /// Bytes of these, as they were encoded.
    pub delivered_bytes: i64,
    /// Lines that may have been received, and were sent again, since the last report.
    pub repeated: i64,
    /// What happened since this was last told.
    pub minute: Option<DrainMinute>,
    /// Lines of them of which something was masked.
    pub redacted: i64,
    /// Lines refused since the last report.
    pub rejected: Vec<RejectedLine>,
    /// How it is.
    pub health: DrainHealth,
    /// The connection, if there is a new one.
    pub connection: Option<Value>,
    /// Records that it has yet to deliver.
    pub lag_records: i64,
    /// Bytes that these have, before compression.
    pub lag_bytes: i64,
    /// Age of the oldest of them.
    pub lag_seconds: f64,
}

impl Store {
    /// How far a drain has got. One that has not begun begins now.
    pub async fn drain_position(&self, drain: Id<Drain>) -> Result<DrainPosition, StoreError> {
        // All that is settled now is below, and numbers begin at 1.
        sqlx::query(
            "with now as materialized (select stream.settled_below()::text::bigint as xid)
             insert into drain_positions (drain_id, low_xid, low_seq, high_xid, high_seq)
             select $1, xid, 0, xid, 0 from now
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

    /// Writes how drains are and how far they have got, all or nothing; answers those that were
    /// written. The lease of any other is another worker's by now, or the drain is gone. A drain that fails
    /// for `failing_after` is announced, and so is one that has recovered after that.
    #[allow(clippy::too_many_lines, reason = "it is one statement")]
    pub async fn report_drain_progress(
        &self,
        reports: &[(Lease, DrainProgress)],
        failing_after: Duration,
    ) -> Result<Vec<Id<Drain>>, StoreError> {
        let rows: Vec<Value> =
            reports.iter().map(|(lease, progress)| progress.row(lease)).collect();
        // Leases are locked in the order of their ids, as where they are renewed; then the rows in which it
        // is decided what is news, for another such statement, given up on, may still run.
        let written: Vec<Uuid> = sqlx::query_scalar(
            "with report as materialized (
                 select * from jsonb_to_recordset($1) as report (
                     drain_id uuid, worker_id uuid, generation bigint,
                     low_xid bigint, low_seq bigint, high_xid bigint, high_seq bigint, open jsonb,
                     delivered bigint, delivered_bytes bigint, redacted bigint, repeated bigint,
                     rejected jsonb, connection jsonb, minute_lines bigint, minute_bytes bigint,
                     minute_rejected bigint, minute_failures bigint,
                     goes_on boolean, failing_since timestamptz, error text, error_at timestamptz,
                     failing_id uuid, recovered_id uuid,
                     lag_records bigint, lag_bytes bigint, lag_seconds float8)
             ), lease as materialized (
                 select drain_id from drain_leases
                 where (drain_id, worker_id, generation)
                     in (select drain_id, worker_id, generation from report)
                 order by drain_id for share
             ), refused as (
                 insert into rejected_lines
                     (id, drain_id, line_id, line, encoded, format, reason)
                 select line.id, drain_id, line.line_id, line.line,
                     decode(line.encoded, 'base64'), line.format, line.reason
                 from report join lease using (drain_id), jsonb_to_recordset(report.rejected)
                     as line (id uuid, line_id text, line jsonb, encoded text, format text,
                         reason text)
                 on conflict do nothing
             ), minute as (
                 insert into drain_minutes as m (drain_id, minute, delivered_lines,
                     delivered_bytes, rejected_lines, failures, lag_records, lag_seconds)
                 select drain_id, date_trunc('minute', now()), minute_lines, minute_bytes,
                     minute_rejected, minute_failures, lag_records, lag_seconds
                 from report join lease using (drain_id)
                 where minute_lines is not null
                 on conflict (drain_id, minute) do update set
                     delivered_lines = m.delivered_lines + excluded.delivered_lines,
                     delivered_bytes = m.delivered_bytes + excluded.delivered_bytes,
                     rejected_lines = m.rejected_lines + excluded.rejected_lines,
                     failures = m.failures + excluded.failures,
                     lag_records = greatest(m.lag_records, excluded.lag_records),
                     lag_seconds = greatest(m.lag_seconds, excluded.lag_seconds)
             ), locked as materialized (
                 select drain_id, failing_since, failure_announced_at from drain_positions
                 where drain_id in (select drain_id from lease)
                 order by drain_id for no key update
             ), health as materialized (
                 select drain_id, begun.failing_since,
                     r.failing_since is not null as is_seen_to_fail,
                     p.failing_since as failed_since, p.failure_announced_at as announced_at,
                     p.failure_announced_at is not null and (begun.failing_since is null
                         or begun.failing_since > p.failing_since) as has_recovered
                 from report r join locked p using (drain_id), lateral (values (case
                     when r.goes_on then least(p.failing_since, r.failing_since)
                     else r.failing_since end)) as begun (failing_since)
             ), outage as materialized (
                 select *, is_seen_to_fail and (announced_at is null or has_recovered)
                     and failing_since <= now() - make_interval(secs => $2) as is_news
                 from health
             ), told as (
                 insert into activity (id, block_id, environment_id, actor, action, target_kind,
                     target_id, target_handle, detail)
                 select news.id, news.id, d.environment_id, 'platform', news.action, 'log_drain',
                     d.id, d.handle, since_word || to_char(since at time zone 'UTC',
                         'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') || news.error
                 from outage o join report r using (drain_id) join log_drains d on d.id = o.drain_id,
                     lateral (values
                         (o.has_recovered, r.recovered_id, 'log_drain.recovered',
                             'it failed since ', o.failed_since, ''),
                         (o.is_news, r.failing_id, 'log_drain.failing',
                             'since ', o.failing_since, ': ' || r.error)
                     ) as news (has_happened, id, action, since_word, since, error)
                 where has_happened
                 returning id, environment_id
             ), notice as (
                 insert into notices (id, activity_id, environment_id, email)
                 select gen_random_uuid(), told.id, environment_id, recipient.email
                 from told join notice_recipients recipient using (environment_id)
             )
             update drain_positions p set
                 (low_xid, low_seq, high_xid, high_seq, open) = (
                     select n.low_xid, n.low_seq, n.high_xid, n.high_seq, n.open from (values
                         (r.low_xid, r.low_seq, r.high_xid, r.high_seq, r.open, true),
                         (p.low_xid, p.low_seq, p.high_xid, p.high_seq, p.open, false)
                     ) as n (low_xid, low_seq, high_xid, high_seq, open, is_reported)
                     where n.low_xid is not null
                     order by n.high_xid desc, n.high_seq desc, n.low_xid desc, n.low_seq desc,
                         n.is_reported desc
                     limit 1
                 ),
                 delivered_lines = p.delivered_lines + r.delivered,
                 delivered_bytes = p.delivered_bytes + r.delivered_bytes,
                 redacted_lines = p.redacted_lines + r.redacted,
                 repeated_lines = p.repeated_lines + r.repeated,
                 rejected_lines = p.rejected_lines + jsonb_array_length(r.rejected),
                 connection = coalesce(r.connection, p.connection),
                 failing_since = o.failing_since,
                 failure_announced_at = case when is_news then now()
                     when not has_recovered then announced_at end,
                 last_error = coalesce(r.error, p.last_error),
                 last_error_at = coalesce(r.error_at, p.last_error_at),
                 lag_records = r.lag_records, lag_bytes = r.lag_bytes,
                 lag_seconds = r.lag_seconds, updated_at = now()
             from report r join outage o using (drain_id)
             where p.drain_id = r.drain_id
             returning p.drain_id",
        )
        .bind(Value::Array(rows))
        .bind(failing_after.as_secs_f64())
        .fetch_all(&self.pool)
        .await?;
        Ok(written.into_iter().map(Id::from_uuid).collect())
    }

    /// Moves a drain forward over records that it is not to deliver, and counts them; false if it is another
    /// worker's by now. A position that is further on stays. What the retention horizon takes away is told in
    /// the activity, once a day.
    pub async fn pass_over(
        &self,
        lease: &Lease,
        to: (i64, i64),
        records: i64,
        reason: PassedOver,
    ) -> Result<bool, StoreError> {
        let done: Option<Uuid> = sqlx::query_scalar(
            "with lease as materialized (
                 select drain_id from drain_leases
                 where drain_id = $1 and worker_id = $2 and generation = $3 for share
             ), moved as (
                 update drain_positions p
                 set low_xid = $4, low_seq = $5, high_xid = $4, high_seq = $5, open = '{}',
                     skipped_records = p.skipped_records + case when $7 then 0 else $6 end,
                     dropped_records = p.dropped_records + case when $7 then $6 else 0 end,
                     dropped_told_at = case when $7 and $6 > 0
                         and coalesce(p.dropped_told_at < now() - interval '1 day', true)
                         then now() else p.dropped_told_at end,
                     updated_at = now()
                 from lease
                 where p.drain_id = lease.drain_id and (p.high_xid, p.high_seq) <= ($4, $5)
                 returning p.drain_id, p.dropped_told_at = now() as is_news
             ), told as (
                 insert into activity (id, block_id, environment_id, actor, action, target_kind,
                     target_id, target_handle, detail)
                 select $8, $8, d.environment_id, 'platform', 'log_drain.dropped', 'log_drain', d.id,
                     d.handle, 'it is so far behind that the retention horizon has passed records'
                         ' before they were delivered'
                 from moved join log_drains d on d.id = drain_id where is_news
                 returning id, environment_id
             ), notice as (
                 insert into notices (id, activity_id, environment_id, email)
                 select gen_random_uuid(), told.id, environment_id, recipient.email
                 from told join notice_recipients recipient using (environment_id)
             )
             select drain_id from moved",
        )
        .bind(lease.drain.uuid())
        .bind(lease.worker.uuid())
        .bind(lease.generation)
        .bind(to.0)
        .bind(to.1)
        .bind(records)
        .bind(reason == PassedOver::Dropped)
        .bind(Uuid::now_v7())
        .fetch_optional(&self.pool)
        .await?;
        Ok(done.is_some())
    }

    /// The headers of an environment's blocks after a position and up to another, in order, each with its own
    /// position; at most `limit`.
    pub async fn block_headers(
        &self,
        environment: Id<Environment>,
        after: (i64, i64),
        upto: (i64, i64),
        limit: u16,
    ) -> Result<Vec<(i64, i64, Vec<u8>)>, StoreError> {
        Ok(sqlx::query_as(
            "select xid::text::bigint, seq, header from stream.blocks
             where environment_id = $1 and (xid, seq) > ($2::text::xid8, $3)
                 and (xid, seq) <= ($4::text::xid8, $5)
             order by xid, seq limit $6",
        )
        .bind(environment.uuid())
        .bind(after.0)
        .bind(after.1)
        .bind(upto.0)
        .bind(upto.1)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?)
    }

    /// Forgets how drains fared more than a day ago, and tests that old.
    pub async fn forget_drain_history(&self) -> Result<(), StoreError> {
        sqlx::query("delete from drain_minutes where minute < now() - interval '1 day'")
            .execute(&self.pool)
            .await?;
        sqlx::query("delete from drain_tests where requested_at < now() - interval '1 day'")
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Writes the lag of a paused drain, which nobody owns: records, bytes, seconds.
    pub async fn report_paused_lag(
        &self,
        drain: Id<Drain>,
        lag: (i64, i64, f64),
    ) -> Result<(), StoreError> {
        let (records, bytes, seconds) = lag;
        sqlx::query(
            "update drain_positions p set lag_records = $2, lag_bytes = $3, lag_seconds = $4,
                 updated_at = now()
             from log_drains d
             where p.drain_id = $1 and d.id = $1 and d.paused_at is not null",
        )
        .bind(drain.uuid())
        .bind(records)
        .bind(bytes)
        .bind(seconds)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The headers of the blocks that follow drains' positions, as the log stream wrote them: for each
    /// drain in order, and at most `limit`.
    pub async fn drain_backlogs(
        &self,
        drains: &[Id<Drain>],
        limit: u16,
    ) -> Result<HashMap<Id<Drain>, Vec<Vec<u8>>>, StoreError> {
        let ids: Vec<Uuid> = drains.iter().map(|drain| drain.uuid()).collect();
        let rows: Vec<(Uuid, Vec<u8>)> = sqlx::query_as(
            "select p.drain_id, b.header
             from drain_positions p
             join log_drains d on d.id = p.drain_id
             cross join lateral (
                 select header, xid, seq from stream.blocks
                 where environment_id = d.environment_id
                     and (xid, seq) > (p.high_xid::text::xid8, p.high_seq)
                 order by xid, seq limit $2
             ) b
             where p.drain_id = any($1)
             order by p.drain_id, b.xid, b.seq",
        )
        .bind(ids)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        let mut backlogs = HashMap::<_, Vec<_>>::new();
        for (drain, header) in rows {
            backlogs.entry(Id::from_uuid(drain)).or_default().push(header);
        }
        Ok(backlogs)
    }
}

impl DrainProgress {
    /// What it changes.
    fn row(&self, lease: &Lease) -> Value {
        let position = self.position.as_ref();
        // Failures of one outage go on where others saw them begin.
        let (goes_on, failure) = match &self.health {
            DrainHealth::Unknown => (true, None),
            DrainHealth::Works => (false, None),
            DrainHealth::Fails { failure, has_worked } => (!has_worked, Some(failure)),
        };
        let at = |time: OffsetDateTime| time.format(&Rfc3339).ok();
        let rejected: Vec<Value> = self.rejected.iter().map(RejectedLine::row).collect();
        json!({
            "drain_id": lease.drain.uuid(),
            "worker_id": lease.worker.uuid(),
            "generation": lease.generation,
            "low_xid": position.map(|position| position.low_xid),
            "low_seq": position.map(|position| position.low_seq),
            "high_xid": position.map(|position| position.high_xid),
            "high_seq": position.map(|position| position.high_seq),
            "open": position.map(|position| &position.open),
            "delivered": self.delivered,
            "delivered_bytes": self.delivered_bytes,
            "redacted": self.redacted,
            "repeated": self.repeated,
            "minute_lines": self.minute.map(|minute| minute.delivered),
            "minute_bytes": self.minute.map(|minute| minute.delivered_bytes),
            "minute_rejected": self.minute.map(|minute| minute.rejected),
            "minute_failures": self.minute.map(|minute| minute.failures),
            "rejected": rejected,
            "connection": self.connection,
            "goes_on": goes_on,
            "recovered_id": Uuid::now_v7(),
            "failing_id": Uuid::now_v7(),
            "failing_since": failure.and_then(|failure| at(failure.since)),
            "error": failure.map(|failure| &failure.error),
            "error_at": failure.and_then(|failure| at(failure.at)),
            "lag_records": self.lag_records,
            "lag_bytes": self.lag_bytes,
            "lag_seconds": self.lag_seconds,
        })
    }
}

impl RejectedLine {
    fn row(&self) -> Value {
        let Self { line_id, line, encoded, format, reason } = self;
        json!({
            "id": Uuid::now_v7(), "line_id": line_id, "line": line, "encoded": STANDARD.encode(encoded),
            "format": format, "reason": reason,
        })
    }
}
