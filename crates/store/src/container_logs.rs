//! Containers whose logs an intake follows: what their labels name, and how far it has got.

use std::time::Duration;

use model::{
    App, AppTag, Appender, Database, DatabaseTag, Environment, EnvironmentTag, Handle, Id,
    Organization, Producer,
};
use serde_json::Value;
use sqlx::FromRow;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::intake::{IntakeSource, TokenHash};
use crate::{Store, StoreError};

/// What a container's labels say: handles, or ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerNames {
    /// Of the organization, where it is said.
    pub organization: Option<String>,
    /// Of the environment.
    pub environment: String,
    /// Of the app; or else there is a database.
    pub app: Option<String>,
    /// Of the database.
    pub database: Option<String>,
}

/// How far somebody has got in a container's log, as it was claimed.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerClaim {
    /// Who numbers its records.
    pub producer: Id<Producer>,
    /// Up to where it is in the stream for certain.
    pub position: Value,
    /// What may be in the stream beyond that.
    pub pending: Option<PendingBlock>,
}

/// A block that its writer was about to append.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingBlock {
    /// Its id.
    pub id: Uuid,
    /// The position after it.
    pub position: Value,
    /// Who was to append it: not only who claimed the container last.
    pub appender: Id<Appender>,
}

/// What became of writing down how far a container's log is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advance {
    /// It is written down.
    Done,
    /// Somebody else has claimed the container.
    Claimed,
    /// The container is forgotten.
    Forgotten,
}

#[derive(FromRow)]
struct SubjectRow {
    environment_id: Uuid,
    #[sqlx(try_from = "String")]
    environment_handle: Handle,
    organization_id: Uuid,
    intake_bytes_per_second: Option<i64>,
    intake_burst_bytes: Option<i64>,
    app_id: Option<Uuid>,
    app_handle: Option<String>,
    database_id: Option<Uuid>,
    database_handle: Option<String>,
    engine: Option<String>,
}

#[derive(FromRow)]
struct ClaimRow {
    producer_id: Uuid,
    position: Value,
    pending_block: Option<Uuid>,
    pending: Option<Value>,
    pending_appender: Option<Uuid>,
}

impl Store {
    /// What a container's labels name, as a log source of its own without quotas; at most two, so that the
    /// caller sees whether it is one.
    pub async fn container_sources(
        &self,
        names: &ContainerNames,
    ) -> Result<Vec<IntakeSource>, StoreError> {
        let rows: Vec<SubjectRow> = sqlx::query_as(
            "select e.id as environment_id, e.handle as environment_handle, e.organization_id,
                 e.intake_bytes_per_second, e.intake_burst_bytes, a.id as app_id,
                 a.handle as app_handle, d.id as database_id, d.handle as database_handle, d.engine
             from environments e
             join organizations o on o.id = e.organization_id
             left join apps a on a.environment_id = e.id and a.deleted_at is null
                 and $3 in (a.handle, a.id::text)
             left join databases d on d.environment_id = e.id and d.deleted_at is null
                 and $4 in (d.handle, d.id::text)
             where e.deleted_at is null and $2 in (e.handle, e.id::text)
                 and ($1 is null or $1 in (o.handle, o.id::text))
                 and num_nonnulls(a.id, d.id) = 1
             limit 2",
        )
        .bind(&names.organization)
        .bind(&names.environment)
        .bind(&names.app)
        .bind(&names.database)
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(IntakeSource::try_from).collect()
    }

    /// Makes `appender` the one that follows a daemon's containers, or says that it still is. False if another
    /// is, and has said so within `unseen_for`.
    pub async fn hold_docker_daemon(
        &self,
        daemon: &str,
        appender: Id<Appender>,
        unseen_for: Duration,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "insert into docker_followers as f (daemon, appender_id) values ($1, $2)
             on conflict (daemon) do update set appender_id = excluded.appender_id, seen_at = now()
                 where f.appender_id = excluded.appender_id
                     or f.seen_at <= now() - make_interval(secs => $3)",
        )
        .bind(daemon)
        .bind(appender.uuid())
        .bind(unseen_for.as_secs_f64())
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Leaves a daemon's containers to whoever else wants to follow them.
    pub async fn release_docker_daemon(
        &self,
        daemon: &str,
        appender: Id<Appender>,
    ) -> Result<(), StoreError> {
        sqlx::query("delete from docker_followers where daemon = $1 and appender_id = $2")
            .bind(daemon)
            .bind(appender.uuid())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Makes `appender` the one who may write down how far a container's log is taken; None if it is not the one
    /// that follows the daemon's containers. A container that is not known yet begins with this producer and
    /// position.
    pub async fn claim_container_log(
        &self,
        container: &str,
        daemon: &str,
        environment: Id<Environment>,
        appender: Id<Appender>,
        producer: Id<Producer>,
        start: &Value,
    ) -> Result<Option<ContainerClaim>, StoreError> {
        let row: Option<ClaimRow> = sqlx::query_as(
            // Nobody becomes the daemon's follower in between, to whom this would be a loss.
            "with held as (
                 select from docker_followers where daemon = $2 and appender_id = $5 for share
             )
             insert into container_logs as l
                 (container_id, daemon, environment_id, producer_id, appender_id, position)
             select $1, $2, $3, $4, $5, $6 from held
             on conflict (container_id) do update set daemon = excluded.daemon,
                 environment_id = excluded.environment_id, appender_id = excluded.appender_id,
                 updated_at = now()
             returning l.producer_id, l.position, l.pending_block, l.pending, l.pending_appender",
        )
        .bind(container)
        .bind(daemon)
        .bind(environment.uuid())
        .bind(producer.uuid())
        .bind(appender.uuid())
        .bind(start)
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(ContainerClaim::from))
    }

    /// Writes down how far a container's log is in the stream, and what `appender` appends next, if something is.
    pub async fn advance_container_log(
        &self,
        container: &str,
        appender: Id<Appender>,
        position: &Value,
        pending: Option<(Uuid, &Value)>,
    ) -> Result<Advance, StoreError> {
        let done = sqlx::query(
            "update container_logs set position = $3, pending_block = $4, pending = $5,
                 pending_appender = case when $4 is not null then appender_id end,
                 updated_at = now()
             where container_id = $1 and appender_id = $2",
        )
        .bind(container)
        .bind(appender.uuid())
        .bind(position)
        .bind(pending.map(|(id, _)| id))
        .bind(pending.map(|(_, position)| position))
        .execute(&self.pool)
        .await?;
        if done.rows_affected() == 1 {
            return Ok(Advance::Done);
        }
        let known = sqlx::query_scalar(
            "select exists (select from container_logs where container_id = $1)",
        );
        let is_known = known.bind(container).fetch_one(&self.pool).await?;
        Ok(if is_known { Advance::Claimed } else { Advance::Forgotten })
    }

    /// Whether the stream has a block, of which only the id is known.
    pub async fn has_block(&self, id: Uuid) -> Result<bool, StoreError> {
        let Some((seconds, nanos)) = id.get_timestamp().map(|at| at.to_unix()) else {
            return Err(StoreError::Invalid(format!("the block id {id}")));
        };
        let made_at = i64::try_from(seconds).ok();
        let made_at = made_at.and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
        let made_at = made_at.unwrap_or(OffsetDateTime::UNIX_EPOCH) + Duration::new(0, nanos);
        let found = sqlx::query_scalar(
            "select exists (select id from stream.blocks where made_at = $1 and id = $2)",
        );
        Ok(found.bind(made_at).bind(id).fetch_one(&self.pool).await?)
    }

    /// Forgets the containers of a daemon that are none of these and were not written about for so long: if it is
    /// `appender` that follows them.
    pub async fn forget_container_logs(
        &self,
        daemon: &str,
        appender: Id<Appender>,
        kept: &[String],
        unchanged_for: Duration,
    ) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "delete from container_logs where daemon = $1 and container_id <> all ($3)
                 and updated_at < now() - make_interval(secs => $4)
                 and exists (
                     select from docker_followers where daemon = $1 and appender_id = $2
                 )",
        )
        .bind(daemon)
        .bind(appender.uuid())
        .bind(kept)
        .bind(unchanged_for.as_secs_f64())
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}

impl From<ClaimRow> for ContainerClaim {
    fn from(row: ClaimRow) -> Self {
        let pending = row.pending_block.zip(row.pending).zip(row.pending_appender);
        Self {
            producer: Id::from_uuid(row.producer_id),
            position: row.position,
            pending: pending.map(|((id, position), appender)| PendingBlock {
                id,
                position,
                appender: Id::from_uuid(appender),
            }),
        }
    }
}

impl TryFrom<SubjectRow> for IntakeSource {
    type Error = StoreError;

    fn try_from(row: SubjectRow) -> Result<Self, StoreError> {
        let handle = |handle: Option<String>| {
            let handle = handle.unwrap_or_default();
            Handle::try_from(handle.clone())
                .map_err(|_| StoreError::Invalid(format!("the handle {handle}")))
        };
        // What is of one app or one database shares a quota.
        let id = row.app_id.or(row.database_id).unwrap_or_default();
        let app = match row.app_id {
            None => None,
            Some(id) => {
                Some(AppTag { id: Id::<App>::from_uuid(id), handle: handle(row.app_handle)? })
            }
        };
        let database = match row.database_id {
            None => None,
            Some(id) => Some(DatabaseTag {
                id: Id::<Database>::from_uuid(id),
                handle: handle(row.database_handle)?,
            }),
        };
        Ok(Self {
            id: Id::from_uuid(id),
            handle: "docker".to_owned(),
            environment: EnvironmentTag {
                id: Id::from_uuid(row.environment_id),
                handle: row.environment_handle,
                organization: Id::<Organization>::from_uuid(row.organization_id),
            },
            app,
            database,
            engine: row.engine,
            // No text has these as its key and hash.
            token: TokenHash { key: String::new(), hash: Vec::new() },
            previous_token: None,
            client_certificates: Vec::new(),
            quota: (None, None),
            environment_quota: (row.intake_bytes_per_second, row.intake_burst_bytes),
            disabled: false,
        })
    }
}
