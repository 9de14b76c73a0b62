//! Tests of drains, asked by the api and answered by a worker.
//!
//! The answer waits in the table; notifications only say that it is worth looking.

use std::time::Duration;

use model::{Drain, Id, User};
use serde_json::Value;
use sqlx::FromRow;
use sqlx::postgres::PgListener;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{Store, StoreError};

// A notification can be lost with its connection, so the table is looked at as often as this.
const POLL: Duration = Duration::from_secs(1);

/// What a worker answered.
#[derive(Debug, Clone, FromRow)]
pub struct DrainTestAnswer {
    /// Whether the endpoint took the line.
    pub ok: bool,
    /// `[{"step", "ok", "detail", "duration_ms"}]`, in the order in which they were tried.
    pub steps: Value,
}

// The api's half.
impl Store {
    /// Asks for a test of a drain and waits for its answer; None if none came in time. Takes a
    /// connection of the pool for so long.
    pub async fn ask_drain_test(
        &self,
        drain: Id<Drain>,
        user: Id<User>,
        patience: Duration,
    ) -> Result<Option<DrainTestAnswer>, StoreError> {
        let deadline = Instant::now() + patience;
        // Before asking, so that no answer is missed.
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.listen("spillway_drain_test_done").await?;
        let test = Uuid::now_v7();
        let mut transaction = self.pool.begin().await?;
        sqlx::query("insert into drain_tests (id, drain_id, requested_by) values ($1, $2, $3)")
            .bind(test)
            .bind(drain.uuid())
            .bind(user.uuid())
            .execute(&mut *transaction)
            .await?;
        sqlx::query("select pg_notify('spillway_drain_tests', $1)")
            .bind(drain.to_string())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        loop {
            if let Some(answer) = self.drain_test_answer(test).await? {
                return Ok(Some(answer));
            }
            let now = Instant::now();
            if now >= deadline {
                return Ok(None);
            }
            // Another test's notification, a lost one, a failed listener: each means look again.
            let wait = POLL.min(deadline - now);
            if let Ok(Err(_)) = tokio::time::timeout(wait, listener.recv()).await {
                tokio::time::sleep(wait).await;
            }
        }
    }

    async fn drain_test_answer(&self, test: Uuid) -> Result<Option<DrainTestAnswer>, StoreError> {
        Ok(sqlx::query_as(
            "select ok, steps from drain_tests
             where id = $1 and finished_at is not null and ok is not null and steps is not null",
        )
        .bind(test)
        .fetch_optional(&self.pool)
        .await?)
    }
}

// The worker's half.

/// A wish to test a drain that nobody has answered.
#[derive(Debug, Clone, Copy)]
pub struct OpenDrainTest {
    /// The wish's id.
    pub id: Uuid,
    /// The drain.
    pub drain: Id<Drain>,
}

impl Store {
    /// The tests that somebody still waits for.
    pub async fn open_drain_tests(&self) -> Result<Vec<OpenDrainTest>, StoreError> {
        // Older ones were given up: a test line long after would only confuse.
        let rows: Vec<(Uuid, Uuid)> = sqlx::query_as(
            "select id, drain_id from drain_tests
             where finished_at is null and requested_at > now() - interval '10 seconds'",
        )
        .fetch_all(&self.pool)
        .await?;
        let test = |(id, drain)| OpenDrainTest { id, drain: Id::from_uuid(drain) };
        Ok(rows.into_iter().map(test).collect())
    }

    /// Answers a test.
    pub async fn finish_drain_test(
        &self,
        test: Uuid,
        ok: bool,
        steps: &Value,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query(
            "update drain_tests set finished_at = now(), ok = $2, steps = $3
             where id = $1 and finished_at is null",
        )
        .bind(test)
        .bind(ok)
        .bind(steps)
        .execute(&mut *transaction)
        .await?;
        sqlx::query("select pg_notify('spillway_drain_test_done', $1)")
            .bind(test.to_string())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }
}
