//! Databases.

use model::Handle;
use serde::{Deserialize, Serialize};
use store::databases::Database;
use store::environments::Environment;
use utoipa::ToSchema;

use crate::app::{App, AppError, PageRequest, handle_taken};
use crate::authz::{ChangeDatabases, Permit, ReadDatabases};

/// A kind of database.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Engine {
    /// PostgreSQL.
    Postgresql,
    /// `MySQL`.
    Mysql,
    /// `MariaDB`.
    Mariadb,
    /// Redis.
    Redis,
    /// `MongoDB`.
    Mongodb,
    /// Any other.
    Other,
}

impl Engine {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Postgresql => "postgresql",
            Self::Mysql => "mysql",
            Self::Mariadb => "mariadb",
            Self::Redis => "redis",
            Self::Mongodb => "mongodb",
            Self::Other => "other",
        }
    }
}

/// A database to create.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewDatabase {
    /// Unique among the environment's databases.
    #[schema(value_type = String, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    handle: Handle,
    /// What kind of database it is.
    engine: Engine,
}

/// What to change; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DatabasePatch {
    /// Unique among the environment's databases.
    #[schema(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    handle: Option<Handle>,
    /// What kind of database it is.
    engine: Option<Engine>,
}

/// Databases of an environment.
pub(crate) async fn list(
    app: &App,
    permit: Permit<ReadDatabases, Environment>,
    handle: Option<&Handle>,
    page: PageRequest,
) -> Result<Vec<Database>, AppError> {
    let handle = handle.map(Handle::as_str);
    Ok(app.store.databases(permit.thing().id, handle, page.after, page.limit).await?)
}

/// Creates a database.
pub(crate) async fn create(
    app: &App,
    permit: Permit<ChangeDatabases, Environment>,
    request: NewDatabase,
) -> Result<Database, AppError> {
    app.store
        .create_database(permit.thing().id, &request.handle, request.engine.as_str())
        .await
        .map_err(handle_taken("databases_handle"))?
        .ok_or(AppError::NotFound)
}

/// Shows a database.
pub(crate) fn show(permit: Permit<ReadDatabases, Database>) -> Database {
    permit.into_thing()
}

/// Changes a database.
pub(crate) async fn update(
    app: &App,
    permit: Permit<ChangeDatabases, Database>,
    expected_revision: Option<i64>,
    patch: DatabasePatch,
) -> Result<Database, AppError> {
    let engine = patch.engine.map(Engine::as_str);
    app.store
        .update_database(permit.thing().id, expected_revision, patch.handle.as_ref(), engine)
        .await
        .map_err(handle_taken("databases_handle"))?
        .ok_or(AppError::RevisionChanged)
}

/// Deletes a database.
pub(crate) async fn delete(
    app: &App,
    permit: Permit<ChangeDatabases, Database>,
    expected_revision: Option<i64>,
) -> Result<(), AppError> {
    let done =
        app.store.delete_database(permit.thing().id, expected_revision, permit.user()).await?;
    if done { Ok(()) } else { Err(AppError::RevisionChanged) }
}
