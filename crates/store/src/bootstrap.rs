//! What an operator does without the api: first organizations, users and members.
//!
//! These run as the database's owner and not in a pool of a service, whose role may not do them all.

use model::{Handle, Id, Organization, Role, Secret, User};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::StoreError;
use crate::migrations::{self, MigrationError};

/// Something could not be created.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The database could not be reached.
    #[error(transparent)]
    Connect(#[from] MigrationError),
    /// The handle is taken.
    #[error("there is an organization with the handle {0} already")]
    OrganizationExists(Handle),
    /// The e-mail address is taken.
    #[error("there is a user with the e-mail address {0} already")]
    UserExists(String),
    /// No organization has that handle.
    #[error("there is no organization with the handle {0}; create it first")]
    NoOrganization(Handle),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One connection of the database's owner.
#[derive(Debug)]
pub struct Bootstrap {
    connection: PgConnection,
}

/// A user to be created.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// Unique, whatever its case.
    pub email: String,
    /// As it appears in records.
    pub name: String,
    /// The password's argon2id hash in PHC form.
    pub password_hash: Secret<String>,
}

impl Bootstrap {
    /// Connects as the database's owner.
    pub async fn connect(admin_database_url: &str) -> Result<Self, BootstrapError> {
        Ok(Self { connection: migrations::connect(admin_database_url).await? })
    }

    /// How many organizations there are.
    pub async fn organizations(&mut self) -> Result<i64, BootstrapError> {
        let count = sqlx::query_scalar("select count(*) from organizations")
            .fetch_one(&mut self.connection)
            .await
            .map_err(StoreError::from)?;
        Ok(count)
    }

    /// Creates an organization.
    pub async fn create_organization(
        &mut self,
        handle: &Handle,
        name: &str,
    ) -> Result<Id<Organization>, BootstrapError> {
        let id = Uuid::now_v7();
        sqlx::query("insert into organizations (id, handle, name) values ($1, $2, $3)")
            .bind(id)
            .bind(handle.as_str())
            .bind(name)
            .execute(&mut self.connection)
            .await
            .map_err(StoreError::from)
            .map_err(|error| {
                if error.violates("organizations_handle_key") {
                    BootstrapError::OrganizationExists(handle.clone())
                } else {
                    error.into()
                }
            })?;
        Ok(Id::from_uuid(id))
    }

    /// Finds an organization.
    pub async fn organization(
        &mut self,
        handle: &Handle,
    ) -> Result<Id<Organization>, BootstrapError> {
        sqlx::query_scalar("select id from organizations where handle = $1")
            .bind(handle.as_str())
            .fetch_optional(&mut self.connection)
            .await
            .map_err(StoreError::from)?
            .map(Id::from_uuid)
            .ok_or_else(|| BootstrapError::NoOrganization(handle.clone()))
    }

    /// Creates a user who is a member of one organization from the start; both or neither.
    pub async fn create_user(
        &mut self,
        user: &NewUser,
        organization: Id<Organization>,
        role: Role,
    ) -> Result<Id<User>, BootstrapError> {
        let id = Uuid::now_v7();
        let mut transaction = self.connection.begin().await.map_err(StoreError::from)?;
        sqlx::query("insert into users (id, email, name, password_hash) values ($1, $2, $3, $4)")
            .bind(id)
            .bind(&user.email)
            .bind(&user.name)
            .bind(user.password_hash.expose())
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::from)
            .map_err(|error| {
                if error.violates("users_email") {
                    BootstrapError::UserExists(user.email.clone())
                } else {
                    error.into()
                }
            })?;
        add_member(&mut transaction, organization, Id::from_uuid(id), role).await?;
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(Id::from_uuid(id))
    }

    /// Finds a user, whatever the case of the address.
    pub async fn user(&mut self, email: &str) -> Result<Option<Id<User>>, BootstrapError> {
        let id = sqlx::query_scalar("select id from users where lower(email) = lower($1)")
            .bind(email)
            .fetch_optional(&mut self.connection)
            .await
            .map_err(StoreError::from)?;
        Ok(id.map(Id::from_uuid))
    }

    /// Makes a user a member of one more organization, or changes the role there.
    pub async fn add_member(
        &mut self,
        organization: Id<Organization>,
        user: Id<User>,
        role: Role,
    ) -> Result<(), BootstrapError> {
        Ok(add_member(&mut self.connection, organization, user, role).await?)
    }
}

async fn add_member(
    connection: &mut PgConnection,
    organization: Id<Organization>,
    user: Id<User>,
    role: Role,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into memberships (organization_id, user_id, role) values ($1, $2, $3)
         on conflict (organization_id, user_id) do update set role = excluded.role",
    )
    .bind(organization.uuid())
    .bind(user.uuid())
    .bind(role.as_str())
    .execute(connection)
    .await?;
    Ok(())
}
