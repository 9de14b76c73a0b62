//! API tokens and refresh tokens; of both, only SHA-256 hashes are kept.
//!
//! Invariant: a refresh token is good once. Showing it again ends every token of its sign-in
//! (RFC 9700, section 4.14.2).

use std::time::Duration;

use model::{ApiToken, Id, User};
use sqlx::FromRow;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::accounts::Account;
use crate::{Store, StoreError};

/// An API token, without its text.
#[derive(Debug, Clone, FromRow)]
pub struct IssuedToken {
    /// Its id.
    #[sqlx(try_from = "Uuid")]
    pub id: Id<ApiToken>,
    /// The user's name for it.
    pub name: String,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it ends by itself, if it does.
    pub expires_at: Option<OffsetDateTime>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<OffsetDateTime>,
}

#[derive(FromRow)]
struct RefreshRow {
    id: Uuid,
    user_id: Uuid,
    family: Uuid,
    spent: bool,
    expired: bool,
}

impl Store {
    /// The user whom an unexpired, unrevoked API token speaks for.
    pub async fn account_by_api_token(&self, hash: &[u8]) -> Result<Option<Account>, StoreError> {
        let account = sqlx::query_as(
            "select u.id, u.email, u.name from api_tokens t join users u on u.id = t.user_id
             where t.token_hash = $1 and t.revoked_at is null and u.disabled_at is null
               and (t.expires_at is null or t.expires_at > now())",
        )
        .bind(hash)
        .fetch_optional(&self.pool)
        .await?;
        if account.is_some() {
            // To the minute, so that a busy token does not write on each request.
            sqlx::query(
                "update api_tokens set last_used_at = now() where token_hash = $1
                 and (last_used_at is null or last_used_at < now() - interval '1 minute')",
            )
            .bind(hash)
            .execute(&self.pool)
            .await?;
        }
        Ok(account)
    }

    /// Keeps a new API token.
    pub async fn create_api_token(
        &self,
        user: Id<User>,
        name: &str,
        hash: &[u8],
        expires_at: Option<OffsetDateTime>,
    ) -> Result<IssuedToken, StoreError> {
        Ok(sqlx::query_as(
            "insert into api_tokens (id, user_id, name, token_hash, expires_at)
             values ($1, $2, $3, $4, $5) returning *",
        )
        .bind(Uuid::now_v7())
        .bind(user.uuid())
        .bind(name)
        .bind(hash)
        .bind(expires_at)
        .fetch_one(&self.pool)
        .await?)
    }

    /// The user's unrevoked API tokens, oldest first.
    pub async fn api_tokens(
        &self,
        user: Id<User>,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<IssuedToken>, StoreError> {
        Ok(sqlx::query_as(
            "select * from api_tokens where user_id = $1 and revoked_at is null
             and ($2::uuid is null or id > $2) order by id limit $3",
        )
        .bind(user.uuid())
        .bind(after)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Revokes an API token of the user; false if the user has none with this id.
    pub async fn revoke_api_token(
        &self,
        user: Id<User>,
        id: Id<ApiToken>,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "update api_tokens set revoked_at = now()
             where id = $1 and user_id = $2 and revoked_at is null",
        )
        .bind(id.uuid())
        .bind(user.uuid())
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Keeps the first refresh token of a sign-in.
    pub async fn start_refresh_family(
        &self,
        user: Id<User>,
        hash: &[u8],
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        let family = Uuid::now_v7();
        insert_refresh_token(&self.pool, user.uuid(), family, hash, lifetime).await
    }

    /// Exchanges a refresh token for the next one of its family; None if it is unknown, spent,
    /// ended or expired, or its user is disabled.
    pub async fn rotate_refresh_token(
        &self,
        hash: &[u8],
        next_hash: &[u8],
        lifetime: Duration,
    ) -> Result<Option<Account>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        // Locked, so that of two that show it at once one is the second.
        let Some(row) = sqlx::query_as::<_, RefreshRow>(
            "select id, user_id, family, used_at is not null or revoked_at is not null as spent,
                    expires_at <= now() as expired
             from refresh_tokens where token_hash = $1 for update",
        )
        .bind(hash)
        .fetch_optional(&mut *transaction)
        .await?
        else {
            return Ok(None);
        };
        if row.spent {
            sqlx::query(
                "update refresh_tokens set revoked_at = now()
                 where family = $1 and revoked_at is null",
            )
            .bind(row.family)
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            return Ok(None);
        }
        let account = sqlx::query_as(
            "select id, email, name from users where id = $1 and disabled_at is null",
        )
        .bind(row.user_id)
        .fetch_optional(&mut *transaction)
        .await?;
        if row.expired || account.is_none() {
            return Ok(None);
        }
        sqlx::query("update refresh_tokens set used_at = now() where id = $1")
            .bind(row.id)
            .execute(&mut *transaction)
            .await?;
        insert_refresh_token(&mut *transaction, row.user_id, row.family, next_hash, lifetime)
            .await?;
        transaction.commit().await?;
        Ok(account)
    }

    /// Ends the sign-in that a refresh token belongs to; nothing happens if it is unknown.
    pub async fn end_refresh_family(&self, hash: &[u8]) -> Result<(), StoreError> {
        sqlx::query(
            "update refresh_tokens set revoked_at = now() where revoked_at is null
             and family = (select family from refresh_tokens where token_hash = $1)",
        )
        .bind(hash)
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

async fn insert_refresh_token(
    executor: impl sqlx::PgExecutor<'_>,
    user: Uuid,
    family: Uuid,
    hash: &[u8],
    lifetime: Duration,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into refresh_tokens (id, user_id, family, token_hash, expires_at)
         values ($1, $2, $3, $4, now() + make_interval(secs => $5))",
    )
    .bind(Uuid::now_v7())
    .bind(user)
    .bind(family)
    .bind(hash)
    .bind(lifetime.as_secs_f64())
    .execute(executor)
    .await?;
    Ok(())
}
