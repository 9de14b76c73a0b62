//! Databases.

use model::{Database as DatabaseKind, Environment, Handle, Id, User};
use sqlx::FromRow;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::accounts::Held;
use crate::log_sources::{self, Subject};
use crate::{Store, StoreError};

/// A database that is not deleted.
#[derive(Debug, Clone, FromRow)]
pub struct Database {
    /// Its id.
    #[sqlx(try_from = "Uuid")]
    pub id: Id<DatabaseKind>,
    /// Where it is.
    #[sqlx(try_from = "Uuid")]
    pub environment_id: Id<Environment>,
    /// Its handle, unique in the environment.
    #[sqlx(try_from = "String")]
    pub handle: Handle,
    /// What kind of database it is.
    pub engine: String,
    /// Raised by each change.
    pub revision: i64,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    pub updated_at: OffsetDateTime,
}

impl Store {
    /// A database in one of the user's organizations.
    pub async fn database(
        &self,
        id: Id<DatabaseKind>,
        user: Id<User>,
    ) -> Result<Option<Held<Database>>, StoreError> {
        let row = sqlx::query(
            "select d.*, m.role from databases d
             join environments e on e.id = d.environment_id and e.deleted_at is null
             join memberships m on m.organization_id = e.organization_id and m.user_id = $2
             where d.id = $1 and d.deleted_at is null",
        )
        .bind(id.uuid())
        .bind(user.uuid())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(Held::from_row).transpose()
    }

    /// Databases of an environment, oldest first.
    pub async fn databases(
        &self,
        environment: Id<Environment>,
        handle: Option<&str>,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<Database>, StoreError> {
        Ok(sqlx::query_as(
            "select * from databases where environment_id = $1 and deleted_at is null
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

    /// Creates a database; None if the environment is gone. The index `databases_handle` refuses a
    /// handle that is taken.
    pub async fn create_database(
        &self,
        environment: Id<Environment>,
        handle: &Handle,
        engine: &str,
    ) -> Result<Option<Database>, StoreError> {
        Ok(sqlx::query_as(
            "insert into databases (id, environment_id, handle, engine)
             select $1, e.id, $3, $4 from environments e
             where e.id = $2 and e.deleted_at is null for share
             returning *",
        )
        .bind(Uuid::now_v7())
        .bind(environment.uuid())
        .bind(handle.as_str())
        .bind(engine)
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Changes a database; None if it has another revision than expected, or is gone.
    pub async fn update_database(
        &self,
        id: Id<DatabaseKind>,
        expected_revision: Option<i64>,
        handle: Option<&Handle>,
        engine: Option<&str>,
    ) -> Result<Option<Database>, StoreError> {
        Ok(sqlx::query_as(
            "update databases set handle = coalesce($3, handle), engine = coalesce($4, engine),
                 revision = revision + 1, updated_at = now()
             where id = $1 and deleted_at is null and revision = coalesce($2, revision)
             returning *",
        )
        .bind(id.uuid())
        .bind(expected_revision)
        .bind(handle.map(Handle::as_str))
        .bind(engine)
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Deletes a database and its log sources; false if it has another revision than expected, or is gone.
    pub async fn delete_database(
        &self,
        id: Id<DatabaseKind>,
        expected_revision: Option<i64>,
        by: Id<User>,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let done = sqlx::query(
            "update databases set deleted_at = now(), updated_at = now(), revision = revision + 1
             where id = $1 and deleted_at is null and revision = coalesce($2, revision)",
        )
        .bind(id.uuid())
        .bind(expected_revision)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        log_sources::delete_with(&mut transaction, Subject::Database(id), by).await?;
        transaction.commit().await?;
        Ok(true)
    }
}
