//! How long the log stream keeps an environment's blocks.
//!
//! Invariant: what is kept, and what may go, is decided by functions of the database's owner
//! (`0010_retention.sql`): whoever calls them can give up nothing before its time.

use model::{Environment, Id};
use uuid::Uuid;

use crate::{Store, StoreError};

impl Store {
    /// Environments whose horizon has not been looked at for some minutes; those with a limit of bytes are
    /// looked at more often.
    pub async fn environments_to_trim(&self) -> Result<Vec<Id<Environment>>, StoreError> {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "select e.id from environments e left join stream.horizons h on h.environment_id = e.id
             where h.looked_at is null or h.looked_at < now()
                 - case when e.retention_bytes is null then interval '5 minutes'
                     else interval '1 minute' end
             order by h.looked_at nulls first",
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(ids.into_iter().map(Id::from_uuid).collect())
    }

    /// Moves an environment's horizon over some blocks that are not kept any longer; whether there may be
    /// more.
    pub async fn move_horizon(&self, environment: Id<Environment>) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar("select stream.move_horizon($1)")
            .bind(environment.uuid())
            .fetch_one(&self.pool)
            .await?)
    }

    /// Deletes at most so many blocks that the horizon and every drain have passed; answers how many.
    pub async fn delete_passed(
        &self,
        environment: Id<Environment>,
        most: i32,
    ) -> Result<i32, StoreError> {
        Ok(sqlx::query_scalar("select stream.delete_passed($1, $2)")
            .bind(environment.uuid())
            .bind(most)
            .fetch_one(&self.pool)
            .await?)
    }

    /// Drops a day of which all blocks are passed like that; false if there is none.
    pub async fn drop_passed_day(&self) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar("select stream.drop_passed_day()").fetch_one(&self.pool).await?)
    }
}
