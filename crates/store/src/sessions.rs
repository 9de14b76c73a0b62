//! Ephemeral sessions as the api sees them: asked for, listed, shown. The edge does the rest.

use model::{App, Environment, EphemeralSession as SessionKind, Handle, Id, Organization, User};
use sqlx::FromRow;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::accounts::Held;
use crate::{Store, StoreError};

/// An ephemeral session, with its app's handle and its user's name.
#[derive(Debug, Clone, FromRow)]
pub struct EphemeralSession {
    /// Its id.
    #[sqlx(try_from = "Uuid")]
    pub id: Id<SessionKind>,
    /// Whose it is.
    #[sqlx(try_from = "Uuid")]
    pub organization_id: Id<Organization>,
    /// Where it is.
    #[sqlx(try_from = "Uuid")]
    pub environment_id: Id<Environment>,
    /// Its app.
    #[sqlx(try_from = "Uuid")]
    pub app_id: Id<App>,
    /// Its app's handle now.
    #[sqlx(try_from = "String")]
    pub app: Handle,
    /// Its engineer.
    #[sqlx(try_from = "Uuid")]
    pub user_id: Id<User>,
    /// The engineer's e-mail address now.
    pub user_email: String,
    /// The engineer's name now.
    pub user_name: String,
    /// `requested`, `active`, `ended`, `aborted` or `refused`.
    pub state: String,
    /// Why, in the engineer's words.
    pub reason: Option<String>,
    /// The command, if one was asked for.
    pub command: Option<String>,
    /// The image it ran.
    pub image: Option<String>,
    /// The client's network address.
    pub client_address: Option<String>,
    /// The client's SSH version string.
    pub client_version: Option<String>,
    /// `certificate` or `public_key`.
    pub auth_method: Option<String>,
    /// The fingerprint of the key that signed in.
    pub key_fingerprint: Option<String>,
    /// When it was asked for.
    pub requested_at: OffsetDateTime,
    /// When it began.
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    pub ended_at: Option<OffsetDateTime>,
    /// Why it ended.
    pub end_reason: Option<String>,
    /// Its program's exit status.
    pub exit_code: Option<i64>,
    /// The signal that ended its program.
    pub exit_signal: Option<String>,
    /// Bytes shown.
    pub output_bytes: Option<i64>,
}

/// Which sessions to list; None takes all.
#[derive(Debug, Clone, Default)]
pub struct SessionFilter {
    /// Those in this state.
    pub state: Option<&'static str>,
    /// Those of this user.
    pub user: Option<Id<User>>,
    /// Those of this app.
    pub app: Option<Id<App>>,
}

/// A session that the api has granted and an edge has yet to take.
#[derive(Debug, Clone)]
pub struct RequestedSession {
    /// Its id.
    pub id: Id<SessionKind>,
    /// Its app.
    pub app: Id<App>,
    /// Its engineer.
    pub user: Id<User>,
    /// Why, in the engineer's words.
    pub reason: Option<String>,
    /// The fingerprint of the key that its certificate is for.
    pub key_fingerprint: String,
}

impl Store {
    /// A session in one of the user's organizations.
    pub async fn session(
        &self,
        id: Id<SessionKind>,
        user: Id<User>,
    ) -> Result<Option<Held<EphemeralSession>>, StoreError> {
        let row = sqlx::query(
            "select s.*, a.handle as app, u.email as user_email, u.name as user_name, m.role
             from ephemeral_sessions s
             join apps a on a.id = s.app_id join users u on u.id = s.user_id
             join memberships m on m.organization_id = s.organization_id and m.user_id = $2
             where s.id = $1",
        )
        .bind(id.uuid())
        .bind(user.uuid())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(Held::from_row).transpose()
    }

    /// Sessions of an environment, newest first; `before` is the last one seen.
    pub async fn sessions(
        &self,
        environment: Id<Environment>,
        filter: &SessionFilter,
        before: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<EphemeralSession>, StoreError> {
        Ok(sqlx::query_as(
            "select s.*, a.handle as app, u.email as user_email, u.name as user_name
             from ephemeral_sessions s
             join apps a on a.id = s.app_id join users u on u.id = s.user_id
             where s.environment_id = $1 and ($2::text is null or s.state = $2)
               and ($3::uuid is null or s.user_id = $3) and ($4::uuid is null or s.app_id = $4)
               and ($5::uuid is null or s.id < $5)
             order by s.id desc limit $6",
        )
        .bind(environment.uuid())
        .bind(filter.state)
        .bind(filter.user.map(Id::uuid))
        .bind(filter.app.map(Id::uuid))
        .bind(before)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Keeps a requested session; false if its app is gone.
    pub async fn request_session(&self, session: &RequestedSession) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "insert into ephemeral_sessions (id, organization_id, environment_id, app_id, user_id,
                 state, reason, auth_method, key_fingerprint)
             select $1, e.organization_id, e.id, a.id, $3, 'requested', $4, 'certificate', $5
             from apps a join environments e on e.id = a.environment_id and e.deleted_at is null
             where a.id = $2 and a.deleted_at is null",
        )
        .bind(session.id.uuid())
        .bind(session.app.uuid())
        .bind(session.user.uuid())
        .bind(&session.reason)
        .bind(&session.key_fingerprint)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// `host:port` of every edge that was seen in the last 15 seconds.
    pub async fn live_edge_addresses(&self) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar(
            "select distinct address from edges
             where stopped_at is null and seen_at > now() - interval '15 seconds' order by 1",
        )
        .fetch_all(&self.pool)
        .await?)
    }
}
