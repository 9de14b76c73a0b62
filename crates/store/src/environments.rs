//! Environments, their session policy, and whom they have told of failing drains.

use model::{App, Database, Environment as EnvironmentKind, Handle, Id, Organization, Role, User};
use sqlx::{FromRow, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::accounts::Held;
use crate::activity::{Change, record};
use crate::notices::{self, NoticeChange, NoticeSettings};
use crate::{Store, StoreError};

/// An environment that is not deleted.
#[derive(Debug, Clone, FromRow)]
pub struct Environment {
    /// Its id.
    #[sqlx(try_from = "Uuid")]
    pub id: Id<EnvironmentKind>,
    /// Who owns it.
    #[sqlx(try_from = "Uuid")]
    pub organization_id: Id<Organization>,
    /// Its handle, unique in the organization.
    #[sqlx(try_from = "String")]
    pub handle: Handle,
    /// A session without input and output ends after this.
    pub idle_limit_seconds: i32,
    /// Memory of a session's container.
    pub memory_limit_bytes: i64,
    /// Thousandths of a CPU for a session's container.
    pub cpu_limit_millis: i32,
    /// Processes in a session's container.
    pub pids_limit: i32,
    /// Blocks of the log stream are kept for so long; None: for ever.
    pub retention_seconds: Option<i64>,
    /// Blocks of the log stream are kept as long as there are no more bytes; None: however many.
    pub retention_bytes: Option<i64>,
    /// What all log sources together may send in a second; None: what the intake's settings say.
    pub intake_bytes_per_second: Option<i64>,
    /// What all log sources together may send at once.
    pub intake_burst_bytes: Option<i64>,
    /// What is kept has about so many bytes.
    pub kept_bytes: i64,
    /// Everything that was made until then is not kept any more.
    pub horizon_at: Option<OffsetDateTime>,
    /// Who is told of drains that fail.
    #[sqlx(flatten)]
    pub notices: NoticeSettings,
    /// Raised by each change.
    pub revision: i64,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    pub updated_at: OffsetDateTime,
}

/// What to set; None leaves as is, or takes the table's default for a new one.
#[derive(Debug, Clone, Default)]
pub struct EnvironmentChange {
    /// Its handle.
    pub handle: Option<Handle>,
    /// A session without input and output ends after this.
    pub idle_limit_seconds: Option<i32>,
    /// Memory of a session's container.
    pub memory_limit_bytes: Option<i64>,
    /// Thousandths of a CPU for a session's container.
    pub cpu_limit_millis: Option<i32>,
    /// Processes in a session's container.
    pub pids_limit: Option<i32>,
    /// How long blocks of the log stream are kept; `Some(None)`: for ever.
    pub retention_seconds: Option<Option<i64>>,
    /// Up to how many bytes they are kept; `Some(None)`: however many.
    pub retention_bytes: Option<Option<i64>>,
    /// What all log sources together may send in a second; `Some(None)`: what the intake's settings say.
    pub intake_bytes_per_second: Option<Option<i64>>,
    /// What all log sources together may send at once.
    pub intake_burst_bytes: Option<Option<i64>>,
    /// Who is told of drains that fail.
    pub notices: NoticeChange,
}

/// How a deletion went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone.
    Done,
    /// It had another revision than expected, or was gone already.
    Changed,
    /// It still has apps, databases or log drains.
    NotEmpty,
}

macro_rules! select {
    ($columns:literal, $from:literal) => {
        concat!(
            "select e.*, s.webhook_url, coalesce(s.has_webhook_secret, false) as has_webhook_secret,
                 coalesce(s.emails, '{}') as emails, failed.last_error, failed.last_error_at,
                 coalesce(h.kept_bytes, 0) as kept_bytes, h.passed_at as horizon_at",
            $columns,
            " from environments e left join notice_settings s on s.environment_id = e.id
             left join stream.horizons h on h.environment_id = e.id
             left join lateral (
                 select last_error, last_error_at from notices
                 where environment_id = e.id and last_error_at is not null
                 order by last_error_at desc limit 1
             ) failed on true ",
            $from
        )
    };
}

impl Store {
    /// The user's role in an organization, found by its id or its handle.
    pub async fn organization(
        &self,
        id_or_handle: &str,
        user: Id<User>,
    ) -> Result<Option<(Id<Organization>, Role)>, StoreError> {
        let row: Option<(Uuid, String)> = sqlx::query_as(
            "select o.id, m.role from organizations o
             join memberships m on m.organization_id = o.id and m.user_id = $3
             where case when $1::uuid is null then o.handle = $2 else o.id = $1 end",
        )
        .bind(id_or_handle.parse::<Uuid>().ok())
        .bind(id_or_handle)
        .bind(user.uuid())
        .fetch_optional(&self.pool)
        .await?;
        row.map(|(id, role)| {
            let role = role.parse().map_err(|_| StoreError::Invalid(format!("the role {role}")))?;
            Ok((Id::from_uuid(id), role))
        })
        .transpose()
    }

    /// An environment in one of the user's organizations.
    pub async fn environment(
        &self,
        id: Id<EnvironmentKind>,
        user: Id<User>,
    ) -> Result<Option<Held<Environment>>, StoreError> {
        let row = sqlx::query(select!(
            ", m.role",
            "join memberships m on m.organization_id = e.organization_id and m.user_id = $2
             where e.id = $1 and e.deleted_at is null"
        ))
        .bind(id.uuid())
        .bind(user.uuid())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(Held::from_row).transpose()
    }

    /// Environments of the user's organizations, or of one of them, oldest first.
    pub async fn environments(
        &self,
        user: Id<User>,
        organization: Option<Id<Organization>>,
        handle: Option<&str>,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<Environment>, StoreError> {
        Ok(sqlx::query_as(select!(
            "",
            "join memberships m on m.organization_id = e.organization_id and m.user_id = $1
             where e.deleted_at is null and ($2::uuid is null or e.organization_id = $2)
               and ($3::text is null or e.handle = $3) and ($4::uuid is null or e.id > $4)
             order by e.id limit $5"
        ))
        .bind(user.uuid())
        .bind(organization.map(Id::uuid))
        .bind(handle)
        .bind(after)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Creates an environment with this id, which a secret may be sealed for; the index
    /// `environments_handle` refuses a handle that is taken.
    pub async fn create_environment(
        &self,
        id: Id<EnvironmentKind>,
        organization: Id<Organization>,
        handle: &Handle,
        policy: &EnvironmentChange,
    ) -> Result<Environment, StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("insert into environments (id, organization_id, handle) values ($1, $2, $3)")
            .bind(id.uuid())
            .bind(organization.uuid())
            .bind(handle.as_str())
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "update environments set
                 idle_limit_seconds = coalesce($2, idle_limit_seconds),
                 memory_limit_bytes = coalesce($3, memory_limit_bytes),
                 cpu_limit_millis = coalesce($4, cpu_limit_millis),
                 pids_limit = coalesce($5, pids_limit),
                 retention_seconds = case when $6 then $7 else retention_seconds end,
                 retention_bytes = case when $8 then $9 else retention_bytes end,
                 intake_bytes_per_second = $10, intake_burst_bytes = $11
             where id = $1",
        )
        .bind(id.uuid())
        .bind(policy.idle_limit_seconds)
        .bind(policy.memory_limit_bytes)
        .bind(policy.cpu_limit_millis)
        .bind(policy.pids_limit)
        .bind(policy.retention_seconds.is_some())
        .bind(policy.retention_seconds.flatten())
        .bind(policy.retention_bytes.is_some())
        .bind(policy.retention_bytes.flatten())
        .bind(policy.intake_bytes_per_second.flatten())
        .bind(policy.intake_burst_bytes.flatten())
        .execute(&mut *transaction)
        .await?;
        notices::change(&mut transaction, id.uuid(), &policy.notices).await?;
        let environment = read(&mut transaction, id).await?;
        transaction.commit().await?;
        Ok(environment)
    }

    /// Changes an environment; None if it has another revision than expected, or is gone.
    pub async fn update_environment(
        &self,
        id: Id<EnvironmentKind>,
        expected_revision: Option<i64>,
        change: &EnvironmentChange,
        by: Id<User>,
    ) -> Result<Option<Environment>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let kept: Option<(Option<i64>, Option<i64>)> = sqlx::query_as(
            "select retention_seconds, retention_bytes from environments where id = $1 for update",
        )
        .bind(id.uuid())
        .fetch_optional(&mut *transaction)
        .await?;
        let done = sqlx::query(
            "update environments set
                 handle = coalesce($3, handle),
                 idle_limit_seconds = coalesce($4, idle_limit_seconds),
                 memory_limit_bytes = coalesce($5, memory_limit_bytes),
                 cpu_limit_millis = coalesce($6, cpu_limit_millis),
                 pids_limit = coalesce($7, pids_limit),
                 retention_seconds = case when $8 then $9 else retention_seconds end,
                 retention_bytes = case when $10 then $11 else retention_bytes end,
                 intake_bytes_per_second = case when $12 then $13 else intake_bytes_per_second end,
                 intake_burst_bytes = case when $14 then $15 else intake_burst_bytes end,
                 revision = revision + 1, updated_at = now()
             where id = $1 and deleted_at is null and revision = coalesce($2, revision)",
        )
        .bind(id.uuid())
        .bind(expected_revision)
        .bind(change.handle.as_ref().map(Handle::as_str))
        .bind(change.idle_limit_seconds)
        .bind(change.memory_limit_bytes)
        .bind(change.cpu_limit_millis)
        .bind(change.pids_limit)
        .bind(change.retention_seconds.is_some())
        .bind(change.retention_seconds.flatten())
        .bind(change.retention_bytes.is_some())
        .bind(change.retention_bytes.flatten())
        .bind(change.intake_bytes_per_second.is_some())
        .bind(change.intake_bytes_per_second.flatten())
        .bind(change.intake_burst_bytes.is_some())
        .bind(change.intake_burst_bytes.flatten())
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(None);
        }
        notices::change(&mut transaction, id.uuid(), &change.notices).await?;
        let environment = read(&mut transaction, id).await?;
        let keeps = (environment.retention_seconds, environment.retention_bytes);
        if let Some(kept) = kept.filter(|kept| *kept != keeps) {
            let detail = format!("{} instead of {}", retention(keeps), retention(kept));
            let change = Change {
                environment: id,
                kind: "environment",
                thing: id.uuid(),
                handle: environment.handle.as_str(),
                action: "environment.retention_changed",
                detail,
                user: by,
            };
            record(&mut transaction, &change).await?;
        }
        transaction.commit().await?;
        Ok(Some(environment))
    }

    /// Deletes an environment that has nothing in it.
    pub async fn delete_environment(
        &self,
        id: Id<EnvironmentKind>,
        expected_revision: Option<i64>,
    ) -> Result<Deletion, StoreError> {
        let mut transaction = self.pool.begin().await?;
        // What is created in an environment holds a share lock on its row until it is visible.
        let found = sqlx::query(
            "select 1 from environments
             where id = $1 and deleted_at is null and revision = coalesce($2, revision) for update",
        )
        .bind(id.uuid())
        .bind(expected_revision)
        .fetch_optional(&mut *transaction)
        .await?;
        if found.is_none() {
            return Ok(Deletion::Changed);
        }
        let occupied: bool = sqlx::query_scalar(
            "select exists (select 1 from apps where environment_id = $1 and deleted_at is null)
                 or exists (select 1 from databases where environment_id = $1 and deleted_at is null)
                 or exists (select 1 from log_drains where environment_id = $1)",
        )
        .bind(id.uuid())
        .fetch_one(&mut *transaction)
        .await?;
        if occupied {
            return Ok(Deletion::NotEmpty);
        }
        sqlx::query(
            "update environments set deleted_at = now(), updated_at = now(), revision = revision + 1
             where id = $1",
        )
        .bind(id.uuid())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Deletion::Done)
    }
}

/// How long records are kept, in words.
fn retention((seconds, bytes): (Option<i64>, Option<i64>)) -> String {
    let seconds = seconds.map_or("for ever".to_owned(), |seconds| format!("{seconds} s"));
    let bytes = bytes.map(|bytes| format!(" and at most {bytes} bytes"));
    seconds + bytes.as_deref().unwrap_or_default()
}

async fn read(
    connection: &mut PgConnection,
    id: Id<EnvironmentKind>,
) -> Result<Environment, StoreError> {
    let environment = sqlx::query_as(select!("", "where e.id = $1")).bind(id.uuid());
    Ok(environment.fetch_one(connection).await?)
}

/// Which of what was named is not an environment's.
#[derive(Debug, Clone, Copy, FromRow)]
pub struct Foreign {
    /// Some app.
    pub apps: bool,
    /// Some database.
    pub databases: bool,
}

impl Store {
    /// Tells whether some of these apps and databases are not the environment's, and never were.
    pub async fn foreign_to(
        &self,
        environment: Id<EnvironmentKind>,
        apps: &[Id<App>],
        databases: &[Id<Database>],
    ) -> Result<Foreign, StoreError> {
        let apps: Vec<Uuid> = apps.iter().map(|id| id.uuid()).collect();
        let databases: Vec<Uuid> = databases.iter().map(|id| id.uuid()).collect();
        Ok(sqlx::query_as(
            "select exists (select from unnest($2) as named (id) where not exists
                     (select from apps a where a.id = named.id and a.environment_id = $1)) as apps,
                 exists (select from unnest($3) as named (id) where not exists
                     (select from databases d where d.id = named.id and d.environment_id = $1))
                     as databases",
        )
        .bind(environment.uuid())
        .bind(apps)
        .bind(databases)
        .fetch_one(&self.pool)
        .await?)
    }
}
