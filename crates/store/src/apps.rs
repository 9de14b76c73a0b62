//! Apps and their sealed variables.
//!
//! Invariant: a variable's value goes in sealed and is never read here.

use model::{App as AppKind, Environment, Handle, Id, User};
use sqlx::FromRow;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::accounts::Held;
use crate::log_sources::{self, Subject};
use crate::{Store, StoreError};

/// An app that is not deleted.
#[derive(Debug, Clone, FromRow)]
pub struct App {
    /// Its id.
    #[sqlx(try_from = "Uuid")]
    pub id: Id<AppKind>,
    /// Where it runs.
    #[sqlx(try_from = "Uuid")]
    pub environment_id: Id<Environment>,
    /// Its handle, unique in the environment.
    #[sqlx(try_from = "String")]
    pub handle: Handle,
    /// The container image, as its runtime names it.
    pub image: String,
    /// The command of a session without one; None takes the edge's default shell.
    pub command: Option<Vec<String>>,
    /// Raised by each change, also of variables.
    pub revision: i64,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    pub updated_at: OffsetDateTime,
}

/// A variable's name.
#[derive(Debug, Clone, FromRow)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// When its value was last set.
    pub updated_at: OffsetDateTime,
}

/// What to set; None leaves as is.
#[derive(Debug, Clone, Default)]
pub struct AppChange {
    /// Its handle.
    pub handle: Option<Handle>,
    /// The container image.
    pub image: Option<String>,
    /// The command; `Some(None)` takes it away.
    pub command: Option<Option<Vec<String>>>,
}

/// How a change of variables went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VariablesChange {
    /// Done; the app's new revision.
    Done(i64),
    /// The app had another revision than expected, or is gone.
    Changed,
    /// The app would have more variables than allowed.
    TooMany,
}

impl Store {
    /// An app in one of the user's organizations.
    pub async fn app(
        &self,
        id: Id<AppKind>,
        user: Id<User>,
    ) -> Result<Option<Held<App>>, StoreError> {
        let row = sqlx::query(
            "select a.*, m.role from apps a
             join environments e on e.id = a.environment_id and e.deleted_at is null
             join memberships m on m.organization_id = e.organization_id and m.user_id = $2
             where a.id = $1 and a.deleted_at is null",
        )
        .bind(id.uuid())
        .bind(user.uuid())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(Held::from_row).transpose()
    }

    /// Apps of an environment, oldest first.
    pub async fn apps(
        &self,
        environment: Id<Environment>,
        handle: Option<&str>,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<App>, StoreError> {
        Ok(sqlx::query_as(
            "select * from apps where environment_id = $1 and deleted_at is null
               and ($2::text is null or handle = $2) and ($3::uuid is null or id > $3)
             order by id limit $4",
        )
        .bind(environment.uuid())
        .bind(handle)
        .bind(after)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Creates an app; None if the environment is gone. The index `apps_handle` refuses a handle
    /// that is taken.
    pub async fn create_app(
        &self,
        environment: Id<Environment>,
        handle: &Handle,
        image: &str,
        command: Option<&[String]>,
    ) -> Result<Option<App>, StoreError> {
        Ok(sqlx::query_as(
            "insert into apps (id, environment_id, handle, image, command)
             select $1, e.id, $3, $4, $5 from environments e
             where e.id = $2 and e.deleted_at is null for share
             returning *",
        )
        .bind(Uuid::now_v7())
        .bind(environment.uuid())
        .bind(handle.as_str())
        .bind(image)
        .bind(command)
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Changes an app; None if it has another revision than expected, or is gone.
    pub async fn update_app(
        &self,
        id: Id<AppKind>,
        expected_revision: Option<i64>,
        change: &AppChange,
    ) -> Result<Option<App>, StoreError> {
        Ok(sqlx::query_as(
            "update apps set handle = coalesce($3, handle), image = coalesce($4, image),
                 command = case when $5 then $6 else command end,
                 revision = revision + 1, updated_at = now()
             where id = $1 and deleted_at is null and revision = coalesce($2, revision)
             returning *",
        )
        .bind(id.uuid())
        .bind(expected_revision)
        .bind(change.handle.as_ref().map(Handle::as_str))
        .bind(change.image.as_deref())
        .bind(change.command.is_some())
        .bind(change.command.as_ref().and_then(Option::as_deref))
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Deletes an app, its variables and its log sources; false if it has another revision than expected, or
    /// is gone.
    pub async fn delete_app(
        &self,
        id: Id<AppKind>,
        expected_revision: Option<i64>,
        by: Id<User>,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let done = sqlx::query(
            "update apps set deleted_at = now(), updated_at = now(), revision = revision + 1
             where id = $1 and deleted_at is null and revision = coalesce($2, revision)",
        )
        .bind(id.uuid())
        .bind(expected_revision)
        .execute(&mut *transaction)
        .await?;
        sqlx::query("delete from app_variables where app_id = $1")
            .bind(id.uuid())
            .execute(&mut *transaction)
            .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        log_sources::delete_with(&mut transaction, Subject::App(id), by).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// The names of an app's variables, in their order.
    pub async fn variables(&self, app: Id<AppKind>) -> Result<Vec<Variable>, StoreError> {
        Ok(sqlx::query_as(
            "select name, updated_at from app_variables where app_id = $1 order by name",
        )
        .bind(app.uuid())
        .fetch_all(&self.pool)
        .await?)
    }

    /// Sets variables to sealed values and removes others, all or nothing.
    pub async fn change_variables(
        &self,
        app: Id<AppKind>,
        expected_revision: Option<i64>,
        set: &[(String, Vec<u8>)],
        removed: &[String],
        limit: i64,
    ) -> Result<VariablesChange, StoreError> {
        let mut transaction = self.pool.begin().await?;
        // First, for its lock: changes of one app's variables come one after the other.
        let revision: Option<i64> = sqlx::query_scalar(
            "update apps set revision = revision + 1, updated_at = now()
             where id = $1 and deleted_at is null and revision = coalesce($2, revision)
             returning revision",
        )
        .bind(app.uuid())
        .bind(expected_revision)
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(revision) = revision else { return Ok(VariablesChange::Changed) };
        sqlx::query("delete from app_variables where app_id = $1 and name = any($2)")
            .bind(app.uuid())
            .bind(removed)
            .execute(&mut *transaction)
            .await?;
        for (name, sealed_value) in set {
            // `excluded.sealed_value` would need the right to read that column.
            sqlx::query(
                "insert into app_variables (app_id, name, sealed_value) values ($1, $2, $3)
                 on conflict (app_id, name) do update set sealed_value = $3, updated_at = now()",
            )
            .bind(app.uuid())
            .bind(name)
            .bind(sealed_value)
            .execute(&mut *transaction)
            .await?;
        }
        let count: i64 = sqlx::query_scalar("select count(*) from app_variables where app_id = $1")
            .bind(app.uuid())
            .fetch_one(&mut *transaction)
            .await?;
        if count > limit {
            return Ok(VariablesChange::TooMany);
        }
        transaction.commit().await?;
        Ok(VariablesChange::Done(revision))
    }
}
