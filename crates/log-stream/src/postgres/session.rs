//! One connection to PostgreSQL, and what its failures mean.
//!
//! Invariants: every wait for the server has a deadline, on both sides; a commit on such a connection
//! is flushed before it is acknowledged, whatever the server's default is.

use std::fmt;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use model::Secret;
use tokio::task::JoinSet;
use tokio_postgres::error::{DbError, Severity, SqlState};
use tokio_postgres::types::ToSql;
use tokio_postgres::{
    AsyncMessage, Client, Config, NoTls, Notification, Row, Statement, ToStatement,
};

use super::ConnectError;
use crate::{AppendError, ReadError};

/// A server that was reached and then went silent is noticed after this, between statements too.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Makes connections.
#[derive(Clone)]
pub(super) struct Dialer {
    config: Config,
    deadline: Duration,
}

/// An open connection, closed when dropped.
pub(super) struct Session {
    client: Client,
    connection: JoinSet<()>,
    deadline: Duration,
}

/// Why a statement did not succeed.
#[derive(Debug)]
pub(super) struct Failure {
    /// The server answered with an error, so the statement has had no effect.
    pub(super) refused: bool,
    /// The appender may append no more.
    fenced: bool,
    code: Option<SqlState>,
    message: String,
}

impl Dialer {
    pub(super) fn new(url: &Secret<String>, deadline: Duration) -> Result<Self, ConnectError> {
        let config = url.expose().parse::<Config>();
        let mut config =
            config.map_err(|error| ConnectError::InvalidUrl(Failure::from(error).message))?;
        if config.get_application_name().is_none() {
            config.application_name("spillway stream");
        }
        config.keepalives_idle(KEEPALIVE).tcp_user_timeout(deadline + KEEPALIVE);
        Ok(Self { config, deadline })
    }

    /// Whether the stream can be used.
    pub(super) async fn check(&self) -> Result<(), ConnectError> {
        let check = async {
            let session = self.dial().await?;
            session.batch("select from stream.blocks limit 0").await
        };
        check.await.map_err(|failure: Failure| match failure.code {
            Some(SqlState::UNDEFINED_TABLE | SqlState::INVALID_SCHEMA_NAME) => {
                ConnectError::NotMigrated
            }
            _ => ConnectError::Unavailable(failure.message),
        })
    }

    pub(super) const fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(super) async fn dial(&self) -> Result<Session, Failure> {
        self.dial_and_hear(|_| {}).await
    }

    /// A connection whose notifications go to `hear`.
    pub(super) async fn dial_and_hear<F>(&self, mut hear: F) -> Result<Session, Failure>
    where
        F: FnMut(Notification) + Send + 'static,
    {
        let dialled = tokio::time::timeout(self.deadline, self.config.connect(NoTls)).await;
        let (client, mut socket) = dialled.map_err(|_| Failure::late(self.deadline))??;
        let mut connection = JoinSet::new();
        connection.spawn(async move {
            let mut messages = stream::poll_fn(move |context| socket.poll_message(context));
            // An error is reported to the statement that waits for an answer.
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notification(notification) = message {
                    hear(notification);
                }
            }
        });
        let session = Session { client, connection, deadline: self.deadline };
        // A stronger setting than `on` is the operator's choice and stays. One plan serves all
        // positions; making one for each costs more than it runs when there are many days.
        let set_up = format!(
            "set statement_timeout = {}; set default_transaction_isolation = 'read committed'; \
             set plan_cache_mode = force_generic_plan; \
             select set_config('synchronous_commit', 'on', false) \
             where current_setting('synchronous_commit') in ('off', 'local')",
            self.deadline.as_millis(),
        );
        session.batch(&set_up).await?;
        Ok(session)
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Waits until the connection is closed.
    pub(super) async fn closed(mut self) {
        self.connection.join_next().await;
    }

    pub(super) async fn prepare(&self, statement: &str) -> Result<Statement, Failure> {
        self.within(self.client.prepare(statement)).await
    }

    pub(super) async fn batch(&self, statements: &str) -> Result<(), Failure> {
        self.within(self.client.batch_execute(statements)).await
    }

    /// Returns after the server is ready for the next statement, so after the commit.
    pub(super) async fn execute<T: ?Sized + ToStatement>(
        &self,
        statement: &T,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<(), Failure> {
        self.within(self.client.execute(statement, parameters)).await.map(|_| ())
    }

    pub(super) async fn query<T: ?Sized + ToStatement>(
        &self,
        statement: &T,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failure> {
        self.within(self.client.query(statement, parameters)).await
    }

    /// Waits for an answer no longer than the deadline. After that, drop the session: the server
    /// ends a statement that runs this long by itself.
    async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        let answer = tokio::time::timeout(self.deadline, answer).await;
        Ok(answer.map_err(|_| Failure::late(self.deadline))??)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

impl Failure {
    pub(super) fn unknown(message: &str) -> Self {
        Self { refused: false, fenced: false, code: None, message: message.to_owned() }
    }

    pub(super) fn fenced() -> Self {
        Self { fenced: true, ..Self::unknown("the appender is fenced off") }
    }

    pub(super) fn late(deadline: Duration) -> Self {
        Self::unknown(&format!("no answer within {deadline:?}"))
    }

    /// There is no partition for the block's day.
    pub(super) fn lacks_partition(&self) -> bool {
        self.code == Some(SqlState::CHECK_VIOLATION)
    }

    /// The same, for another who waits for the same statement.
    pub(super) fn again(&self) -> Self {
        Self {
            refused: self.refused,
            fenced: self.fenced,
            code: self.code.clone(),
            message: self.message.clone(),
        }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(answer) = error.as_db_error() {
            return Self {
                // A fatal error may come after the commit: a server that stops, for example.
                refused: answer.parsed_severity() == Some(Severity::Error),
                fenced: false,
                code: Some(answer.code().clone()),
                message: describe(answer),
            };
        }
        let mut message = error.to_string();
        if let Some(cause) = std::error::Error::source(&error) {
            message = format!("{message}: {cause}");
        }
        Self { refused: false, fenced: false, code: None, message }
    }
}

/// Without the detail, in which PostgreSQL quotes the row.
fn describe(answer: &DbError) -> String {
    format!("{} (SQLSTATE {})", answer.message(), answer.code().code())
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Failure> for AppendError {
    fn from(failure: Failure) -> Self {
        if failure.fenced {
            Self::Fenced
        } else if failure.refused {
            Self::Refused(failure.message)
        } else {
            Self::Unknown(failure.message)
        }
    }
}

impl From<Failure> for ReadError {
    fn from(failure: Failure) -> Self {
        Self::Unavailable(failure.message)
    }
}
