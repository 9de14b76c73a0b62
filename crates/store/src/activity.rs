//! What users and the platform did, kept until it is in the log stream, and after.
//!
//! Invariant: a row is written in the transaction of what it tells about. It is claimed and marked in
//! transactions of their own, between which it is appended.

use std::time::{Duration, SystemTime};

use model::{Activity, Environment, Handle, Id, Organization, User};
use sqlx::{FromRow, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Store, StoreError};

/// Something that was done.
#[derive(Debug, Clone, FromRow)]
pub struct ActivityRow {
    /// Its id.
    #[sqlx(try_from = "Uuid")]
    pub id: Id<Activity>,
    /// Where.
    #[sqlx(try_from = "Uuid")]
    pub environment_id: Id<Environment>,
    /// When.
    pub at: OffsetDateTime,
    /// By which user; None: by the platform.
    pub actor_id: Option<Uuid>,
    /// The user's e-mail address then, or `platform`.
    pub actor: String,
    /// What, such as `log_drain.failing`.
    pub action: String,
    /// To what kind of thing, such as `log_drain`.
    pub target_kind: String,
    /// To which, by its id.
    pub target_id: Uuid,
    /// The thing's handle then.
    pub target_handle: String,
    /// More about it, in words; may be empty.
    pub detail: String,
}

/// A row that its claimant appends to the stream.
#[derive(Debug, Clone)]
pub struct ClaimedActivity {
    /// The row.
    pub row: ActivityRow,
    /// The environment's handle now.
    pub environment_handle: Handle,
    /// Whose environment it is.
    pub organization_id: Id<Organization>,
    /// The block to append it as.
    pub block_id: Uuid,
}

#[derive(FromRow)]
struct Claimed {
    #[sqlx(flatten)]
    row: ActivityRow,
    #[sqlx(try_from = "String")]
    environment_handle: Handle,
    #[sqlx(try_from = "Uuid")]
    organization_id: Id<Organization>,
    block_id: Uuid,
}

impl From<Claimed> for ClaimedActivity {
    fn from(claimed: Claimed) -> Self {
        let Claimed { row, environment_handle, organization_id, block_id } = claimed;
        Self { row, environment_handle, organization_id, block_id }
    }
}

/// What a user did to a thing.
pub(crate) struct Change<'a> {
    pub(crate) environment: Id<Environment>,
    /// Such as `log_drain`.
    pub(crate) kind: &'static str,
    pub(crate) thing: Uuid,
    pub(crate) handle: &'a str,
    /// Such as `log_drain.created`.
    pub(crate) action: &'static str,
    /// Nothing secret.
    pub(crate) detail: String,
    pub(crate) user: Id<User>,
}

/// Writes down what a user did, in the transaction in which it is done.
pub(crate) async fn record(
    transaction: &mut PgConnection,
    change: &Change<'_>,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into activity (id, block_id, environment_id, actor_id, actor, action, target_kind,
             target_id, target_handle, detail)
         select $1, $1, $2, u.id, u.email, $4, $5, $6, $7, $8 from users u where u.id = $3",
    )
    .bind(Uuid::now_v7())
    .bind(change.environment.uuid())
    .bind(change.user.uuid())
    .bind(change.action)
    .bind(change.kind)
    .bind(change.thing)
    .bind(change.handle)
    .bind(&change.detail)
    .execute(transaction)
    .await?
    .rows_affected()
    .eq(&1)
    .then_some(())
    .ok_or_else(|| StoreError::Invalid(format!("the user {}, who is gone", change.user)))
}

impl Store {
    /// What was done in an environment, newest first, from before the row `before`.
    pub async fn activity(
        &self,
        environment: Id<Environment>,
        before: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<ActivityRow>, StoreError> {
        Ok(sqlx::query_as(
            "select * from activity
             where environment_id = $1 and ($2::uuid is null or id < $2)
             order by id desc limit $3",
        )
        .bind(environment.uuid())
        .bind(before)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Takes rows that are not in the stream yet for so long: of each environment the first, unless
    /// somebody has taken that.
    pub async fn claim_activity(
        &self,
        duration: Duration,
        limit: i64,
    ) -> Result<Vec<ClaimedActivity>, StoreError> {
        let claimed: Vec<Claimed> = sqlx::query_as(
            "with free as materialized (
                 select id from activity a
                 where appended_at is null and claimed_until < now() and not exists (
                     select from activity earlier
                     where earlier.environment_id = a.environment_id
                         and earlier.appended_at is null and earlier.id < a.id)
                 order by id limit $2 for update skip locked
             )
             update activity a set claimed_until = now() + make_interval(secs => $1)
             from free, environments e
             where a.id = free.id and e.id = a.environment_id
             returning a.*, e.handle as environment_handle, e.organization_id",
        )
        .bind(duration.as_secs_f64())
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        Ok(claimed.into_iter().map(ClaimedActivity::from).collect())
    }

    /// Notes that a row is in the stream.
    pub async fn activity_appended(&self, id: Id<Activity>) -> Result<(), StoreError> {
        sqlx::query(
            "update activity set appended_at = now() where id = $1 and appended_at is null",
        )
        .bind(id.uuid())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Gives a row that was claimed another block, for the stream does not take the old one, made at
    /// `made_at`; not if the old one is in the stream after all, or another block was given already.
    pub async fn renew_activity_block(
        &self,
        claimed: &ClaimedActivity,
        made_at: SystemTime,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "update activity set block_id = $3, claimed_until = '-infinity'
             where id = $1 and block_id = $2 and appended_at is null and not exists (
                 select from stream.blocks where made_at = $4 and id = $2)",
        )
        .bind(claimed.row.id.uuid())
        .bind(claimed.block_id)
        .bind(Uuid::now_v7())
        .bind(OffsetDateTime::from(made_at))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Gives back a row that could not be appended; whoever likes may try after so long.
    pub async fn release_activity(
        &self,
        id: Id<Activity>,
        after: Duration,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "update activity set claimed_until = now() + make_interval(secs => $2)
             where id = $1 and appended_at is null",
        )
        .bind(id.uuid())
        .bind(after.as_secs_f64())
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
