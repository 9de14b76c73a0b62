//! What the API does: one function per use case. Knows no HTTP.

use std::time::Duration;

use model::validation::FieldError;
use model::{
    App as AppKind, Database, Drain, Environment, EphemeralSession, Handle, Id, LogSource,
    Organization, Role, User,
};
use store::accounts::Held;
use store::{Store, StoreError};
use tokio::sync::Semaphore;

use crate::authz::{Forbidden, Operation, Permit};
use crate::keys::{KeyError, Keys};
use crate::{Config, Settings};

pub(crate) mod activity;
pub(crate) mod apps;
pub(crate) mod certificates;
pub(crate) mod databases;
pub(crate) mod environments;
pub(crate) mod log_drains;
pub(crate) mod log_sources;
pub(crate) mod logs;
pub(crate) mod me;
pub(crate) mod notices;
pub(crate) mod passwords;
pub(crate) mod rate_limit;
pub(crate) mod sessions;
pub(crate) mod sign_in;
pub(crate) mod tokens;

use passwords::Passwords;
use rate_limit::RateLimits;
use tokens::AccessTokens;

/// Why a use case did not do it; a variant per way to tell.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
    /// It is not there, or not for the caller to know of.
    #[error("not found")]
    NotFound,
    /// The caller's role does not allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// No token, or one that is not good.
    #[error("the caller is not signed in")]
    NotSignedIn,
    /// E-mail address and password do not belong together.
    #[error("sign-in failed")]
    SignInFailed,
    /// The refresh token is not good.
    #[error("the refresh token is not good")]
    RefreshFailed,
    /// Too many tries.
    #[error("too many tries")]
    TooMany {
        /// When the next one is allowed.
        retry_after: Duration,
    },
    /// The input breaks rules.
    #[error("invalid input")]
    Invalid(Vec<FieldError>),
    /// The handle is taken.
    #[error("the handle is taken")]
    HandleTaken,
    /// The key is registered.
    #[error("the key is registered")]
    KeyRegistered,
    /// A client certificate is that of another log source.
    #[error("the client certificate is that of another log source")]
    CertificateTaken,
    /// The environment has something in it.
    #[error("the environment is not empty")]
    NotEmpty,
    /// The thing has another revision than the caller expected.
    #[error("the revision is another")]
    RevisionChanged,
    /// No edge is running.
    #[error("no SSH edge is running")]
    NoEdge,
    /// No worker answered a drain's test.
    #[error("no drain worker answered")]
    NoWorker,
    /// Too much of it at once.
    #[error("busy")]
    Busy,
    /// The log stream failed.
    #[error("the log stream failed: {0}")]
    Stream(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something that cannot happen, or a library that failed.
    #[error("{0}")]
    Internal(String),
}

impl From<Vec<FieldError>> for AppError {
    fn from(errors: Vec<FieldError>) -> Self {
        Self::Invalid(errors)
    }
}

/// What every use case works with.
pub(crate) struct App {
    store: Store,
    keys: Keys,
    passwords: Passwords,
    access_tokens: AccessTokens,
    rate_limits: RateLimits,
    refresh_token_lifetime: Duration,
    // A test holds a database connection while it waits.
    drain_tests: Semaphore,
    logs: logs::Logs,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The user.
    pub(crate) account: store::accounts::Account,
}

impl App {
    /// Reads the keys and prepares the rest.
    pub(crate) fn new(config: &Config, store: Store) -> Result<Self, AppStartError> {
        let Settings {
            api_access_token_seconds,
            api_refresh_token_seconds,
            api_sign_ins_per_email,
            api_sign_ins_per_address,
            api_password_checks,
            api_database_connections,
            ..
        } = config.settings;
        let keys = Keys::read(&config.connections)?;
        Ok(Self {
            passwords: Passwords::new(api_password_checks)?,
            access_tokens: AccessTokens::new(
                &keys.jwt,
                Duration::from_secs(api_access_token_seconds),
            ),
            rate_limits: RateLimits::new(api_sign_ins_per_email, api_sign_ins_per_address),
            refresh_token_lifetime: Duration::from_secs(api_refresh_token_seconds),
            drain_tests: Semaphore::new(api_database_connections as usize / 4),
            logs: logs::Logs::new(&config.connections.api_database_url),
            keys,
            store,
        })
    }

    /// Whether the database answers.
    pub(crate) async fn ready(&self) -> Result<(), AppError> {
        tokio::time::timeout(Duration::from_secs(3), self.store.ping())
            .await
            .map_err(|_| AppError::Busy)?
            .map_err(AppError::Store)
    }

    /// Closes the database connections.
    pub(crate) async fn close(&self) {
        self.store.close().await;
    }

    /// The caller's permit for whatever operation the use case demands on a thing.
    pub(crate) async fn permit<O: Operation, T: Subject>(
        &self,
        caller: &Caller,
        id: T::Id,
    ) -> Result<Permit<O, T>, AppError> {
        let user = caller.account.id;
        let (thing, role) = T::find(&self.store, id, user).await?.ok_or(AppError::NotFound)?;
        Ok(Permit::decide(user, role, thing)?)
    }
}

/// The API's use cases cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppStartError {
    /// A key is missing or wrong.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The password hash failed.
    #[error(transparent)]
    Hash(#[from] passwords::HashError),
}

/// A thing that belongs to an organization, found together with the user's role there.
pub(crate) trait Subject: Sized {
    /// What it is found by.
    type Id;

    /// None if it is not there, or the user is no member there.
    fn find(
        store: &Store,
        id: Self::Id,
        user: Id<User>,
    ) -> impl Future<Output = Result<Option<(Self, Role)>, StoreError>>;
}

fn split<T>(held: Option<Held<T>>) -> Option<(T, Role)> {
    held.map(|held| (held.thing, held.role))
}

impl Subject for Id<Organization> {
    // An id or a handle, as it stands in the path.
    type Id = String;

    async fn find(
        store: &Store,
        id: String,
        user: Id<User>,
    ) -> Result<Option<(Self, Role)>, StoreError> {
        // Neither an id nor a handle, and perhaps no text that the database takes.
        if id.parse::<Handle>().is_err() {
            return Ok(None);
        }
        store.organization(&id, user).await
    }
}

macro_rules! subjects {
    ($($thing:ty, $kind:ty, $find:ident;)+) => {
        $(impl Subject for $thing {
            type Id = Id<$kind>;

            async fn find(
                store: &Store,
                id: Id<$kind>,
                user: Id<User>,
            ) -> Result<Option<(Self, Role)>, StoreError> {
                Ok(split(store.$find(id, user).await?))
            }
        })+
    };
}

subjects! {
    store::environments::Environment, Environment, environment;
    store::apps::App, AppKind, app;
    store::databases::Database, Database, database;
    store::log_drains::LogDrain, Drain, log_drain;
    store::log_sources::LogSource, LogSource, log_source;
    store::sessions::EphemeralSession, EphemeralSession, session;
}

/// Tells a taken handle from other failures of the database.
fn handle_taken(constraint: &str) -> impl Fn(StoreError) -> AppError + '_ {
    move |error| {
        if error.violates(constraint) { AppError::HandleTaken } else { AppError::Store(error) }
    }
}

/// A page of a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageRequest {
    /// The id of the last one seen.
    pub(crate) after: Option<uuid::Uuid>,
    /// How many at most.
    pub(crate) limit: i64,
}
