//! Users, memberships, SSH keys.
//!
//! Invariant: nothing here answers for a disabled user.

use model::{Handle, Id, Organization, Role, Secret, SshKey, User};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Store, StoreError};

/// A user who may sign in.
#[derive(Debug, Clone, FromRow)]
pub struct Account {
    /// The user's id.
    #[sqlx(try_from = "Uuid")]
    pub id: Id<User>,
    /// The e-mail address, as it was registered.
    pub email: String,
    /// As it appears in records.
    pub name: String,
}

/// One user's place in one organization.
#[derive(Debug, Clone, FromRow)]
pub struct Membership {
    /// The organization.
    #[sqlx(try_from = "Uuid")]
    pub organization_id: Id<Organization>,
    /// Its handle.
    #[sqlx(try_from = "String")]
    pub handle: Handle,
    /// Its name.
    pub name: String,
    /// What the user may do there.
    #[sqlx(try_from = "String")]
    pub role: Role,
}

/// A thing, and the role that the asking user has in the organization it belongs to.
#[derive(Debug, Clone)]
pub struct Held<T> {
    /// The thing.
    pub thing: T,
    /// The user's role.
    pub role: Role,
}

impl<T: for<'r> FromRow<'r, PgRow>> Held<T> {
    /// Reads a row that has the thing's columns and `role`.
    pub(crate) fn from_row(row: &PgRow) -> Result<Self, StoreError> {
        let role: String = row.try_get("role")?;
        let role = role.parse().map_err(|_| StoreError::Invalid(format!("the role {role}")))?;
        Ok(Self { thing: T::from_row(row)?, role })
    }
}

/// A registered SSH key.
#[derive(Debug, Clone, FromRow)]
pub struct RegisteredKey {
    /// Its id.
    #[sqlx(try_from = "Uuid")]
    pub id: Id<SshKey>,
    /// The user's name for it.
    pub name: String,
    /// As a line of OpenSSH's public key format.
    pub public_key: String,
    /// As `SHA256:...`.
    pub fingerprint: String,
    /// When it was registered.
    pub created_at: OffsetDateTime,
    /// When it last signed in, if ever.
    pub last_used_at: Option<OffsetDateTime>,
}

impl Store {
    /// The user with this e-mail address, whatever its case, and the password's hash.
    pub async fn account_by_email(
        &self,
        email: &str,
    ) -> Result<Option<(Account, Secret<String>)>, StoreError> {
        let row = sqlx::query(
            "select id, email, name, password_hash from users
             where lower(email) = lower($1) and disabled_at is null",
        )
        .bind(email)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            let hash: String = row.try_get("password_hash")?;
            Ok((Account::from_row(&row)?, Secret::new(hash)))
        })
        .transpose()
    }

    /// The user with this id.
    pub async fn account(&self, id: Id<User>) -> Result<Option<Account>, StoreError> {
        Ok(sqlx::query_as(
            "select id, email, name from users where id = $1 and disabled_at is null",
        )
        .bind(id.uuid())
        .fetch_optional(&self.pool)
        .await?)
    }

    /// The user's memberships, in the order of the organizations' handles.
    pub async fn memberships(&self, user: Id<User>) -> Result<Vec<Membership>, StoreError> {
        Ok(sqlx::query_as(
            "select m.organization_id, o.handle, o.name, m.role
             from memberships m join organizations o on o.id = m.organization_id
             join users u on u.id = m.user_id and u.disabled_at is null
             where m.user_id = $1 order by o.handle",
        )
        .bind(user.uuid())
        .fetch_all(&self.pool)
        .await?)
    }

    /// Registers a key; the constraint `ssh_keys_fingerprint_key` refuses one that is known.
    pub async fn create_ssh_key(
        &self,
        user: Id<User>,
        name: &str,
        public_key: &str,
        fingerprint: &str,
    ) -> Result<RegisteredKey, StoreError> {
        Ok(sqlx::query_as(
            "insert into ssh_keys (id, user_id, name, public_key, fingerprint)
             values ($1, $2, $3, $4, $5) returning *",
        )
        .bind(Uuid::now_v7())
        .bind(user.uuid())
        .bind(name)
        .bind(public_key)
        .bind(fingerprint)
        .fetch_one(&self.pool)
        .await?)
    }

    /// The user's keys, oldest first.
    pub async fn ssh_keys(
        &self,
        user: Id<User>,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<RegisteredKey>, StoreError> {
        Ok(sqlx::query_as(
            "select * from ssh_keys where user_id = $1 and ($2::uuid is null or id > $2)
             order by id limit $3",
        )
        .bind(user.uuid())
        .bind(after)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Removes a key of the user; false if the user has none with this id.
    pub async fn delete_ssh_key(&self, user: Id<User>, id: Id<SshKey>) -> Result<bool, StoreError> {
        let done = sqlx::query("delete from ssh_keys where id = $1 and user_id = $2")
            .bind(id.uuid())
            .bind(user.uuid())
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() == 1)
    }
}
