//! The stream in PostgreSQL.
/// Placeholder.
#[derive(Debug, thiserror::Error)]
#[error("connect")]
pub struct ConnectError;
/// Placeholder.
#[derive(Debug, Clone)]
pub struct PostgresSettings;
/// Placeholder.
#[derive(Debug, Clone)]
pub struct PostgresStream;
