//! What the API can be told.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{StringValueParser, TypedValueParser as _};
use model::Secret;

/// What has a default.
#[derive(Debug, Clone, Args)]
// Without a name of its own, so that one command can take the settings of several services.
#[group(skip)]
pub struct Settings {
    /// The address and port to listen on; port 0 takes a free one.
    #[arg(
        long,
        env = "SPILLWAY_API_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:7710"
    )]
    pub api_listen: SocketAddr,
    /// The certificate chain for TLS, in PEM. Give the key, too.
    #[arg(
        long,
        env = "SPILLWAY_API_TLS_CERTIFICATE",
        value_name = "FILE",
        requires = "api_tls_key"
    )]
    pub api_tls_certificate: Option<PathBuf>,
    /// The certificate's private key, in PEM.
    #[arg(
        long,
        env = "SPILLWAY_API_TLS_KEY",
        value_name = "FILE",
        requires = "api_tls_certificate"
    )]
    pub api_tls_key: Option<PathBuf>,
    /// Listen without TLS on an address other than loopback. Passwords and tokens then cross the
    /// network as they are: only for a network that ends at a TLS reverse proxy.
    #[arg(long, env = "SPILLWAY_API_ALLOW_PLAIN_HTTP")]
    pub api_allow_plain_http: bool,
    /// Take the client's address from the last entry of X-Forwarded-For. Only behind a reverse proxy
    /// that sets it: otherwise clients choose their own address and escape the rate limit.
    #[arg(long, env = "SPILLWAY_API_TRUST_FORWARDED_FOR")]
    pub api_trust_forwarded_for: bool,
    /// How long an access token is good, in seconds.
    #[arg(
        long,
        env = "SPILLWAY_API_ACCESS_TOKEN_SECONDS",
        value_name = "SECONDS",
        default_value_t = 900,
        value_parser = clap::value_parser!(u64).range(60..=86_400)
    )]
    pub api_access_token_seconds: u64,
    /// How long a refresh token is good, in seconds.
    #[arg(
        long,
        env = "SPILLWAY_API_REFRESH_TOKEN_SECONDS",
        value_name = "SECONDS",
        default_value_t = 30 * 86_400,
        value_parser = clap::value_parser!(u64).range(600..=31_536_000)
    )]
    pub api_refresh_token_seconds: u64,
    /// Sign-ins that may be tried per minute for one e-mail address.
    #[arg(
        long,
        env = "SPILLWAY_API_SIGN_INS_PER_EMAIL",
        value_name = "PER_MINUTE",
        default_value = "10"
    )]
    pub api_sign_ins_per_email: NonZeroU32,
    /// Sign-ins and refreshes that may be tried per minute from one network address.
    #[arg(
        long,
        env = "SPILLWAY_API_SIGN_INS_PER_ADDRESS",
        value_name = "PER_MINUTE",
        default_value = "60"
    )]
    pub api_sign_ins_per_address: NonZeroU32,
    /// Passwords that are checked at once; each takes 19 MiB and one CPU for some 30 ms.
    #[arg(long, env = "SPILLWAY_API_PASSWORD_CHECKS", value_name = "NUMBER", default_value = "2")]
    pub api_password_checks: NonZeroU32,
    /// Connections to the database, at most.
    #[arg(
        long,
        env = "SPILLWAY_API_DATABASE_CONNECTIONS",
        value_name = "NUMBER",
        default_value_t = 16,
        value_parser = clap::value_parser!(u32).range(8..=1000)
    )]
    pub api_database_connections: u32,
}

/// What must be given: the database and the keys.
#[derive(Debug, Clone, Args)]
pub struct Connections {
    /// The database, as the role `spillway_api`: `postgres://spillway_api:PASSWORD@HOST/DATABASE`.
    #[arg(
        long,
        env = "SPILLWAY_API_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true,
        value_parser = StringValueParser::new().map(Secret::new)
    )]
    pub api_database_url: Secret<String>,
    /// The key that signs access tokens: base64 of 32 bytes.
    #[arg(long, env = "SPILLWAY_API_JWT_KEY", value_name = "FILE")]
    pub api_jwt_key: PathBuf,
    /// The certificate authority for users: an OpenSSH private key without passphrase.
    #[arg(long, env = "SPILLWAY_API_USER_CA_KEY", value_name = "FILE")]
    pub api_user_ca_key: PathBuf,
    /// The certificate authority for edges: an OpenSSH public key.
    #[arg(long, env = "SPILLWAY_API_HOST_CA_PUBLIC", value_name = "FILE")]
    pub api_host_ca_public: PathBuf,
    /// The key that app variables are sealed to: base64 of 32 bytes.
    #[arg(long, env = "SPILLWAY_API_EDGE_SEALING_KEY", value_name = "FILE")]
    pub api_edge_sealing_key: PathBuf,
    /// The key that drain credentials are sealed to: base64 of 32 bytes.
    #[arg(long, env = "SPILLWAY_API_WORKER_SEALING_KEY", value_name = "FILE")]
    pub api_worker_sealing_key: PathBuf,
}

/// Everything.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// What has a default.
    #[command(flatten)]
    pub settings: Settings,
    /// What must be given.
    #[command(flatten)]
    pub connections: Connections,
}
