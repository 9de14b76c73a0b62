//! Log sources as the intake sees them: who may write what, and what has come in.

use std::time::Duration;

use model::{
    App, AppTag, Database, DatabaseTag, Drain, Environment, EnvironmentTag, Handle, Id, LogSource,
    Organization,
};
use sqlx::FromRow;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Store, StoreError};

/// A log source, and what its records are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntakeSource {
    /// Its id.
    pub id: Id<LogSource>,
    /// Its handle.
    pub handle: String,
    /// The environment whose stream it writes to.
    pub environment: EnvironmentTag,
    /// The app whose lines it writes; or else there is a database.
    pub app: Option<AppTag>,
    /// The database whose lines it writes.
    pub database: Option<DatabaseTag>,
    /// The database's engine.
    pub engine: Option<String>,
    /// The token: its key, and the SHA-256 of all of it.
    pub token: TokenHash,
    /// The token before, while it is good.
    pub previous_token: Option<(TokenHash, OffsetDateTime)>,
    /// SHA-256 of client certificates.
    pub client_certificates: Vec<Vec<u8>>,
    /// Its own quota: bytes a second, bytes at once.
    pub quota: (Option<i64>, Option<i64>),
    /// Its environment's.
    pub environment_quota: (Option<i64>, Option<i64>),
    /// Whether it is disabled.
    pub disabled: bool,
}

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenHash {
    /// Its first characters.
    pub key: String,
    /// SHA-256 of all of it.
    pub hash: Vec<u8>,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    handle: String,
    environment_id: Uuid,
    #[sqlx(try_from = "String")]
    environment_handle: Handle,
    organization_id: Uuid,
    app_id: Option<Uuid>,
    app_handle: Option<String>,
    database_id: Option<Uuid>,
    database_handle: Option<String>,
    engine: Option<String>,
    token_key: String,
    token_hash: Vec<u8>,
    previous_token_key: Option<String>,
    previous_token_hash: Option<Vec<u8>>,
    previous_token_until: Option<OffsetDateTime>,
    client_certificates: Vec<Vec<u8>>,
    bytes_per_second: Option<i64>,
    burst_bytes: Option<i64>,
    intake_bytes_per_second: Option<i64>,
    intake_burst_bytes: Option<i64>,
    disabled: bool,
}

/// What an intake has counted of a source since it last told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceCounts {
    /// Lines that are durable.
    pub lines: i64,
    /// Their bytes.
    pub bytes: i64,
    /// Messages and requests that were refused.
    pub refused: i64,
    /// Lines that could not be read.
    pub malformed: i64,
    /// Datagrams that were dropped.
    pub dropped: i64,
    /// How often a sender had to wait.
    pub throttled: i64,
    /// Lines that a drain of the same environment had delivered.
    pub looped: i64,
    /// The reason of the last refusal, in words.
    pub last_refusal: Option<String>,
}

/// What is known of a request that has a key.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct IntakeRequest {
    /// SHA-256 of the body.
    pub body_hash: Vec<u8>,
    /// The first block that its lines are appended as, a `UUIDv7`.
    pub block_id: Uuid,
    /// What was answered, once its lines are durable.
    pub answer: Option<serde_json::Value>,
}

/// Lines that a drain had delivered and that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainLoop {
    /// The drain.
    pub drain: Id<Drain>,
    /// What they came back through last.
    pub source: Id<LogSource>,
    /// How many.
    pub lines: i64,
}

impl Store {
    /// Every drain, and its environment.
    pub async fn intake_drains(&self) -> Result<Vec<(Id<Drain>, Id<Environment>)>, StoreError> {
        let rows: Vec<(Uuid, Uuid)> = sqlx::query_as("select id, environment_id from log_drains")
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.into_iter().map(|(id, of)| (Id::from_uuid(id), Id::from_uuid(of))).collect())
    }

    /// Adds lines that came back.
    pub async fn add_drain_loops(&self, loops: &[DrainLoop]) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = loops.iter().map(|it| it.drain.uuid()).collect();
        let sources: Vec<Uuid> = loops.iter().map(|it| it.source.uuid()).collect();
        let lines: Vec<i64> = loops.iter().map(|it| it.lines).collect();
        sqlx::query(
            "insert into drain_loops as l (drain_id, source_id, lines)
             select d.id, s.id, n.lines
             from unnest($1::uuid[], $2::uuid[], $3::bigint[]) as n (drain, source, lines)
             join log_drains d on d.id = n.drain left join log_sources s on s.id = n.source
             order by d.id
             on conflict (drain_id) do update set lines = l.lines + excluded.lines,
                 source_id = excluded.source_id, last_at = now()",
        )
        .bind(ids)
        .bind(sources)
        .bind(lines)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Every source that is not deleted.
    pub async fn intake_sources(&self) -> Result<Vec<IntakeSource>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "select s.id, s.handle, s.environment_id, e.handle as environment_handle,
                 e.organization_id, s.app_id, a.handle as app_handle, s.database_id,
                 d.handle as database_handle, d.engine, s.token_key, s.token_hash,
                 s.previous_token_key, s.previous_token_hash, s.previous_token_until,
                 s.client_certificates, s.bytes_per_second, s.burst_bytes,
                 e.intake_bytes_per_second, e.intake_burst_bytes,
                 s.disabled_at is not null as disabled
             from log_sources s
             join environments e on e.id = s.environment_id and e.deleted_at is null
             left join apps a on a.id = s.app_id and a.deleted_at is null
             left join databases d on d.id = s.database_id and d.deleted_at is null
             where s.deleted_at is null and (a.id is not null or d.id is not null)",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(IntakeSource::try_from).collect()
    }

    /// Adds what was counted of some sources.
    pub async fn add_source_counts(
        &self,
        counts: &[(Id<LogSource>, SourceCounts)],
    ) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = counts.iter().map(|(id, _)| id.uuid()).collect();
        let column = |of: fn(&SourceCounts) -> i64| -> Vec<i64> {
            counts.iter().map(|(_, counts)| of(counts)).collect()
        };
        let refusals: Vec<Option<String>> =
            counts.iter().map(|(_, counts)| counts.last_refusal.clone()).collect();
        let mut transaction = self.pool.begin().await?;
        // In the order of the ids, as every intake does.
        sqlx::query(
            "insert into log_source_counts as c (source_id, lines, bytes, refused, malformed,
                 dropped, throttled, looped, last_line_at, last_refused_at, last_refusal)
             select id, lines, bytes, refused, malformed, dropped, throttled, looped,
                 case when lines > 0 then now() end, case when refused > 0 then now() end, refusal
             from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
                 $6::bigint[], $7::bigint[], $8::bigint[], $9::text[])
                 as n (id, lines, bytes, refused, malformed, dropped, throttled, looped, refusal)
             where exists (select from log_sources s where s.id = n.id)
             order by id
             on conflict (source_id) do update set lines = c.lines + excluded.lines,
                 bytes = c.bytes + excluded.bytes, refused = c.refused + excluded.refused,
                 malformed = c.malformed + excluded.malformed,
                 dropped = c.dropped + excluded.dropped,
                 throttled = c.throttled + excluded.throttled, looped = c.looped + excluded.looped,
                 last_line_at = coalesce(excluded.last_line_at, c.last_line_at),
                 last_refused_at = coalesce(excluded.last_refused_at, c.last_refused_at),
                 last_refusal = coalesce(excluded.last_refusal, c.last_refusal)",
        )
        .bind(&ids)
        .bind(column(|counts| counts.lines))
        .bind(column(|counts| counts.bytes))
        .bind(column(|counts| counts.refused))
        .bind(column(|counts| counts.malformed))
        .bind(column(|counts| counts.dropped))
        .bind(column(|counts| counts.throttled))
        .bind(column(|counts| counts.looped))
        .bind(refusals)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "insert into log_source_minutes as m (source_id, minute, lines, bytes)
             select id, date_trunc('minute', now()), lines, bytes
             from unnest($1::uuid[], $2::bigint[], $3::bigint[]) as n (id, lines, bytes)
             where lines > 0 and exists (select from log_sources s where s.id = n.id)
             order by id
             on conflict (source_id, minute) do update set lines = m.lines + excluded.lines,
                 bytes = m.bytes + excluded.bytes",
        )
        .bind(&ids)
        .bind(column(|counts| counts.lines))
        .bind(column(|counts| counts.bytes))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Forgets minutes and requests with keys that are older than a day.
    pub async fn forget_intake_history(&self) -> Result<(), StoreError> {
        for statement in [
            "delete from log_source_minutes where minute < now() - interval '1 day'",
            "delete from intake_requests where created_at < now() - interval '1 day'",
        ] {
            sqlx::query(statement).execute(&self.pool).await?;
        }
        Ok(())
    }

    /// Writes a request with a key down, unless it is; what is known of it then. `block_id` is a new
    /// `UUIDv7` for it.
    pub async fn begin_intake_request(
        &self,
        source: Id<LogSource>,
        key_hash: &[u8],
        body_hash: &[u8],
        block_id: Uuid,
    ) -> Result<IntakeRequest, StoreError> {
        // The change without effect returns the row that is there, after waiting for who writes it.
        Ok(sqlx::query_as(
            "insert into intake_requests as r (source_id, key_hash, body_hash, block_id)
             values ($1, $2, $3, $4)
             on conflict (source_id, key_hash) do update set body_hash = r.body_hash
             returning body_hash, block_id, answer",
        )
        .bind(source.uuid())
        .bind(key_hash)
        .bind(body_hash)
        .bind(block_id)
        .fetch_one(&self.pool)
        .await?)
    }

    /// Notes that a request's lines are durable, and what it is answered; false if that was noted before.
    pub async fn finish_intake_request(
        &self,
        source: Id<LogSource>,
        key_hash: &[u8],
        answer: &serde_json::Value,
    ) -> Result<bool, StoreError> {
        let finished = sqlx::query(
            "update intake_requests set done_at = now(), answer = $3
             where source_id = $1 and key_hash = $2 and done_at is null",
        )
        .bind(source.uuid())
        .bind(key_hash)
        .bind(answer)
        .execute(&self.pool)
        .await?;
        Ok(finished.rows_affected() > 0)
    }
}

/// How long requests with keys are remembered.
pub const REQUESTS_KEPT: Duration = Duration::from_hours(24);

impl TryFrom<Row> for IntakeSource {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let handle = |handle: Option<String>| {
            let handle = handle.unwrap_or_default();
            Handle::try_from(handle.clone())
                .map_err(|_| StoreError::Invalid(format!("the handle {handle}")))
        };
        let previous = row.previous_token_key.zip(row.previous_token_hash);
        let previous = previous.map(|(key, hash)| TokenHash { key, hash });
        Ok(Self {
            id: Id::from_uuid(row.id),
            handle: row.handle,
            environment: EnvironmentTag {
                id: Id::<Environment>::from_uuid(row.environment_id),
                handle: row.environment_handle,
                organization: Id::<Organization>::from_uuid(row.organization_id),
            },
            app: match row.app_id {
                None => None,
                Some(id) => {
                    Some(AppTag { id: Id::<App>::from_uuid(id), handle: handle(row.app_handle)? })
                }
            },
            database: match row.database_id {
                None => None,
                Some(id) => Some(DatabaseTag {
                    id: Id::<Database>::from_uuid(id),
                    handle: handle(row.database_handle)?,
                }),
            },
            engine: row.engine,
            token: TokenHash { key: row.token_key, hash: row.token_hash },
            previous_token: previous.zip(row.previous_token_until),
            client_certificates: row.client_certificates,
            quota: (row.bytes_per_second, row.burst_bytes),
            environment_quota: (row.intake_bytes_per_second, row.intake_burst_bytes),
            disabled: row.disabled,
        })
    }
}
