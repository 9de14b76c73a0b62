//! Ephemeral sessions: asked for here, held by an edge.

use model::{App as AppKind, Id, User};
use russh::keys::HashAlg;
use serde::Deserialize;
use store::apps::App as StoredApp;
use store::environments::Environment;
use store::sessions::{EphemeralSession, RequestedSession, SessionFilter};
use utoipa::ToSchema;

use crate::app::{App, AppError, Caller, PageRequest, Subject as _, certificates, me};
use crate::authz::{OpenSessions, Permit, ReadAllSessions, ReadOwnSessions};
use model::validation::Checks;

/// A session to open.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSession {
    /// The public half of a key that the client made for this session alone, as an OpenSSH line.
    public_key: String,
    /// Why the session is needed, 1 to 1000 characters; it is recorded.
    reason: Option<String>,
}

/// A session's state.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SessionState {
    /// Granted; no edge has it yet.
    Requested,
    /// An edge has it.
    Active,
    /// It is over.
    Ended,
    /// It was cut off.
    Aborted,
    /// It never began.
    Refused,
}

/// Which sessions to list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Those in this state.
    pub(crate) state: Option<SessionState>,
    /// Those of this user.
    pub(crate) user: Option<Id<User>>,
    /// Those of this app.
    pub(crate) app: Option<Id<AppKind>>,
}

/// A granted session and what a client needs to enter it.
pub(crate) struct Granted {
    /// The session.
    pub(crate) session: EphemeralSession,
    /// The client's certificate, as an OpenSSH line.
    pub(crate) certificate: String,
    /// The authority that edges' host certificates are from, as an OpenSSH line.
    pub(crate) host_authority: String,
    /// `host:port` of the edges that are running.
    pub(crate) addresses: Vec<String>,
}

impl SessionState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Active => "active",
            Self::Ended => "ended",
            Self::Aborted => "aborted",
            Self::Refused => "refused",
        }
    }
}

/// Grants a session: an edge lets its certificate in once.
pub(crate) async fn open(
    app: &App,
    caller: &Caller,
    permit: Permit<OpenSessions, StoredApp>,
    request: NewSession,
) -> Result<Granted, AppError> {
    let mut checks = Checks::default();
    if let Some(reason) = &request.reason {
        checks.text(reason, "reason", 1000);
    }
    let key = checks.keep(me::parse_public_key(&request.public_key));
    checks.finish()?;
    let key = key.ok_or_else(|| AppError::Internal("a key without error is none".to_owned()))?;
    let addresses = app.store.live_edge_addresses().await?;
    if addresses.is_empty() {
        return Err(AppError::NoEdge);
    }
    let id = Id::generate();
    let certificate = certificates::sign(&app.keys.user_ca, &key, id)?;
    let host_authority =
        app.keys.host_ca.to_openssh().map_err(|error| {
            AppError::Internal(format!("cannot write the host authority: {error}"))
        })?;
    let kept = app
        .store
        .request_session(&RequestedSession {
            id,
            app: permit.thing().id,
            user: permit.user(),
            reason: request.reason,
            key_fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
        })
        .await?;
    if !kept {
        return Err(AppError::NotFound);
    }
    let (session, _) = EphemeralSession::find(&app.store, id, caller.account.id)
        .await?
        .ok_or(AppError::NotFound)?;
    Ok(Granted { session, certificate, host_authority, addresses })
}

/// Sessions of an environment, newest first; those of others for roles that may see them.
pub(crate) async fn list(
    app: &App,
    permit: Permit<ReadOwnSessions, Environment>,
    wanted: Wanted,
    page: PageRequest,
) -> Result<Vec<EphemeralSession>, AppError> {
    let mut filter = SessionFilter {
        state: wanted.state.map(SessionState::as_str),
        user: wanted.user,
        app: wanted.app,
    };
    if !permit.also::<ReadAllSessions>() {
        if wanted.user.is_some_and(|user| user != permit.user()) {
            return Ok(Vec::new());
        }
        filter.user = Some(permit.user());
    }
    Ok(app.store.sessions(permit.thing().id, &filter, page.after, page.limit).await?)
}

/// Shows a session.
pub(crate) fn show(
    permit: Permit<ReadOwnSessions, EphemeralSession>,
) -> Result<EphemeralSession, AppError> {
    if permit.thing().user_id != permit.user() && !permit.also::<ReadAllSessions>() {
        return Err(AppError::NotFound);
    }
    Ok(permit.into_thing())
}
