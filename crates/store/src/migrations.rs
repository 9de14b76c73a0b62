//! The schema, and the passwords of the services' database roles.
//!
//! Invariant: a password leaves this process only as its SCRAM verifier, so it cannot get into the
//! server's log.

use std::time::Duration;

use sqlx::migrate::{MigrateDatabase as _, MigrateError};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, Postgres};
use url::{Url, form_urlencoded};

use model::Secret;

/// The database role of each service; migrations make them.
pub const ROLES: [&str; 4] =
    ["spillway_api", "spillway_edge", "spillway_intake", "spillway_worker"];

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// The schema could not be brought up to date, or a role not be given its password.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The URL is not one of PostgreSQL.
    #[error(
        "the database URL is not valid ({0}); write postgres://user:password@host:5432/database, \
         or postgres://user:password@%2Fsocket%2Ffolder/database for a unix socket"
    )]
    Url(String),
    /// The server did not answer in time.
    #[error("the database did not answer within {} s", CONNECT_DEADLINE.as_secs())]
    Silent,
    /// The server refused the connection.
    #[error("cannot connect to the database: {0}")]
    Connect(#[source] sqlx::Error),
    /// The schema was made by another version of these migrations.
    #[error(
        "the database's schema does not fit this version of Spillway: {0}; \
         run the version that wrote it, or use a new database"
    )]
    Foreign(#[source] MigrateError),
    /// A migration failed; nothing of it was kept.
    #[error("the database's schema could not be brought up to date: {0}")]
    Migrate(#[source] MigrateError),
    /// A role could not be given its password.
    #[error("the database role {role} could not be given its password: {source}")]
    Password {
        /// The role.
        role: String,
        /// Why not.
        source: sqlx::Error,
    },
}

/// Brings the schema up to date. Processes that start together wait for one another.
pub async fn run(admin_database_url: &str) -> Result<(), MigrationError> {
    // A pool retries until its deadline and then hides the reason; a single connection tells it.
    drop(connect(admin_database_url).await?.close().await);
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECT_DEADLINE)
        .connect_with(options(admin_database_url)?)
        .await
        .map_err(MigrationError::Connect)?;
    let migrated = sqlx::migrate!("../../migrations").run(&pool).await;
    // Closing gives the lock back where a failure has left it held.
    pool.close().await;
    migrated.map_err(|error| match error {
        MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_) => {
            MigrationError::Foreign(error)
        }
        error => MigrationError::Migrate(error),
    })
}

/// Makes the database that the URL names, unless it is there.
pub async fn create_database(admin_database_url: &str) -> Result<(), MigrationError> {
    let made = async {
        if !Postgres::database_exists(admin_database_url).await? {
            Postgres::create_database(admin_database_url).await?;
        }
        Ok(())
    };
    tokio::time::timeout(CONNECT_DEADLINE, made)
        .await
        .map_err(|_| MigrationError::Silent)?
        .map_err(MigrationError::Connect)
}

/// Gives each named role its password. The roles belong to the whole cluster.
pub async fn set_role_passwords(
    admin_database_url: &str,
    passwords: &[(&str, &Secret<String>)],
) -> Result<(), MigrationError> {
    let mut connection = connect(admin_database_url).await?;
    for (role, password) in passwords {
        set_password(&mut connection, role, password)
            .await
            .map_err(|source| MigrationError::Password { role: (*role).to_owned(), source })?;
    }
    drop(connection.close().await);
    Ok(())
}

async fn set_password(
    connection: &mut PgConnection,
    role: &str,
    password: &Secret<String>,
) -> Result<(), sqlx::Error> {
    let verifier = postgres_protocol::password::scram_sha_256(password.expose().as_bytes());
    // The server does the quoting: this statement takes no parameters.
    let statement: String =
        sqlx::query_scalar("select format('alter role %I with login password %L', $1, $2)")
            .bind(role)
            .bind(verifier)
            .fetch_one(&mut *connection)
            .await?;
    let mut attempts = 0;
    loop {
        let outcome = sqlx::query(AssertSqlSafe(statement.clone())).execute(&mut *connection).await;
        match outcome {
            // Two processes change one role at once; PostgreSQL has no lock for it to wait on.
            Err(sqlx::Error::Database(error))
                if error.message() == "tuple concurrently updated" && attempts < 20 =>
            {
                attempts += 1;
            }
            outcome => return outcome.map(drop),
        }
    }
}

/// The administrator's URL with another user and password; the rest stays as it is.
pub fn role_url(
    admin_database_url: &str,
    role: &str,
    password: &Secret<String>,
) -> Result<String, MigrationError> {
    let mut url = parse(admin_database_url)?;
    let password = password.expose();
    let mut query: Vec<String> = url
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| {
            !pair.is_empty() && !pair.starts_with("user=") && !pair.starts_with("password=")
        })
        .map(str::to_owned)
        .collect();
    // A URL without a host (`postgres:///database?host=/folder`) has no place for a user.
    if url.set_username(role).is_err() || url.set_password(Some(password)).is_err() {
        query.push(format!("user={}", percent_encoded(role)));
        query.push(format!("password={}", percent_encoded(password)));
    }
    let query = query.join("&");
    url.set_query((!query.is_empty()).then_some(&query));
    Ok(url.into())
}

fn percent_encoded(text: &str) -> String {
    // Not every client reads a plus sign as a space.
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

fn parse(database_url: &str) -> Result<Url, MigrationError> {
    let url = Url::parse(database_url).map_err(|error| MigrationError::Url(error.to_string()))?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(MigrationError::Url(format!("its scheme is {}", url.scheme())));
    }
    Ok(url)
}

fn options(database_url: &str) -> Result<PgConnectOptions, MigrationError> {
    parse(database_url)?;
    let options: PgConnectOptions = database_url
        .parse()
        .map_err(|error: sqlx::Error| MigrationError::Url(error.to_string()))?;
    // The server's notices tell what is there already, which is as it should be.
    Ok(options.options([("client_min_messages", "warning")]).disable_statement_logging())
}

pub(crate) async fn connect(database_url: &str) -> Result<PgConnection, MigrationError> {
    tokio::time::timeout(CONNECT_DEADLINE, options(database_url)?.connect())
        .await
        .map_err(|_| MigrationError::Silent)?
        .map_err(MigrationError::Connect)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url_for(admin: &str) -> String {
        let password = Secret::new("p w/+@'".to_owned());
        role_url(admin, "spillway_api", &password).expect("a valid URL")
    }

    #[test]
    fn role_url_replaces_the_user_and_keeps_the_rest() {
        let url = url_for("postgres://root:old@db.internal:6543/main?sslmode=require&user=x");
        let options: PgConnectOptions = url.parse().expect("sqlx reads it");
        assert_eq!(options.get_username(), "spillway_api");
        assert_eq!(options.get_host(), "db.internal");
        assert_eq!(options.get_port(), 6543);
        assert!(url.contains("sslmode=require") && !url.contains("old") && !url.contains("user=x"));
    }

    #[test]
    fn role_url_keeps_a_socket_folder_in_either_form() {
        for admin in
            ["postgres://root@%2Frun%2Fpg/main", "postgres:///main?host=/run/pg&password=old"]
        {
            let options: PgConnectOptions = url_for(admin).parse().expect("sqlx reads it");
            assert_eq!(options.get_username(), "spillway_api");
            assert_eq!(options.get_database(), Some("main"));
            let socket = options.get_socket().map(|path| path.display().to_string());
            assert_eq!(socket.as_deref(), Some("/run/pg"));
        }
    }

    #[test]
    fn url_of_another_kind_is_refused_with_an_example() {
        let error = role_url("mysql://x/y", "r", &Secret::new(String::new())).unwrap_err();
        assert!(error.to_string().contains("mysql") && error.to_string().contains("postgres://"));
    }
}
