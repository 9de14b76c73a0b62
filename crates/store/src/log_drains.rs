//! Log drains as the api sees them.
//!
//! Invariant: every change is told on the channel `spillway_drains`, and written down as activity of the
//! user who makes it, in the transaction that makes it. Credentials go in sealed and are never read here.

use model::{Drain, Environment, Handle, Id, User};
use serde_json::Value;
use sqlx::{FromRow, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::accounts::Held;
use crate::activity::{Change, record};
use crate::{Store, StoreError};

/// A log drain, how far it has got and how it is.
#[derive(Debug, Clone, FromRow)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct LogDrain {
    /// Its id.
    #[sqlx(try_from = "Uuid")]
    pub id: Id<Drain>,
    /// Whose records it takes.
    #[sqlx(try_from = "Uuid")]
    pub environment_id: Id<Environment>,
    /// Its handle, unique in the environment.
    #[sqlx(try_from = "String")]
    pub handle: Handle,
    /// `syslog_tls_tcp` or `https_post`.
    pub kind: String,
    /// Where it sends, in the form of its kind; nothing secret.
    pub destination: Value,
    /// Whether it has sealed credentials.
    pub has_credentials: bool,
    /// Whether it takes apps' records.
    pub drain_apps: bool,
    /// Whether it takes databases' records.
    pub drain_databases: bool,
    /// Whether it takes ephemeral sessions' records.
    pub drain_ephemeral_sessions: bool,
    /// Whether it takes records of activity.
    pub drain_activity: bool,
    /// `keep` or `strip`.
    pub control_sequences: String,
    /// `keep` or `last`.
    pub redraws: String,
    /// Which lines it takes, and what becomes of them.
    pub options: Value,
    /// Since when it is paused, if it is.
    pub paused_at: Option<OffsetDateTime>,
    /// Raised by each change of what is configured.
    pub revision: i64,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When what is configured was last changed.
    pub updated_at: OffsetDateTime,
    /// Since when it fails, if it does.
    pub failing_since: Option<OffsetDateTime>,
    /// What last went wrong.
    pub last_error: Option<String>,
    /// When it did.
    pub last_error_at: Option<OffsetDateTime>,
    /// Records that it has yet to deliver.
    pub lag_records: i64,
    /// Bytes that these have, before compression.
    pub lag_bytes: i64,
    /// Age of the oldest of them.
    pub lag_seconds: f64,
    /// Lines delivered since it was made.
    pub delivered_lines: i64,
    /// Bytes that these had, as they were encoded.
    pub delivered_bytes: i64,
    /// Lines that may have been received, and were sent again.
    pub repeated_lines: i64,
    /// Lines that the endpoint refused for good.
    pub rejected_lines: i64,
    /// Lines delivered of which something was masked.
    pub redacted_lines: i64,
    /// Records that it was told to leave out.
    pub skipped_records: i64,
    /// Records that the retention horizon has passed before they were delivered.
    pub dropped_records: i64,
    /// Lines delivered in the last minute.
    pub minute_lines: i64,
    /// Bytes that these had.
    pub minute_bytes: i64,
    /// Lines delivered in the last hour.
    pub hour_lines: i64,
    /// Bytes that these had.
    pub hour_bytes: i64,
    /// Lines that it had delivered and that came back into its environment.
    pub looped_lines: i64,
    /// When the last of them did.
    pub last_looped_at: Option<OffsetDateTime>,
    /// What is known of the connection: `{"address", "tls_version", "certificate_expires_at", "since"}`.
    pub connection: Option<Value>,
}

/// A log drain to be created; its id is chosen beforehand, for its credentials are sealed to it.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct NewLogDrain {
    /// Its id.
    pub id: Id<Drain>,
    /// Whose records it takes.
    pub environment_id: Id<Environment>,
    /// Its handle.
    pub handle: Handle,
    /// `syslog_tls_tcp` or `https_post`.
    pub kind: &'static str,
    /// Where it sends.
    pub destination: Value,
    /// Sealed to the workers' key.
    pub sealed_credentials: Option<Vec<u8>>,
    /// Whether it takes apps' records.
    pub drain_apps: bool,
    /// Whether it takes databases' records.
    pub drain_databases: bool,
    /// Whether it takes ephemeral sessions' records.
    pub drain_ephemeral_sessions: bool,
    /// Whether it takes records of activity.
    pub drain_activity: bool,
    /// `keep` or `strip`.
    pub control_sequences: &'static str,
    /// `keep` or `last`.
    pub redraws: &'static str,
    /// Which lines it takes, and what becomes of them.
    pub options: Value,
}

/// What to set; None leaves as is.
#[derive(Debug, Clone, Default)]
pub struct LogDrainChange {
    /// Its handle.
    pub handle: Option<Handle>,
    /// Where it sends.
    pub destination: Option<Value>,
    /// Sealed credentials; `Some(None)` takes them away.
    pub sealed_credentials: Option<Option<Vec<u8>>>,
    /// Whether it takes apps' records.
    pub drain_apps: Option<bool>,
    /// Whether it takes databases' records.
    pub drain_databases: Option<bool>,
    /// Whether it takes ephemeral sessions' records.
    pub drain_ephemeral_sessions: Option<bool>,
    /// Whether it takes records of activity.
    pub drain_activity: Option<bool>,
    /// `keep` or `strip`.
    pub control_sequences: Option<&'static str>,
    /// `keep` or `last`.
    pub redraws: Option<&'static str>,
    /// Which lines it takes, and what becomes of them, in whole.
    pub options: Option<Value>,
}

impl LogDrain {
    pub(crate) fn changed(
        &self,
        action: &'static str,
        detail: String,
        user: Id<User>,
    ) -> Change<'_> {
        Change {
            environment: self.environment_id,
            kind: "log_drain",
            thing: self.id.uuid(),
            handle: self.handle.as_str(),
            action,
            detail,
            user,
        }
    }
}

impl LogDrainChange {
    /// What it sets, by name: values may be secret.
    fn fields(&self) -> Vec<&'static str> {
        [
            ("handle", self.handle.is_some()),
            ("destination", self.destination.is_some()),
            ("credentials", self.sealed_credentials.is_some()),
            ("drain_apps", self.drain_apps.is_some()),
            ("drain_databases", self.drain_databases.is_some()),
            ("drain_ephemeral_sessions", self.drain_ephemeral_sessions.is_some()),
            ("drain_activity", self.drain_activity.is_some()),
            ("control_sequences", self.control_sequences.is_some()),
            ("redraws", self.redraws.is_some()),
            ("options", self.options.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_set)| is_set.then_some(name))
        .collect()
    }
}

// The api may not read sealed_credentials, so no statement here can say `d.*`.
macro_rules! select {
    ($columns:literal, $from:literal) => {
        concat!(
            "select d.id, d.environment_id, d.handle, d.kind, d.destination, d.has_credentials,
                 d.drain_apps, d.drain_databases, d.drain_ephemeral_sessions, d.drain_activity,
                 d.control_sequences, d.redraws, d.options, d.paused_at, d.revision, d.created_at,
                 d.updated_at,
                 p.failing_since, p.last_error, p.last_error_at,
                 coalesce(p.lag_records, 0) as lag_records,
                 coalesce(p.lag_bytes, 0) as lag_bytes,
                 coalesce(p.lag_seconds, 0) as lag_seconds,
                 coalesce(p.delivered_lines, 0) as delivered_lines,
                 coalesce(p.delivered_bytes, 0) as delivered_bytes,
                 coalesce(p.repeated_lines, 0) as repeated_lines,
                 coalesce(p.rejected_lines, 0) as rejected_lines,
                 coalesce(p.redacted_lines, 0) as redacted_lines,
                 coalesce(p.skipped_records, 0) as skipped_records,
                 coalesce(p.dropped_records, 0) as dropped_records,
                 coalesce(l.lines, 0) as looped_lines, l.last_at as last_looped_at,
                 p.connection, rates.*",
            $columns,
            " from log_drains d left join drain_positions p on p.drain_id = d.id
             left join drain_loops l on l.drain_id = d.id
             cross join lateral (
                 -- Of the minute before this one, the part that is not a minute ago.
                 select coalesce(sum(m.delivered_lines * share) , 0)::bigint as minute_lines,
                     coalesce(sum(m.delivered_bytes * share), 0)::bigint as minute_bytes,
                     coalesce(sum(m.delivered_lines), 0)::bigint as hour_lines,
                     coalesce(sum(m.delivered_bytes), 0)::bigint as hour_bytes
                 from drain_minutes m, lateral (
                     select greatest(0, least(1, 1
                         - extract(epoch from now() - m.minute - interval '1 minute') / 60)) as share
                 ) as share
                 where m.drain_id = d.id and m.minute > now() - interval '1 hour'
             ) rates ",
            $from
        )
    };
}

// The position of now. Readers see what is below, and no seq reaches 2^62: all that is settled is past. The
// offset keeps PostgreSQL from asking for each column anew, which may be answered otherwise.
macro_rules! now {
    () => {
        "(select stream.settled_below()::text::bigint - 1 as xid,
              4611686018427387904 as seq offset 0) as now"
    };
}

impl Store {
    /// A drain in one of the user's organizations.
    pub async fn log_drain(
        &self,
        id: Id<Drain>,
        user: Id<User>,
    ) -> Result<Option<Held<LogDrain>>, StoreError> {
        let row = sqlx::query(select!(
            ", m.role",
            "join environments e on e.id = d.environment_id and e.deleted_at is null
             join memberships m on m.organization_id = e.organization_id and m.user_id = $2
             where d.id = $1"
        ))
        .bind(id.uuid())
        .bind(user.uuid())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(Held::from_row).transpose()
    }

    /// Drains of an environment, oldest first.
    pub async fn log_drains(
        &self,
        environment: Id<Environment>,
        handle: Option<&str>,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<LogDrain>, StoreError> {
        Ok(sqlx::query_as(select!(
            "",
            "where d.environment_id = $1 and ($2::text is null or d.handle = $2)
               and ($3::uuid is null or d.id > $3)
             order by d.id limit $4"
        ))
        .bind(environment.uuid())
        .bind(handle)
        .bind(after)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Creates a drain whose position is now; None if the environment is gone. The constraint
    /// `log_drains_environment_id_handle_key` refuses a handle that is taken.
    pub async fn create_log_drain(
        &self,
        drain: &NewLogDrain,
        by: Id<User>,
    ) -> Result<Option<LogDrain>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let done = sqlx::query(
            "insert into log_drains (id, environment_id, handle, kind, destination,
                 sealed_credentials, drain_apps, drain_databases, drain_ephemeral_sessions,
                 control_sequences, redraws, options, drain_activity)
             select $1, e.id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13 from environments e
             where e.id = $2 and e.deleted_at is null for share",
        )
        .bind(drain.id.uuid())
        .bind(drain.environment_id.uuid())
        .bind(drain.handle.as_str())
        .bind(drain.kind)
        .bind(&drain.destination)
        .bind(&drain.sealed_credentials)
        .bind(drain.drain_apps)
        .bind(drain.drain_databases)
        .bind(drain.drain_ephemeral_sessions)
        .bind(drain.control_sequences)
        .bind(drain.redraws)
        .bind(&drain.options)
        .bind(drain.drain_activity)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(None);
        }
        sqlx::query(concat!(
            "insert into drain_positions (drain_id, low_xid, low_seq, high_xid, high_seq)
             select $1, now.xid, now.seq, now.xid, now.seq from ",
            now!()
        ))
        .bind(drain.id.uuid())
        .execute(&mut *transaction)
        .await?;
        let created = announce_and_read(&mut transaction, drain.id).await?;
        if let Some(created) = &created {
            let detail = format!("kind {}", created.kind);
            record(&mut transaction, &created.changed("log_drain.created", detail, by)).await?;
        }
        transaction.commit().await?;
        Ok(created)
    }

    /// Changes a drain; None if it has another revision than expected, or is gone.
    pub async fn update_log_drain(
        &self,
        id: Id<Drain>,
        expected_revision: Option<i64>,
        change: &LogDrainChange,
        by: Id<User>,
    ) -> Result<Option<LogDrain>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let done = sqlx::query(
            "update log_drains set handle = coalesce($3, handle),
                 destination = coalesce($4, destination),
                 drain_apps = coalesce($5, drain_apps),
                 drain_databases = coalesce($6, drain_databases),
                 drain_ephemeral_sessions = coalesce($7, drain_ephemeral_sessions),
                 control_sequences = coalesce($8, control_sequences),
                 redraws = coalesce($9, redraws),
                 options = coalesce($10, options),
                 drain_activity = coalesce($11, drain_activity),
                 revision = revision + 1, updated_at = now()
             where id = $1 and revision = coalesce($2, revision)",
        )
        .bind(id.uuid())
        .bind(expected_revision)
        .bind(change.handle.as_ref().map(Handle::as_str))
        .bind(&change.destination)
        .bind(change.drain_apps)
        .bind(change.drain_databases)
        .bind(change.drain_ephemeral_sessions)
        .bind(change.control_sequences)
        .bind(change.redraws)
        .bind(&change.options)
        .bind(change.drain_activity)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(None);
        }
        // Apart: to keep them in the statement above, the api would have to read them.
        if let Some(sealed_credentials) = &change.sealed_credentials {
            sqlx::query("update log_drains set sealed_credentials = $2 where id = $1")
                .bind(id.uuid())
                .bind(sealed_credentials)
                .execute(&mut *transaction)
                .await?;
        }
        let changed = announce_and_read(&mut transaction, id).await?;
        if let Some(changed) = &changed {
            let detail = change.fields().join(", ");
            record(&mut transaction, &changed.changed("log_drain.changed", detail, by)).await?;
        }
        transaction.commit().await?;
        Ok(changed)
    }

    /// Pauses a drain, or lets it go on; None if it is gone. What is so already stays as it is.
    pub async fn pause_log_drain(
        &self,
        id: Id<Drain>,
        paused: bool,
        by: Id<User>,
    ) -> Result<Option<LogDrain>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let done = sqlx::query(
            "update log_drains set paused_at = case when $2 then now() end,
                 revision = revision + 1, updated_at = now()
             where id = $1 and (paused_at is not null) <> $2",
        )
        .bind(id.uuid())
        .bind(paused)
        .execute(&mut *transaction)
        .await?;
        let drain = announce_and_read(&mut transaction, id).await?;
        if let Some(drain) = drain.as_ref().filter(|_| done.rows_affected() > 0) {
            let action = if paused { "log_drain.paused" } else { "log_drain.resumed" };
            record(&mut transaction, &drain.changed(action, String::new(), by)).await?;
        }
        transaction.commit().await?;
        Ok(drain)
    }

    /// Has a drain leave out all that is in the stream by now; None if it is gone.
    pub async fn skip_log_drain(
        &self,
        id: Id<Drain>,
        by: Id<User>,
    ) -> Result<Option<LogDrain>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query(concat!(
            "update log_drains set skip_to_xid = now.xid, skip_to_seq = now.seq,
                 revision = revision + 1, updated_at = now() from ",
            now!(),
            " where id = $1"
        ))
        .bind(id.uuid())
        .execute(&mut *transaction)
        .await?;
        let drain = announce_and_read(&mut transaction, id).await?;
        if let Some(drain) = &drain {
            let detail = format!("{} records behind", drain.lag_records);
            record(&mut transaction, &drain.changed("log_drain.skipped", detail, by)).await?;
        }
        transaction.commit().await?;
        Ok(drain)
    }

    /// Deletes a drain with its position and rejected lines; false if it has another revision than
    /// expected, or is gone.
    pub async fn delete_log_drain(
        &self,
        id: Id<Drain>,
        expected_revision: Option<i64>,
        by: Id<User>,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let deleted: Option<(Uuid, String)> = sqlx::query_as(
            "delete from log_drains where id = $1 and revision = coalesce($2, revision)
             returning environment_id, handle",
        )
        .bind(id.uuid())
        .bind(expected_revision)
        .fetch_optional(&mut *transaction)
        .await?;
        announce_and_read(&mut transaction, id).await?;
        let is_deleted = deleted.is_some();
        if let Some((environment, handle)) = deleted {
            let change = Change {
                environment: Id::from_uuid(environment),
                kind: "log_drain",
                thing: id.uuid(),
                handle: &handle,
                action: "log_drain.deleted",
                detail: String::new(),
                user: by,
            };
            record(&mut transaction, &change).await?;
        }
        transaction.commit().await?;
        Ok(is_deleted)
    }
}

/// Tells workers of a drain, and reads it.
pub(crate) async fn announce_and_read(
    connection: &mut PgConnection,
    id: Id<Drain>,
) -> Result<Option<LogDrain>, StoreError> {
    sqlx::query("select pg_notify('spillway_drains', $1)")
        .bind(id.to_string())
        .execute(&mut *connection)
        .await?;
    Ok(sqlx::query_as(select!("", "where d.id = $1"))
        .bind(id.uuid())
        .fetch_optional(connection)
        .await?)
}
