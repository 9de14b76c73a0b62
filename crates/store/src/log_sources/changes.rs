//! What the api does to log sources.

use model::{Handle, Id, LogSource as LogSourceKind, User};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::{LogSource, LogSourceChange, NewLogSource, Subject, read};
use crate::activity::{Change, record};
use crate::intake::TokenHash;
use crate::{Store, StoreError};

impl Store {
    /// Creates a source; None if its app or database is not in the environment. The index
    /// `log_sources_handle` refuses a handle that is taken, `log_sources_token_key_key` a token's key, and
    /// `log_source_certificates_pkey` a certificate of another source.
    pub async fn create_log_source(
        &self,
        source: &NewLogSource,
        by: Id<User>,
    ) -> Result<Option<LogSource>, StoreError> {
        let (app, database) = match source.subject {
            Subject::App(id) => (Some(id.uuid()), None),
            Subject::Database(id) => (None, Some(id.uuid())),
        };
        let mut transaction = self.pool.begin().await?;
        // Shared, so that it is not deleted meanwhile; and with it in it, its environment is not.
        let found = sqlx::query(match source.subject {
            Subject::App(_) => {
                "select from apps where id = $1 and environment_id = $2 and deleted_at is null
                 for share"
            }
            Subject::Database(_) => {
                "select from databases where id = $1 and environment_id = $2 and deleted_at is null
                 for share"
            }
        })
        .bind(app.or(database))
        .bind(source.environment_id.uuid())
        .fetch_optional(&mut *transaction)
        .await?;
        if found.is_none() {
            return Ok(None);
        }
        let id = Uuid::now_v7();
        sqlx::query(
            "insert into log_sources (id, environment_id, handle, app_id, database_id, token_key,
                 token_hash, client_certificates, bytes_per_second, burst_bytes)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(id)
        .bind(source.environment_id.uuid())
        .bind(source.handle.as_str())
        .bind(app)
        .bind(database)
        .bind(&source.token.key)
        .bind(&source.token.hash)
        .bind(&source.client_certificates)
        .bind(source.bytes_per_second)
        .bind(source.burst_bytes)
        .execute(&mut *transaction)
        .await?;
        claim_certificates(&mut transaction, id, &source.client_certificates).await?;
        let created = read(&mut transaction, id).await?;
        let subject = if app.is_some() { "of an app" } else { "of a database" };
        let change = created.changed("log_source.created", subject.to_owned(), by);
        record(&mut transaction, &change).await?;
        transaction.commit().await?;
        Ok(Some(created))
    }

    /// Changes a source; None if it has another revision than expected, or is gone.
    pub async fn update_log_source(
        &self,
        id: Id<LogSourceKind>,
        expected_revision: Option<i64>,
        change: &LogSourceChange,
        by: Id<User>,
    ) -> Result<Option<LogSource>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let was_disabled: Option<bool> = sqlx::query_scalar(
            "select disabled_at is not null from log_sources where id = $1 for update",
        )
        .bind(id.uuid())
        .fetch_optional(&mut *transaction)
        .await?;
        let done = sqlx::query(
            "update log_sources set handle = coalesce($3, handle),
                 client_certificates = coalesce($4, client_certificates),
                 bytes_per_second = case when $5 then $6 else bytes_per_second end,
                 burst_bytes = case when $7 then $8 else burst_bytes end,
                 disabled_at = case when $9 then coalesce(disabled_at, now())
                     when not $9 then null else disabled_at end,
                 revision = revision + 1, updated_at = now()
             where id = $1 and deleted_at is null and revision = coalesce($2, revision)",
        )
        .bind(id.uuid())
        .bind(expected_revision)
        .bind(change.handle.as_ref().map(Handle::as_str))
        .bind(&change.client_certificates)
        .bind(change.bytes_per_second.is_some())
        .bind(change.bytes_per_second.flatten())
        .bind(change.burst_bytes.is_some())
        .bind(change.burst_bytes.flatten())
        .bind(change.disabled)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(None);
        }
        if let Some(certificates) = &change.client_certificates {
            release_certificates(&mut transaction, &[id.uuid()]).await?;
            claim_certificates(&mut transaction, id.uuid(), certificates).await?;
        }
        let changed = read(&mut transaction, id.uuid()).await?;
        let fields = change.fields().join(", ");
        if !fields.is_empty() {
            record(&mut transaction, &changed.changed("log_source.changed", fields, by)).await?;
        }
        if change.disabled.is_some() && change.disabled != was_disabled {
            let disabled = changed.disabled_at.is_some();
            let action = if disabled { "log_source.disabled" } else { "log_source.enabled" };
            record(&mut transaction, &changed.changed(action, String::new(), by)).await?;
        }
        transaction.commit().await?;
        Ok(Some(changed))
    }

    /// Gives a source another token; the one before is good for so many seconds more. None if it is gone.
    pub async fn rotate_log_source(
        &self,
        id: Id<LogSourceKind>,
        token: &TokenHash,
        keep_old_seconds: u32,
        by: Id<User>,
    ) -> Result<Option<LogSource>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        // A trigger keeps the old token, for the api may not read its hash.
        let done = sqlx::query(
            "update log_sources set token_key = $2, token_hash = $3,
                 previous_token_until = now() + make_interval(secs => $4),
                 revision = revision + 1, updated_at = now()
             where id = $1 and deleted_at is null",
        )
        .bind(id.uuid())
        .bind(&token.key)
        .bind(&token.hash)
        .bind(f64::from(keep_old_seconds))
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(None);
        }
        let rotated = read(&mut transaction, id.uuid()).await?;
        let detail = match keep_old_seconds {
            0 => "the old token is not good any more".to_owned(),
            seconds => format!("the old token is good for {seconds} s more"),
        };
        record(&mut transaction, &rotated.changed("log_source.rotated", detail, by)).await?;
        transaction.commit().await?;
        Ok(Some(rotated))
    }

    /// Whether some source has, or had before its token was rotated, a token with this key.
    pub async fn is_token_key_taken(&self, key: &str) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar(
            "select exists (select from log_sources where token_key = $1)
                 or exists (select from log_sources where previous_token_key = $1)",
        )
        .bind(key)
        .fetch_one(&self.pool)
        .await?)
    }

    /// Deletes a source; false if it has another revision than expected, or is gone.
    pub async fn delete_log_source(
        &self,
        id: Id<LogSourceKind>,
        expected_revision: Option<i64>,
        by: Id<User>,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let deleted: Vec<Deleted> = sqlx::query_as(
            "update log_sources set deleted_at = now(), revision = revision + 1, updated_at = now()
             where id = $1 and deleted_at is null and revision = coalesce($2, revision)
             returning id, environment_id, handle",
        )
        .bind(id.uuid())
        .bind(expected_revision)
        .fetch_all(&mut *transaction)
        .await?;
        finish_deletion(&mut transaction, &deleted, "", by).await?;
        transaction.commit().await?;
        Ok(!deleted.is_empty())
    }
}

/// Deletes the sources of an app or a database, which is being deleted.
pub(crate) async fn delete_with(
    transaction: &mut PgConnection,
    subject: Subject,
    by: Id<User>,
) -> Result<(), StoreError> {
    let (statement, id, detail) = match subject {
        Subject::App(id) => (
            "update log_sources set deleted_at = now(), revision = revision + 1, updated_at = now()
             where app_id = $1 and deleted_at is null returning id, environment_id, handle",
            id.uuid(),
            "with its app",
        ),
        Subject::Database(id) => (
            "update log_sources set deleted_at = now(), revision = revision + 1, updated_at = now()
             where database_id = $1 and deleted_at is null returning id, environment_id, handle",
            id.uuid(),
            "with its database",
        ),
    };
    let deleted: Vec<Deleted> =
        sqlx::query_as(statement).bind(id).fetch_all(&mut *transaction).await?;
    finish_deletion(transaction, &deleted, detail, by).await
}

#[derive(FromRow)]
struct Deleted {
    id: Uuid,
    environment_id: Uuid,
    handle: String,
}

async fn finish_deletion(
    transaction: &mut PgConnection,
    deleted: &[Deleted],
    detail: &str,
    by: Id<User>,
) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = deleted.iter().map(|deleted| deleted.id).collect();
    release_certificates(transaction, &ids).await?;
    for Deleted { id, environment_id, handle } in deleted {
        let change = Change {
            environment: Id::from_uuid(*environment_id),
            kind: "log_source",
            thing: *id,
            handle,
            action: "log_source.deleted",
            detail: detail.to_owned(),
            user: by,
        };
        record(transaction, &change).await?;
    }
    Ok(())
}

async fn claim_certificates(
    transaction: &mut PgConnection,
    source: Uuid,
    certificates: &[Vec<u8>],
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into log_source_certificates (fingerprint, source_id)
         select fingerprint, $1 from unnest($2::bytea[]) as n (fingerprint) order by fingerprint",
    )
    .bind(source)
    .bind(certificates)
    .execute(transaction)
    .await?;
    Ok(())
}

async fn release_certificates(
    transaction: &mut PgConnection,
    sources: &[Uuid],
) -> Result<(), StoreError> {
    sqlx::query("delete from log_source_certificates where source_id = any($1)")
        .bind(sources)
        .execute(transaction)
        .await?;
    Ok(())
}
