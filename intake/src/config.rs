//! What can be set.

use std::num::NonZeroU32;

use clap::Args;

/// How the intake works.
#[derive(Debug, Clone, Args)]
// Without a name of its own, so that one command can take the settings of several services.
#[group(skip)]
pub struct Settings {
    /// Bytes that a log source may send in a second, where its own quota does not say.
    #[arg(long, env = "SPILLWAY_INTAKE_SOURCE_BYTES_PER_SECOND", value_name = "BYTES", default_value_t = nonzero(32 << 20))]
    pub intake_source_bytes_per_second: NonZeroU32,
    /// Bytes that a log source may send at once, after it has sent little.
    #[arg(long, env = "SPILLWAY_INTAKE_SOURCE_BURST_BYTES", value_name = "BYTES", default_value_t = nonzero(128 << 20))]
    pub intake_source_burst_bytes: NonZeroU32,
    /// Bytes that all log sources of an environment together may send in a second, where the environment's own
    /// quota does not say.
    #[arg(long, env = "SPILLWAY_INTAKE_ENVIRONMENT_BYTES_PER_SECOND", value_name = "BYTES", default_value_t = nonzero(128 << 20))]
    pub intake_environment_bytes_per_second: NonZeroU32,
    /// Bytes that they may send at once, after they have sent little.
    #[arg(long, env = "SPILLWAY_INTAKE_ENVIRONMENT_BURST_BYTES", value_name = "BYTES", default_value_t = nonzero(512 << 20))]
    pub intake_environment_burst_bytes: NonZeroU32,
    /// Connections to the database at most, without those that append to the stream.
    #[arg(long, env = "SPILLWAY_INTAKE_DATABASE_CONNECTIONS", value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=100))]
    pub intake_database_connections: u32,
}

/// What an intake connects to.
#[derive(Debug, Clone, Args)]
pub struct Connections {
    /// The database, as the intake's role.
    #[arg(long, env = "SPILLWAY_INTAKE_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub intake_database_url: String,
    /// A Docker daemon, such as `unix:///var/run/docker.sock`: the logs of its containers that have the labels
    /// spillway.environment and spillway.app or spillway.database are followed. Not given: none are.
    #[arg(long, env = "SPILLWAY_INTAKE_DOCKER_HOST", value_name = "URL")]
    pub intake_docker_host: Option<String>,
}

/// Everything that an intake is configured by.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// How the intake works.
    #[command(flatten)]
    pub settings: Settings,
    /// What an intake connects to.
    #[command(flatten)]
    pub connections: Connections,
}

const fn nonzero(bytes: u32) -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(bytes - 1)
}
