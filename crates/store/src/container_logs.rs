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
    /// Who was to append it.
    pub appender: Id<Appender>,
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
    earlier_appender: Option<Uuid>,
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

    /// Makes `appender` the one who may write down how far a container's log is taken. A container that is not
    /// known yet begins with this producer and position.
    pub async fn claim_container_log(
        &self,
        container: &str,
        daemon: &str,
        environment: Id<Environment>,
        appender: Id<Appender>,
        producer: Id<Producer>,
        start: &Value,
    ) -> Result<ContainerClaim, StoreError> {
        let row: ClaimRow = sqlx::query_as(
            "with earlier as (
                 select container_id, appender_id from container_logs where container_id = $1
                 for update
             )
             insert into container_logs as l
                 (container_id, daemon, environment_id, producer_id, appender_id, position)
             values ($1, $2, $3, $4, $5, $6)
             on conflict (container_id) do update set daemon = excluded.daemon,
                 environment_id = excluded.environment_id, appender_id = excluded.appender_id,
                 updated_at = now()
             returning l.producer_id, l.position, l.pending_block, l.pending,
                 (select appender_id from earlier) as earlier_appender",
        )
        .bind(container)
        .bind(daemon)
        .bind(environment.uuid())
        .bind(producer.uuid())
        .bind(appender.uuid())
        .bind(start)
        .fetch_one(&self.pool)
        .await?;
        let earlier = row.earlier_appender.map_or(appender, Id::from_uuid);
        let pending = row.pending_block.zip(row.pending);
        Ok(ContainerClaim {
            producer: Id::from_uuid(row.producer_id),
            position: row.position,
            pending: pending.map(|(id, position)| PendingBlock { id, position, appender: earlier }),
        })
    }

    /// Writes down how far a container's log is in the stream, and what is appended next, if something is. False
    /// if somebody else has claimed it, or it is forgotten.
    pub async fn advance_container_log(
        &self,
        container: &str,
        appender: Id<Appender>,
        position: &Value,
        pending: Option<(Uuid, &Value)>,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "update container_logs set position = $3, pending_block = $4, pending = $5,
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
        Ok(done.rows_affected() == 1)
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

    /// Forgets the containers of a daemon that are none of these and were not written about for so long.
    pub async fn forget_container_logs(
        &self,
        daemon: &str,
        present: &[String],
        unchanged_for: Duration,
    ) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "delete from container_logs where daemon = $1 and container_id <> all ($2)
                 and updated_at < now() - make_interval(secs => $3)",
        )
        .bind(daemon)
        .bind(present)
        .bind(unchanged_for.as_secs_f64())
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
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
