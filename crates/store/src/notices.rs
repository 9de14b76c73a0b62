//! Notices of drains that fail or have recovered: whom to tell, and who was told.
//!
//! Invariant: a notice is written together with the activity that it is of
//! ([`Store::report_drain_progress`]), and is there until it is delivered or given up. Who tries moves the
//! time of the next attempt on beforehand, so two do not try at once, and a killed worker is followed.

use std::time::Duration;

use model::Handle;
use sqlx::{FromRow, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::activity::ActivityRow;
use crate::{Store, StoreError};

/// Whom an environment has told, and how that last failed.
#[derive(Debug, Clone, Default, FromRow)]
pub struct NoticeSettings {
    /// An https URL that is posted to.
    pub webhook_url: Option<String>,
    /// Whether what is posted there is signed.
    pub has_webhook_secret: bool,
    /// E-mail addresses.
    pub emails: Vec<String>,
    /// What last went wrong, if anything did.
    pub last_error: Option<String>,
    /// When it did.
    pub last_error_at: Option<OffsetDateTime>,
}

/// What to set; None leaves as is.
#[derive(Debug, Clone, Default)]
pub struct NoticeChange {
    /// An https URL; `Some(None)` takes it away.
    pub webhook_url: Option<Option<String>>,
    /// Sealed to the workers' key; `Some(None)` takes it away.
    pub sealed_webhook_secret: Option<Option<Vec<u8>>>,
    /// E-mail addresses, in whole.
    pub emails: Option<Vec<String>>,
}

/// A notice that its claimant sends.
#[derive(Debug, Clone, FromRow)]
pub struct ClaimedNotice {
    /// Its id.
    pub notice_id: Uuid,
    /// Attempts so far, this one included.
    pub attempts: i32,
    /// To whom; None: to the webhook.
    pub email: Option<String>,
    /// Of what.
    #[sqlx(flatten)]
    pub activity: ActivityRow,
    /// The environment's handle.
    #[sqlx(try_from = "String")]
    pub environment_handle: Handle,
    /// Where the webhook is.
    pub webhook_url: Option<String>,
    /// With what it is signed, sealed to the workers' key for the environment's id.
    pub sealed_webhook_secret: Option<Vec<u8>>,
    /// Whether the environment still wants it.
    pub is_wanted: bool,
}

/// Changes whom an environment has told.
pub(crate) async fn change(
    transaction: &mut PgConnection,
    environment: Uuid,
    change: &NoticeChange,
) -> Result<(), StoreError> {
    let NoticeChange { webhook_url, sealed_webhook_secret, emails } = change;
    if webhook_url.is_none() && sealed_webhook_secret.is_none() && emails.is_none() {
        return Ok(());
    }
    sqlx::query("insert into notice_settings (environment_id) values ($1) on conflict do nothing")
        .bind(environment)
        .execute(&mut *transaction)
        .await?;
    sqlx::query(
        "update notice_settings set webhook_url = case when $2 then $3 else webhook_url end,
             emails = coalesce($4, emails)
         where environment_id = $1",
    )
    .bind(environment)
    .bind(webhook_url.is_some())
    .bind(webhook_url.as_ref().and_then(Option::as_deref))
    .bind(emails)
    .execute(&mut *transaction)
    .await?;
    // Apart: to keep it in the statement above, the api would have to read it.
    if let Some(sealed) = sealed_webhook_secret {
        sqlx::query(
            "update notice_settings set sealed_webhook_secret = $2 where environment_id = $1",
        )
        .bind(environment)
        .bind(sealed)
        .execute(transaction)
        .await?;
    }
    Ok(())
}

impl Store {
    /// Takes notices that are due for so long, the longest due first.
    pub async fn claim_notices(
        &self,
        duration: Duration,
        limit: i64,
    ) -> Result<Vec<ClaimedNotice>, StoreError> {
        Ok(sqlx::query_as(
            "with due as materialized (
                 select id from notices
                 where delivered_at is null and given_up_at is null and next_attempt_at <= now()
                 order by next_attempt_at limit $2 for update skip locked
             ), claimed as (
                 update notices n set attempts = attempts + 1,
                     next_attempt_at = now() + make_interval(secs => $1)
                 from due where n.id = due.id
                 returning n.id, n.activity_id, n.email, n.attempts
             )
             select n.id as notice_id, n.attempts, n.email, a.*, e.handle as environment_handle,
                 s.webhook_url, s.sealed_webhook_secret,
                 e.deleted_at is null and case when n.email is null then s.webhook_url is not null
                     else n.email = any (coalesce(s.emails, '{}')) end as is_wanted
             from claimed n join activity a on a.id = n.activity_id
             join environments e on e.id = a.environment_id
             left join notice_settings s on s.environment_id = a.environment_id",
        )
        .bind(duration.as_secs_f64())
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Notes that a notice was taken.
    pub async fn notice_delivered(&self, id: Uuid) -> Result<(), StoreError> {
        sqlx::query("update notices set delivered_at = now() where id = $1")
            .bind(id)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Notes why a notice was not taken, and that it is tried again after so long; None: never.
    pub async fn notice_failed(
        &self,
        id: Uuid,
        error: &str,
        again_after: Option<Duration>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "update notices set last_error = $2, last_error_at = now(),
                 given_up_at = case when $3::float8 is null then now() end,
                 next_attempt_at = now() + make_interval(secs => coalesce($3, 0))
             where id = $1 and delivered_at is null",
        )
        .bind(id)
        .bind(error)
        .bind(again_after.map(|after| after.as_secs_f64()))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Forgets a notice that nobody wants any more.
    pub async fn drop_notice(&self, id: Uuid) -> Result<(), StoreError> {
        sqlx::query("delete from notices where id = $1").bind(id).execute(&self.pool).await?;
        Ok(())
    }
}
