//! SSH edge processes and their heartbeats.

use std::time::Duration;

use model::{Edge, Id};
use uuid::Uuid;

use crate::{Store, StoreError};

/// An edge that has not been seen for this long is dead, and its sessions are for others to close.
pub const DEAD_AFTER: Duration = Duration::from_secs(20);

impl Store {
    /// Writes down that an edge has started. An edge keeps its id over its lives.
    pub async fn register_edge(
        &self,
        id: Id<Edge>,
        name: &str,
        address: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "insert into edges (id, name, address) values ($1, $2, $3)
             on conflict (id) do update set name = excluded.name, address = excluded.address,
                 started_at = now(), seen_at = now(), stopped_at = null",
        )
        .bind(id.uuid())
        .bind(name)
        .bind(address)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Writes down that an edge lives.
    pub async fn beat_edge(&self, id: Id<Edge>) -> Result<(), StoreError> {
        sqlx::query("update edges set seen_at = now() where id = $1")
            .bind(id.uuid())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Writes down that an edge has stopped by its own will.
    pub async fn stop_edge(&self, id: Id<Edge>) -> Result<(), StoreError> {
        sqlx::query("update edges set seen_at = now(), stopped_at = now() where id = $1")
            .bind(id.uuid())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Those of `ids` that are edges of this database and dead. An unknown id may be an edge of
    /// another installation that shares the machine, so it is not called dead.
    pub async fn dead_edges(&self, ids: &[Id<Edge>]) -> Result<Vec<Id<Edge>>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
        let dead = sqlx::query_scalar(
            "select id from edges
             where id = any($1) and seen_at < now() - make_interval(secs => $2)",
        )
        .bind(ids)
        .bind(DEAD_AFTER.as_secs_f64())
        .fetch_all(&self.pool)
        .await?;
        Ok(dead.into_iter().map(Id::from_uuid).collect())
    }
}
