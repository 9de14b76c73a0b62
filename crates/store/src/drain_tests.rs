//! Tests of drains, and of configurations that are not kept yet, asked by the api and answered by a worker.
//!
//! The answer waits in the table; notifications only say that it is worth looking.

use std::time::Duration;

use model::{Drain, Environment, Id, User};
use serde_json::{Value, json};
use sqlx::postgres::PgListener;
use sqlx::{FromRow, Row as _};
use tokio::time::Instant;
use uuid::Uuid;

use crate::leases::WorkableDrain;
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

/// What to test.
#[derive(Debug, Clone)]
pub enum DrainToTest {
    /// A drain.
    Drain(Id<Drain>),
    /// A configuration that is not kept.
    Configuration(Box<DrainConfiguration>),
}

/// A configuration of a drain.
#[derive(Debug, Clone)]
pub struct DrainConfiguration {
    /// Whose drain it would be.
    pub environment: Id<Environment>,
    /// The drain whose it would be, if that is there already, and the revision of it that was looked at.
    pub drain: Option<(Id<Drain>, i64)>,
    /// Its kind.
    pub kind: &'static str,
    /// Its handle, destination and options: `{"handle", "destination", "options"}`.
    pub settings: Value,
    /// Credentials that are sealed to the test's id; None is for those of the drain, if there is one and it
    /// still has that revision: others may not be for this destination.
    pub sealed_credentials: Option<Vec<u8>>,
}

// The api's half.
impl Store {
    /// Asks for a test and waits for its answer; None if none came in time. Takes a connection of the pool
    /// for so long.
    pub async fn ask_drain_test(
        &self,
        test: Uuid,
        subject: DrainToTest,
        user: Id<User>,
        patience: Duration,
    ) -> Result<Option<DrainTestAnswer>, StoreError> {
        let deadline = Instant::now() + patience;
        // Before asking, so that no answer is missed.
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.listen("spillway_drain_test_done").await?;
        let (drain, configuration) = match subject {
            DrainToTest::Drain(drain) => (Some(drain), None),
            DrainToTest::Configuration(it) => (it.drain.map(|(drain, _)| drain), Some(it)),
        };
        let configuration = configuration.as_ref();
        let settings = configuration.map(|it| {
            let revision = it.drain.map(|(_, revision)| revision);
            json!({ "kind": it.kind, "settings": it.settings, "revision": revision })
        });
        let mut transaction = self.pool.begin().await?;
        sqlx::query(
            "insert into drain_tests (id, drain_id, requested_by, environment_id, configuration,
                 sealed_credentials)
             values ($1, $2, $3, $4, $5, $6)",
        )
        .bind(test)
        .bind(drain.map(Id::uuid))
        .bind(user.uuid())
        .bind(configuration.map(|it| it.environment.uuid()))
        .bind(settings)
        .bind(configuration.and_then(|it| it.sealed_credentials.as_ref()))
        .execute(&mut *transaction)
        .await?;
        sqlx::query("select pg_notify('spillway_drain_tests', $1)")
            .bind(test.to_string())
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
             where finished_at is null and configuration is null and drain_id is not null
                 and requested_at > now() - interval '10 seconds'",
        )
        .fetch_all(&self.pool)
        .await?;
        let test = |(id, drain)| OpenDrainTest { id, drain: Id::from_uuid(drain) };
        Ok(rows.into_iter().map(test).collect())
    }

    /// Takes the tests of configurations that nobody has taken: each with a drain as it would be, whose id
    /// is the one that its credentials are sealed to.
    pub async fn claim_configuration_tests(
        &self,
    ) -> Result<Vec<(Uuid, WorkableDrain)>, StoreError> {
        let rows = sqlx::query(
            "with claimed as (
                 update drain_tests set claimed_at = now() where id in (
                     select id from drain_tests
                     where finished_at is null and configuration is not null and claimed_at is null
                         and requested_at > now() - interval '10 seconds'
                     for update skip locked)
                 returning id, drain_id, environment_id, configuration, sealed_credentials
             )
             select t.id as test,
                 case when t.sealed_credentials is null and d.id is not null then d.id else t.id end
                     as id,
                 e.id as environment_id, e.handle as environment_handle, e.organization_id,
                 t.configuration -> 'settings' ->> 'handle' as handle,
                 t.configuration ->> 'kind' as kind,
                 t.configuration -> 'settings' -> 'destination' as destination,
                 coalesce(t.sealed_credentials, d.sealed_credentials) as sealed_credentials,
                 'strip' as control_sequences, 'keep' as redraws,
                 t.configuration -> 'settings' -> 'options' as options, 0::bigint as revision
             from claimed t join environments e on e.id = t.environment_id
                 left join log_drains d on d.id = t.drain_id
                     and d.revision = (t.configuration ->> 'revision')::bigint",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| Ok((row.try_get("test")?, WorkableDrain::from_row(row)?)))
            .collect::<Result<_, sqlx::Error>>()
            .map_err(StoreError::from)
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
            "update drain_tests
             set finished_at = now(), ok = $2, steps = $3, sealed_credentials = null
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
