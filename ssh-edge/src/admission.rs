//! What may they open? From an identity to a session of an app, or to a refusal.
//!
//! Invariant: what an engineer may not open and what does not exist get the same answer, so that
//! nothing of another organization shows.

use model::{EphemeralSession, Id};
use store::live_sessions::Arrival;
use store::sign_in::{Destination, Engineer};
use store::{Store, StoreError};

use crate::auth::{Identity, parse_target};
use crate::edge::answered;

/// Why there is no session: each is a sentence for the engineer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("there is no such app, or you may not open a session of it")]
    NoAccess,
    #[error(
        "several of your organizations have this app and environment: sign in as app.environment.organization"
    )]
    Ambiguous,
    #[error(
        "sign in as app.environment or app.environment.organization, as in ssh web.production@host"
    )]
    NoTarget,
    #[error("this sign-in has opened its session already, or is too old: ask for a new session")]
    NotRequested,
    #[error("a terminal was not asked for when the session was requested")]
    NoPty,
    #[error("the subsystem {0} is not offered; copy files with scp -O, or through a pipe")]
    Subsystem(String),
    #[error("this edge has as many sessions as it takes: try again later")]
    Full,
    #[error("the control data cannot be read at the moment: try again later")]
    ControlData(#[from] StoreError),
    #[error(
        "the image {image} of the app {app} is not on this host: docker pull it, or change the app's image"
    )]
    NoImage { image: String, app: String },
    #[error("containers cannot be started at the moment: the container runtime does not answer")]
    NoRuntime(#[source] crate::runtime::RuntimeError),
    #[error("records cannot be kept at the moment, so no session is opened: try again later")]
    NoRecords,
    #[error("the app's configuration cannot be opened: set its variables again")]
    Configuration,
    #[error("the session's container could not be started: {0}")]
    NoContainer(String),
    #[error("the SSH edge is stopping")]
    Stopping,
}

/// A session that is open in the control data.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    pub(crate) session: Id<EphemeralSession>,
    pub(crate) engineer: Engineer,
    pub(crate) destination: Destination,
    pub(crate) reason: Option<String>,
}

/// The id under which an identity's next session will run.
pub(crate) fn session_id(identity: &Identity) -> Id<EphemeralSession> {
    match identity {
        Identity::Certificate { session, .. } => *session,
        Identity::Key { .. } => Id::generate(),
    }
}

/// Opens the session in the control data, or refuses it.
pub(crate) async fn admit(
    store: &Store,
    identity: &Identity,
    session: Id<EphemeralSession>,
    arrival: &Arrival,
) -> Result<Admission, Refusal> {
    // A row that is written all the same is closed by the reaper.
    answered(async {
        Ok(match identity {
            Identity::Certificate { .. } => admit_requested(store, session, arrival).await,
            Identity::Key { engineer, user_name, .. } => {
                admit_key(store, engineer, user_name, session, arrival).await
            }
        })
    })
    .await?
}

async fn admit_requested(
    store: &Store,
    session: Id<EphemeralSession>,
    arrival: &Arrival,
) -> Result<Admission, Refusal> {
    let reason = store.claim_session(session, arrival).await?.ok_or(Refusal::NotRequested)?;
    // The role may have changed since the api signed the certificate.
    match store.destination_of_session(session).await? {
        Some((engineer, destination)) if destination.role.opens_sessions() => {
            Ok(Admission { session, engineer, destination, reason })
        }
        _ => {
            let refusal = Refusal::NoAccess;
            store.refuse_session(session, arrival.edge, &refusal.to_string()).await?;
            Err(refusal)
        }
    }
}

async fn admit_key(
    store: &Store,
    engineer: &Engineer,
    user_name: &str,
    session: Id<EphemeralSession>,
    arrival: &Arrival,
) -> Result<Admission, Refusal> {
    let target = parse_target(user_name).ok_or(Refusal::NoTarget)?;
    let mut destinations = store.destinations(engineer.id, &target).await?;
    destinations.retain(|destination| destination.role.opens_sessions());
    let destination = destinations.pop().ok_or(Refusal::NoAccess)?;
    if !destinations.is_empty() {
        return Err(Refusal::Ambiguous);
    }
    store.begin_session(session, engineer, &destination, arrival).await?;
    Ok(Admission { session, engineer: engineer.clone(), destination, reason: None })
}
