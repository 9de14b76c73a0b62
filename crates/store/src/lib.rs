//! Control data in PostgreSQL: the only user of sqlx.
//!
//! One file per aggregate; rows stay private to their file. Each service connects with a database
//! role of its own, so a function here may be refused to the service that calls it.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, PgPool};

pub mod accounts;
pub mod activity;
pub mod apps;
pub mod bootstrap;
pub mod container_logs;
pub mod databases;
pub mod drain_positions;
pub mod drain_tests;
pub mod edges;
pub mod environments;
pub mod intake;
pub mod leases;
pub mod live_sessions;
pub mod log_drains;
pub mod migrations;
pub mod notices;
pub mod rejected_lines;
pub mod retention;
pub mod sessions;
pub mod sign_in;
pub mod tokens;

/// A pool of connections to the control data.
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
}

/// A failure of the database, or data in it that breaks a rule.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused, failed or could not be reached.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// The database did not answer in time.
    #[error("the database did not answer in time")]
    Silent,
    /// A row holds what it must not.
    #[error("the database holds an invalid value: {0}")]
    Invalid(String),
}

impl StoreError {
    /// Whether the database answered, and refused what it was asked.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        // Class 57: the server was told to stop, or the statement to.
        !error.code().is_some_and(|code| code.starts_with("57"))
    }
}

impl Store {
    /// Prepares a pool; connections are made when first needed, so this fails only on a bad URL.
    pub fn connect(database_url: &str, connections: u32) -> Result<Self, StoreError> {
        Ok(Self::connect_with(database_url.parse()?, connections))
    }

    /// The same with statements that the server ends after 8 s, and after half a second if all that time
    /// they wait for a lock: for a service that does the same thing for many tenants at a time.
    pub fn connect_impatiently(database_url: &str, connections: u32) -> Result<Self, StoreError> {
        let options: PgConnectOptions = database_url.parse()?;
        let limits = [("statement_timeout", "8s"), ("lock_timeout", "500ms")];
        Ok(Self::connect_with(options.options(limits), connections))
    }

    fn connect_with(options: PgConnectOptions, connections: u32) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with(options.disable_statement_logging());
        Self { pool }
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("select 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Closes every connection.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

impl StoreError {
    /// Whether a unique rule of this name (a constraint or index) refused the write.
    #[must_use]
    pub fn violates(&self, constraint: &str) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => error.constraint() == Some(constraint),
            _ => false,
        }
    }
}
