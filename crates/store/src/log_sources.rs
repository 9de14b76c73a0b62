//! Log sources as the api sees them.
//!
//! Invariant: every change is written down as activity of the user who makes it, in the transaction that makes
//! it. Hashes of tokens go in and are never read here. An intake looks at what was changed by itself.

use model::{App, Database, Environment, Handle, Id, LogSource as LogSourceKind, User};
use sqlx::{FromRow, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::accounts::Held;
use crate::activity::Change;
use crate::intake::TokenHash;
use crate::{Store, StoreError};

mod changes;

pub(crate) use changes::delete_with;

/// A log source that is not deleted, and what has come in.
#[derive(Debug, Clone, FromRow)]
pub struct LogSource {
    /// Its id.
    #[sqlx(try_from = "Uuid")]
    pub id: Id<LogSourceKind>,
    /// Whose stream it writes to.
    #[sqlx(try_from = "Uuid")]
    pub environment_id: Id<Environment>,
    /// Its handle, unique in the environment.
    #[sqlx(try_from = "String")]
    pub handle: Handle,
    /// The app whose lines it writes; or else there is a database.
    pub app_id: Option<Uuid>,
    /// The database whose lines it writes.
    pub database_id: Option<Uuid>,
    /// What its token begins with.
    pub token_key: String,
    /// Until when the token before is good, if there was one.
    pub previous_token_until: Option<OffsetDateTime>,
    /// SHA-256 of client certificates.
    pub client_certificates: Vec<Vec<u8>>,
    /// Its quota; None: what the intake's settings say.
    pub bytes_per_second: Option<i64>,
    /// What it may send at once.
    pub burst_bytes: Option<i64>,
    /// Since when it is disabled, if it is.
    pub disabled_at: Option<OffsetDateTime>,
    /// Raised by each change.
    pub revision: i64,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    pub updated_at: OffsetDateTime,
    /// Lines that are durable.
    pub lines: i64,
    /// Their bytes.
    pub bytes: i64,
    /// Messages and requests that were refused.
    pub refused: i64,
    /// Lines that could not be read as what they were said to be.
    pub malformed: i64,
    /// Datagrams that were dropped.
    pub dropped: i64,
    /// How often a sender had to wait.
    pub throttled: i64,
    /// Lines that a drain of the same environment had delivered.
    pub looped: i64,
    /// When the last line came.
    pub last_line_at: Option<OffsetDateTime>,
    /// When something was last refused.
    pub last_refused_at: Option<OffsetDateTime>,
    /// Why, in words.
    pub last_refusal: Option<String>,
    /// Lines of the last minute.
    pub minute_lines: i64,
    /// Their bytes.
    pub minute_bytes: i64,
    /// Lines of the last hour.
    pub hour_lines: i64,
    /// Their bytes.
    pub hour_bytes: i64,
}

/// Whose lines a source writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// An app's.
    App(Id<App>),
    /// A database's.
    Database(Id<Database>),
}

/// A log source to be created.
#[derive(Debug, Clone)]
pub struct NewLogSource {
    /// Where.
    pub environment_id: Id<Environment>,
    /// Its handle.
    pub handle: Handle,
    /// Whose lines it writes.
    pub subject: Subject,
    /// What is kept of its token.
    pub token: TokenHash,
    /// SHA-256 of client certificates.
    pub client_certificates: Vec<Vec<u8>>,
    /// Its quota.
    pub bytes_per_second: Option<i64>,
    /// What it may send at once.
    pub burst_bytes: Option<i64>,
}

/// What to set; None leaves as is.
#[derive(Debug, Clone, Default)]
pub struct LogSourceChange {
    /// Its handle.
    pub handle: Option<Handle>,
    /// SHA-256 of client certificates, all of them.
    pub client_certificates: Option<Vec<Vec<u8>>>,
    /// Its quota; `Some(None)`: what the intake's settings say.
    pub bytes_per_second: Option<Option<i64>>,
    /// What it may send at once.
    pub burst_bytes: Option<Option<i64>>,
    /// Whether it is disabled.
    pub disabled: Option<bool>,
}

impl LogSource {
    fn changed(&self, action: &'static str, detail: String, user: Id<User>) -> Change<'_> {
        Change {
            environment: self.environment_id,
            kind: "log_source",
            thing: self.id.uuid(),
            handle: self.handle.as_str(),
            action,
            detail,
            user,
        }
    }
}

impl LogSourceChange {
    /// What it sets, by name, apart from whether it is disabled.
    fn fields(&self) -> Vec<&'static str> {
        [
            ("handle", self.handle.is_some()),
            ("client_certificates", self.client_certificates.is_some()),
            ("bytes_per_second", self.bytes_per_second.is_some()),
            ("burst_bytes", self.burst_bytes.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_set)| is_set.then_some(name))
        .collect()
    }
}

// The api may not read hashes of tokens, so no statement here can say `s.*`.
macro_rules! select {
    ($columns:literal, $from:literal) => {
        concat!(
            "select s.id, s.environment_id, s.handle, s.app_id, s.database_id, s.token_key,
                 s.previous_token_until, s.client_certificates, s.bytes_per_second, s.burst_bytes,
                 s.disabled_at, s.revision, s.created_at, s.updated_at,
                 coalesce(c.lines, 0) as lines, coalesce(c.bytes, 0) as bytes,
                 coalesce(c.refused, 0) as refused, coalesce(c.malformed, 0) as malformed,
                 coalesce(c.dropped, 0) as dropped, coalesce(c.throttled, 0) as throttled,
                 coalesce(c.looped, 0) as looped, c.last_line_at, c.last_refused_at,
                 c.last_refusal, rates.*",
            $columns,
            " from log_sources s left join log_source_counts c on c.source_id = s.id
             cross join lateral (
                 -- Of the minute before this one, the part that is not a minute ago.
                 select coalesce(sum(m.lines * share), 0)::bigint as minute_lines,
                     coalesce(sum(m.bytes * share), 0)::bigint as minute_bytes,
                     coalesce(sum(m.lines), 0)::bigint as hour_lines,
                     coalesce(sum(m.bytes), 0)::bigint as hour_bytes
                 from log_source_minutes m, lateral (
                     select greatest(0, least(1, 1
                         - extract(epoch from now() - m.minute - interval '1 minute') / 60)) as share
                 ) as share
                 where m.source_id = s.id and m.minute > now() - interval '1 hour'
             ) rates ",
            $from
        )
    };
}

impl Store {
    /// A source in one of the user's organizations.
    pub async fn log_source(
        &self,
        id: Id<LogSourceKind>,
        user: Id<User>,
    ) -> Result<Option<Held<LogSource>>, StoreError> {
        let row = sqlx::query(select!(
            ", m.role",
            "join environments e on e.id = s.environment_id and e.deleted_at is null
             join memberships m on m.organization_id = e.organization_id and m.user_id = $2
             where s.id = $1 and s.deleted_at is null"
        ))
        .bind(id.uuid())
        .bind(user.uuid())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(Held::from_row).transpose()
    }

    /// Sources of an environment, oldest first.
    pub async fn log_sources(
        &self,
        environment: Id<Environment>,
        handle: Option<&str>,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<LogSource>, StoreError> {
        Ok(sqlx::query_as(select!(
            "",
            "where s.environment_id = $1 and s.deleted_at is null
               and ($2::text is null or s.handle = $2) and ($3::uuid is null or s.id > $3)
             order by s.id limit $4"
        ))
        .bind(environment.uuid())
        .bind(handle)
        .bind(after)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }
}

async fn read(connection: &mut PgConnection, id: Uuid) -> Result<LogSource, StoreError> {
    Ok(sqlx::query_as(select!("", "where s.id = $1")).bind(id).fetch_one(connection).await?)
}
