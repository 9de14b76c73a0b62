//! Sessions as the edge sees them: begin, end, orphans.
//!
//! Invariant: a session is active once, on one edge; only that edge, or one that has taken it over
//! from a dead edge, closes it, and it is closed once.

use model::{
    AppTag, Appender, Edge, EnvironmentTag, EphemeralSession, ExitStatus, Id, Origin, SessionTag,
    Source, Timestamp,
};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::edges::DEAD_AFTER;
use crate::sign_in::{Destination, Engineer, handle};
use crate::{Store, StoreError};

/// How and from where an engineer came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The edge that has the connection.
    pub edge: Id<Edge>,
    /// Who appends the session's records.
    pub appender: Id<Appender>,
    /// The client's network address.
    pub client_address: String,
    /// The client's SSH version string.
    pub client_version: String,
    /// `certificate` or `public_key`.
    pub auth_method: &'static str,
    /// As `SHA256:...`.
    pub key_fingerprint: String,
    /// The command line; `None` for a shell.
    pub command: Option<String>,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Whether it ended otherwise than by its program's or its client's will.
    pub aborted: bool,
    /// Why, in words.
    pub reason: String,
    /// How its program ended, if it did.
    pub exit: Option<ExitStatus>,
    /// Bytes shown, if known.
    pub output_bytes: Option<u64>,
}

/// An active session that no living edge has.
#[derive(Debug, Clone)]
pub struct Orphan {
    /// The session.
    pub id: Id<EphemeralSession>,
    /// The dead edge.
    pub edge: Id<Edge>,
    /// Who appended its records, or was the last to try.
    pub appender: Option<Id<Appender>>,
    /// When it began.
    pub started_at: Timestamp,
    /// Where its records come from.
    pub origin: Origin,
}

impl Store {
    /// Takes a requested session for an edge; `Some(reason given by the engineer)` once, and `None`
    /// if it is not requested, taken already, or requested too long ago.
    pub async fn claim_session(
        &self,
        session: Id<EphemeralSession>,
        arrival: &Arrival,
    ) -> Result<Option<Option<String>>, StoreError> {
        let claimed = sqlx::query_scalar(
            "update ephemeral_sessions s set state = 'active', edge_id = $2, appender_id = $8,
                 started_at = now(),
                 image = (select a.image from apps a where a.id = s.app_id),
                 client_address = $3, client_version = $4, auth_method = $5, key_fingerprint = $6,
                 command = coalesce($7, command)
             where id = $1 and state = 'requested' and requested_at > now() - interval '2 minutes'
             returning reason",
        )
        .bind(session.uuid())
        .bind(arrival.edge.uuid())
        .bind(&arrival.client_address)
        .bind(storable(&arrival.client_version))
        .bind(arrival.auth_method)
        .bind(&arrival.key_fingerprint)
        .bind(arrival.command.as_deref().map(storable))
        .bind(arrival.appender.uuid())
        .fetch_optional(&self.pool)
        .await?;
        Ok(claimed)
    }

    /// Begins a session that no api has seen.
    pub async fn begin_session(
        &self,
        session: Id<EphemeralSession>,
        engineer: &Engineer,
        destination: &Destination,
        arrival: &Arrival,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "insert into ephemeral_sessions (id, organization_id, environment_id, app_id, user_id,
                 state, command, edge_id, image, client_address, client_version, auth_method,
                 key_fingerprint, appender_id, started_at)
             values ($1, $2, $3, $4, $5, 'active', $6, $7, $8, $9, $10, $11, $12, $13, now())",
        )
        .bind(session.uuid())
        .bind(destination.organization.uuid())
        .bind(destination.environment.id.uuid())
        .bind(destination.app.id.uuid())
        .bind(engineer.id.uuid())
        .bind(arrival.command.as_deref().map(storable))
        .bind(arrival.edge.uuid())
        .bind(&destination.image)
        .bind(&arrival.client_address)
        .bind(storable(&arrival.client_version))
        .bind(arrival.auth_method)
        .bind(&arrival.key_fingerprint)
        .bind(arrival.appender.uuid())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Closes a session of this edge's that never began.
    pub async fn refuse_session(
        &self,
        session: Id<EphemeralSession>,
        edge: Id<Edge>,
        reason: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "update ephemeral_sessions set state = 'refused', ended_at = now(), end_reason = $3
             where id = $1 and state = 'active' and edge_id = $2",
        )
        .bind(session.uuid())
        .bind(edge.uuid())
        .bind(storable(reason))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Closes a session of this edge's; false if it was closed or taken over before.
    pub async fn end_session(
        &self,
        session: Id<EphemeralSession>,
        edge: Id<Edge>,
        end: &End,
    ) -> Result<bool, StoreError> {
        let (code, signal) = match &end.exit {
            Some(ExitStatus::Code(code)) => (Some(i64::from(*code)), None),
            Some(ExitStatus::Signal { name, .. }) => (None, Some(storable(name))),
            None => (None, None),
        };
        let done = sqlx::query(
            "update ephemeral_sessions set state = $3, ended_at = now(), end_reason = $4,
                 exit_code = $5, exit_signal = $6, output_bytes = $7
             where id = $1 and state = 'active' and edge_id = $2",
        )
        .bind(session.uuid())
        .bind(edge.uuid())
        .bind(if end.aborted { "aborted" } else { "ended" })
        .bind(storable(&end.reason))
        .bind(code)
        .bind(signal)
        .bind(end.output_bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)))
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Closes requests that no client came for.
    pub async fn expire_requested_sessions(&self) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "update ephemeral_sessions set state = 'refused', ended_at = now(),
                 end_reason = 'the client did not connect in time'
             where state = 'requested' and requested_at < now() - interval '2 minutes'",
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }

    /// Active sessions of this edge that are not among its `live` ones: its earlier life's.
    pub async fn own_orphans(
        &self,
        edge: Id<Edge>,
        live: &[Id<EphemeralSession>],
    ) -> Result<Vec<Orphan>, StoreError> {
        let live: Vec<Uuid> = live.iter().map(|id| id.uuid()).collect();
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "{ORPHAN} where s.state = 'active' and s.edge_id = $1 and s.id <> all($2) limit 100"
        )))
        .bind(edge.uuid())
        .bind(live)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(orphan).collect()
    }

    /// Active sessions of dead edges.
    pub async fn orphans_of_dead_edges(&self) -> Result<Vec<Orphan>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "{ORPHAN} join edges d on d.id = s.edge_id
             where s.state = 'active' and d.seen_at < now() - make_interval(secs => $1) limit 100"
        )))
        .bind(DEAD_AFTER.as_secs_f64())
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(orphan).collect()
    }

    /// Those of `sessions` that another edge has taken over or closed.
    pub async fn lost_sessions(
        &self,
        edge: Id<Edge>,
        sessions: &[Id<EphemeralSession>],
    ) -> Result<Vec<Id<EphemeralSession>>, StoreError> {
        let sessions: Vec<Uuid> = sessions.iter().map(|id| id.uuid()).collect();
        let lost = sqlx::query_scalar(
            "select id from ephemeral_sessions where id = any($2) and edge_id <> $1",
        )
        .bind(edge.uuid())
        .bind(sessions)
        .fetch_all(&self.pool)
        .await?;
        Ok(lost.into_iter().map(Id::from_uuid).collect())
    }

    /// Gives an orphan to `edge`, for it to close under the name of `appender`; false if another was
    /// first. Whoever does so has fenced off the orphan's last appender.
    pub async fn take_over_session(
        &self,
        orphan: &Orphan,
        edge: Id<Edge>,
        appender: Id<Appender>,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "update ephemeral_sessions set edge_id = $4, appender_id = $5
             where id = $1 and state = 'active' and edge_id = $2
                 and appender_id is not distinct from $3",
        )
        .bind(orphan.id.uuid())
        .bind(orphan.edge.uuid())
        .bind(orphan.appender.map(Id::uuid))
        .bind(edge.uuid())
        .bind(appender.uuid())
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }
}

const ORPHAN: &str =
    "select s.id, s.edge_id, s.appender_id, s.started_at, s.organization_id, s.environment_id,
        e.handle as environment_handle, s.app_id, a.handle as app_handle, s.user_id, u.email, u.name
    from ephemeral_sessions s
    join environments e on e.id = s.environment_id
    join apps a on a.id = s.app_id
    join users u on u.id = s.user_id";

fn orphan(row: &PgRow) -> Result<Orphan, StoreError> {
    let id = Id::<EphemeralSession>::from_uuid(row.try_get("id")?);
    let started_at: Option<time::OffsetDateTime> = row.try_get("started_at")?;
    let nanos = started_at.map_or(0, time::OffsetDateTime::unix_timestamp_nanos);
    Ok(Orphan {
        id,
        edge: Id::from_uuid(row.try_get("edge_id")?),
        appender: row.try_get::<Option<Uuid>, _>("appender_id")?.map(Id::from_uuid),
        started_at: Timestamp::from_nanos(u64::try_from(nanos).unwrap_or(0)),
        origin: Origin {
            producer: id.producer(),
            source: Source::EphemeralSession,
            environment: EnvironmentTag {
                id: Id::from_uuid(row.try_get("environment_id")?),
                handle: handle(row, "environment_handle")?,
                organization: Id::from_uuid(row.try_get("organization_id")?),
            },
            app: Some(AppTag {
                id: Id::from_uuid(row.try_get("app_id")?),
                handle: handle(row, "app_handle")?,
            }),
            database: None,
            session: Some(SessionTag {
                id,
                user: Id::from_uuid(row.try_get("user_id")?),
                user_email: row.try_get("email")?,
                user_name: row.try_get("name")?,
            }),
        },
    })
}

/// PostgreSQL's text has no NUL, and a row is no place for megabytes.
fn storable(text: &str) -> String {
    text.chars().filter(|&c| c != '\0').take(4096).collect()
}
