//! From a request to a running program, step by step; every step can refuse.
//!
//! Order: the row, so that an auditor sees the attempt; the image, so that a refusal is cheap; the
//! first record, durable before anything runs; the container; the program.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use guest_protocol::{FromEdge, Program};
use model::{
    EphemeralSession, Event, Id, Origin, SessionStarted, SessionTag, Source, TerminalSize,
};
use store::live_sessions::{Arrival, End};

use super::client::Client;
use super::guest_link::{GuestLink, LinkError, Rendezvous};
use super::requests::{Start, Wanted};
use super::{Closing, Visit, close_row, error_chain};
use crate::admission::{Admission, Refusal, admit};
use crate::auth::Identity;
use crate::edge::{Appending, Edge, answered};
use crate::gate::Durable;
use crate::recorder::Recorder;
use crate::runtime::Container;

const RECORD_DEADLINE: Duration = Duration::from_secs(4);
const GREETING_DEADLINE: Duration = Duration::from_secs(20);

/// A session whose guest has been told what to run.
pub(crate) struct Opened {
    pub(crate) admission: Admission,
    pub(crate) recorder: Recorder,
    pub(crate) link: GuestLink,
    pub(crate) began: Instant,
}

/// Opens a session, or tells the client why not and closes what it had begun.
pub(crate) async fn open(
    edge: &Edge,
    visit: &Visit,
    session: Id<EphemeralSession>,
    start: Start,
    client: &Client,
) -> Option<Opened> {
    match begin(edge, visit, session, &start).await {
        Ok((admission, program, recorder)) => {
            let began = Instant::now();
            match launch(edge, &admission, start, program).await {
                Ok(link) => return Some(Opened { admission, recorder, link, began }),
                Err(refusal) => {
                    tell(session, client, &refusal).await;
                    edge.remove_container(session).await;
                    close(edge, session, recorder, &refusal, began).await;
                }
            }
        }
        Err(Unopened { refusal, admitted, last_record }) => {
            tell(session, client, &refusal).await;
            // The first records may yet become durable. The session stays live until it is certain
            // that nothing of it comes after its end.
            let is_kept = match last_record {
                Some(last_record) => last_record.await.is_ok(),
                None => true,
            };
            if admitted && is_kept {
                close_row(edge, session, &Closing::Refused(refusal.to_string())).await;
            }
        }
    }
    None
}

/// A session that was refused before anything was started.
struct Unopened {
    refusal: Refusal,
    /// Whether it has a row.
    admitted: bool,
    /// The last one submitted, unless nothing was or can be recorded.
    last_record: Option<Durable>,
}

impl From<Refusal> for Unopened {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, admitted: false, last_record: None }
    }
}

/// Everything before something is started.
async fn begin(
    edge: &Edge,
    visit: &Visit,
    session: Id<EphemeralSession>,
    start: &Start,
) -> Result<(Admission, Program, Recorder), Unopened> {
    let program = wanted(visit, start)?;
    if edge.tasks.is_requested() {
        return Err(Refusal::Stopping.into());
    }
    let appending = edge.appending();
    let arrival = arrival(edge, &appending, visit, &program);
    let admission = admit(&edge.store, &visit.identity, session, &arrival).await?;
    let mut recorder = Recorder::new(appending.gate, origin(&admission));
    match prepare(edge, visit, &admission, start, &mut recorder).await {
        Ok(()) => Ok((admission, program, recorder)),
        Err((refusal, last_record)) => Err(Unopened { refusal, admitted: true, last_record }),
    }
}

async fn tell(session: Id<EphemeralSession>, client: &Client, refusal: &Refusal) {
    tracing::info!(%session, reason = error_chain(refusal), "session refused");
    client.refuse(refusal).await;
}

/// Closes a session that has been recorded as started and has not run.
async fn close(
    edge: &Edge,
    session: Id<EphemeralSession>,
    mut recorder: Recorder,
    refusal: &Refusal,
    began: Instant,
) {
    let reason = refusal.to_string();
    let ended = Event::SessionEnded {
        reason: reason.clone(),
        aborted: true,
        output_bytes: 0,
        duration: began.elapsed(),
    };
    if try_join_all(recorder.record([ended])).await.is_ok() {
        let end = End { aborted: true, reason, exit: None, output_bytes: Some(0) };
        close_row(edge, session, &Closing::Ended(end)).await;
    }
}

fn wanted(visit: &Visit, start: &Start) -> Result<Program, Refusal> {
    if let Identity::Certificate { may_have_pty: false, .. } = visit.identity
        && start.pty.is_some()
    {
        return Err(Refusal::NoPty);
    }
    match &start.wanted {
        Wanted::Program(program) => Ok(program.clone()),
        Wanted::Subsystem(name) => {
            let name = name.chars().filter(|c| !c.is_control()).take(64).collect();
            Err(Refusal::Subsystem(name))
        }
    }
}

fn arrival(edge: &Edge, appending: &Appending, visit: &Visit, program: &Program) -> Arrival {
    Arrival {
        edge: edge.id(),
        appender: appending.appender(),
        client_address: visit.client_address.clone(),
        client_version: visit.client_version.clone(),
        auth_method: visit.identity.method(),
        key_fingerprint: visit.identity.fingerprint().to_owned(),
        command: match program {
            Program::Shell => None,
            Program::Command(command) => Some(String::from_utf8_lossy(command).into_owned()),
        },
    }
}

fn origin(admission: &Admission) -> Origin {
    Origin {
        producer: admission.session.producer(),
        source: Source::EphemeralSession,
        environment: admission.destination.environment.clone(),
        app: Some(admission.destination.app.clone()),
        database: None,
        session: Some(SessionTag {
            id: admission.session,
            user: admission.engineer.id,
            user_email: admission.engineer.email.clone(),
            user_name: admission.engineer.name.clone(),
        }),
    }
}

/// Everything that can refuse before something runs: the image, and the first records.
async fn prepare(
    edge: &Edge,
    visit: &Visit,
    admission: &Admission,
    start: &Start,
    recorder: &mut Recorder,
) -> Result<(), (Refusal, Option<Durable>)> {
    let image = &admission.destination.image;
    match edge.runtime.has_image(image).await {
        Ok(true) => {}
        Ok(false) => {
            let app = admission.destination.app.handle.to_string();
            return Err((Refusal::NoImage { image: image.clone(), app }, None));
        }
        Err(error) => return Err((Refusal::NoRuntime(error), None)),
    }
    let began = Instant::now();
    let durable = try_join_all(recorder.record(first_events(visit, admission, start)));
    match tokio::time::timeout(RECORD_DEADLINE, durable).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err((Refusal::NoRecords, None)),
        Err(_) => {
            let ended = Event::SessionEnded {
                reason: Refusal::NoRecords.to_string(),
                aborted: true,
                output_bytes: 0,
                duration: began.elapsed(),
            };
            Err((Refusal::NoRecords, recorder.record([ended]).pop()))
        }
    }
}

fn first_events(visit: &Visit, admission: &Admission, start: &Start) -> Vec<Event> {
    let mut events = vec![Event::SessionStarted(Box::new(SessionStarted {
        image: admission.destination.image.clone(),
        client_address: visit.client_address.clone(),
        client_version: visit.client_version.clone(),
        auth_method: visit.identity.method().to_owned(),
        key_fingerprint: visit.identity.fingerprint().to_owned(),
        reason: admission.reason.clone(),
    }))];
    events.extend(start.pty.as_ref().map(|pty| Event::Pty {
        term: pty.term.clone(),
        size: TerminalSize { columns: pty.columns.into(), rows: pty.rows.into() },
    }));
    events.extend(start.environment.iter().map(|(name, _)| Event::Env { name: name.clone() }));
    events.extend(match &start.wanted {
        Wanted::Program(Program::Shell) => Some(Event::Shell),
        Wanted::Program(Program::Command(command)) => {
            Some(Event::Exec { command: command.clone() })
        }
        Wanted::Subsystem(_) => None,
    });
    events
}

/// Starts the container and tells its guest what to run.
async fn launch(
    edge: &Edge,
    admission: &Admission,
    start: Start,
    program: Program,
) -> Result<GuestLink, Refusal> {
    let app = &admission.destination.app;
    let mut environment = start.environment;
    // The app's own variables come last: they win over what the client sends.
    for (name, sealed) in answered(edge.store.app_variables(app.id)).await? {
        let value =
            edge.opening_key.open(app.id.uuid(), &sealed).map_err(|_| Refusal::Configuration)?;
        environment.push((name, value.expose().clone()));
    }
    let no_container = |error: LinkError| Refusal::NoContainer(error.to_string());
    let rendezvous =
        Rendezvous::listen(edge.directory.socket(admission.session)).map_err(no_container)?;
    let container = Container {
        session: admission.session,
        edge: edge.id(),
        environment: admission.destination.environment.id,
        image: admission.destination.image.clone(),
        hostname: app.handle.to_string(),
        limits: admission.destination.limits,
        socket: rendezvous.path().to_owned(),
        guest: edge.directory.guest(),
        token: rendezvous.token().clone(),
    };
    edge.runtime.start(&container).await.map_err(|error| {
        tracing::error!(session = %admission.session, %error, "a container was not started");
        Refusal::NoContainer("the container runtime refused it".to_owned())
    })?;
    let accepted = tokio::time::timeout(GREETING_DEADLINE, rendezvous.accept()).await;
    let mut link = accepted
        .map_err(|_| Refusal::NoContainer("it did not report in time".to_owned()))?
        .map_err(no_container)?;
    let frame = FromEdge::Start { program, environment, pty: start.pty };
    link.send(&frame).map_err(no_container)?;
    Ok(link)
}
