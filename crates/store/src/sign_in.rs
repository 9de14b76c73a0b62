//! Who a key signs in, and what an engineer may reach.
//!
//! Invariant: nothing of an organization is found for a user who is not its member.

use std::time::Duration;

use model::{
    App, AppTag, Environment, EnvironmentTag, EphemeralSession, Handle, Id, Organization, Role,
    SshKey, User,
};
use sqlx::postgres::PgRow;
use sqlx::{Row as _, error::BoxDynError};
use uuid::Uuid;

use crate::{Store, StoreError};

/// A user as records name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engineer {
    /// The user's id.
    pub id: Id<User>,
    /// The user's e-mail address.
    pub email: String,
    /// The user's name.
    pub name: String,
}

/// What a user name like `app.environment` or `app.environment.organization` means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The app's handle.
    pub app: Handle,
    /// The environment's handle.
    pub environment: Handle,
    /// The organization's handle, needed when the other two are not enough.
    pub organization: Option<Handle>,
}

/// What a session in this environment may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A session without input and output ends after this time.
    pub idle: Duration,
    /// Memory of a session's container, in bytes.
    pub memory_bytes: i64,
    /// CPU time of a session's container, in thousandths of a CPU.
    pub cpu_millis: i32,
    /// Processes and threads in a session's container.
    pub pids: i32,
}

/// An app that a user can see, and the user's role there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The organization.
    pub organization: Id<Organization>,
    /// The environment.
    pub environment: EnvironmentTag,
    /// The app.
    pub app: AppTag,
    /// The app's image.
    pub image: String,
    /// The environment's limits.
    pub limits: Limits,
    /// What the user may do there.
    pub role: Role,
}

const DESTINATION: &str = "select o.id as organization_id, e.id as environment_id,
        e.handle as environment_handle, e.idle_limit_seconds, e.memory_limit_bytes,
        e.cpu_limit_millis, e.pids_limit, a.id as app_id, a.handle as app_handle, a.image, m.role
    from memberships m
    join users u on u.id = m.user_id and u.disabled_at is null
    join organizations o on o.id = m.organization_id
    join environments e on e.organization_id = o.id and e.deleted_at is null
    join apps a on a.environment_id = e.id and a.deleted_at is null";

impl Store {
    /// The user who registered the key with this fingerprint (`SHA256:...`), unless disabled.
    pub async fn owner_of_ssh_key(
        &self,
        fingerprint: &str,
    ) -> Result<Option<(Id<SshKey>, Engineer)>, StoreError> {
        let row = sqlx::query(
            "select k.id as key_id, u.id, u.email, u.name
             from ssh_keys k join users u on u.id = k.user_id and u.disabled_at is null
             where k.fingerprint = $1",
        )
        .bind(fingerprint)
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let key: Uuid = row.try_get("key_id")?;
        Ok(Some((Id::from_uuid(key), engineer(&row)?)))
    }

    /// Writes down that a key has signed in.
    pub async fn ssh_key_used(&self, key: Id<SshKey>) -> Result<(), StoreError> {
        sqlx::query("update ssh_keys set last_used_at = now() where id = $1")
            .bind(key.uuid())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The apps that a target can mean for a user: none, one, or several in different organizations.
    pub async fn destinations(
        &self,
        user: Id<User>,
        target: &Target,
    ) -> Result<Vec<Destination>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "{DESTINATION} where m.user_id = $1 and a.handle = $2 and e.handle = $3
                 and ($4::text is null or o.handle = $4) limit 2"
        )))
        .bind(user.uuid())
        .bind(target.app.as_str())
        .bind(target.environment.as_str())
        .bind(target.organization.as_ref().map(Handle::as_str))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(destination).collect()
    }

    /// Whose session this is and where it leads, as things are now; `None` if the user, the
    /// membership, the environment or the app is gone.
    pub async fn destination_of_session(
        &self,
        session: Id<EphemeralSession>,
    ) -> Result<Option<(Engineer, Destination)>, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "select d.*, u.id, u.email, u.name
             from ephemeral_sessions s
             join users u on u.id = s.user_id
             join lateral ({DESTINATION} where m.user_id = s.user_id and a.id = s.app_id) d on true
             where s.id = $1"
        )))
        .bind(session.uuid())
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some((engineer(&row)?, destination(&row)?)))
    }

    /// An app's variables: names and sealed values.
    pub async fn app_variables(&self, app: Id<App>) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let variables = sqlx::query_as(
            "select name, sealed_value from app_variables where app_id = $1 order by name",
        )
        .bind(app.uuid())
        .fetch_all(&self.pool)
        .await?;
        Ok(variables)
    }
}

fn engineer(row: &PgRow) -> Result<Engineer, StoreError> {
    let id: Uuid = row.try_get("id")?;
    Ok(Engineer { id: Id::from_uuid(id), email: row.try_get("email")?, name: row.try_get("name")? })
}

fn destination(row: &PgRow) -> Result<Destination, StoreError> {
    let organization = Id::<Organization>::from_uuid(row.try_get("organization_id")?);
    let environment = Id::<Environment>::from_uuid(row.try_get("environment_id")?);
    let app = Id::<App>::from_uuid(row.try_get("app_id")?);
    let idle: i32 = row.try_get("idle_limit_seconds")?;
    let role: String = row.try_get("role")?;
    Ok(Destination {
        organization,
        environment: EnvironmentTag {
            id: environment,
            handle: handle(row, "environment_handle")?,
            organization,
        },
        app: AppTag { id: app, handle: handle(row, "app_handle")? },
        image: row.try_get("image")?,
        limits: Limits {
            idle: Duration::from_secs(idle.unsigned_abs().into()),
            memory_bytes: row.try_get("memory_limit_bytes")?,
            cpu_millis: row.try_get("cpu_limit_millis")?,
            pids: row.try_get("pids_limit")?,
        },
        role: role.parse().map_err(invalid)?,
    })
}

pub(crate) fn handle(row: &PgRow, column: &str) -> Result<Handle, StoreError> {
    let text: String = row.try_get(column)?;
    text.parse().map_err(invalid)
}

fn invalid(error: impl Into<BoxDynError>) -> StoreError {
    StoreError::Invalid(error.into().to_string())
}
