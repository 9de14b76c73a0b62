//! One client's connection: russh's callbacks.
//!
//! Invariant: a callback runs inside the connection's loop, so it hands work off and does not wait
//! on a session. (Sign-in waits on the database: nothing else goes on then.)

mod channels;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use guest_protocol::{Program, Pty};
use russh::keys::ssh_key::Certificate;
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, MethodKind, MethodSet, Sig};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use crate::admission::Refusal;
use crate::auth::{Identity, check_certificate, check_key, is_acceptable, names_a_session};
use crate::edge::Edge;
use crate::session::client::Client;
use crate::session::inbox::Notice;
use crate::session::requests::{Start, Wanted};
use crate::session::{Visit, serve};
use channels::Channels;

/// The most session channels of one connection at a time.
pub(crate) const MAX_CHANNELS: u32 = 10;

const FAREWELL_DEADLINE: Duration = Duration::from_secs(1);

/// The connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error(transparent)]
    Protocol(#[from] russh::Error),
    #[error("the client sent more input than its windows allow")]
    WindowIgnored,
}

/// Whether keys cannot be looked up, and the client's farewell is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoKeys {
    No,
    Found,
    Told,
}

/// What the connection's task and its callbacks both know.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Whether the client has signed in.
    pub(crate) signed_in: watch::Sender<bool>,
    /// Whether it has tried to.
    pub(crate) tried: AtomicBool,
    /// Set when keys cannot be looked up: the connection is to be ended with a sentence.
    pub(crate) no_keys: watch::Sender<NoKeys>,
    /// One permit for each session channel.
    pub(crate) channels: Arc<Semaphore>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            signed_in: watch::Sender::new(false),
            tried: AtomicBool::new(false),
            no_keys: watch::Sender::new(NoKeys::No),
            channels: Arc::new(Semaphore::new(MAX_CHANNELS as usize)),
        }
    }
}

/// The callbacks' state.
pub(crate) struct Connection {
    edge: Arc<Edge>,
    client_address: SocketAddr,
    progress: Arc<Progress>,
    identity: Option<Identity>,
    visit: Option<Arc<Visit>>,
    channels: Channels,
}

impl Connection {
    pub(crate) fn new(
        edge: Arc<Edge>,
        client_address: SocketAddr,
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            edge,
            client_address,
            progress,
            identity: None,
            visit: None,
            channels: Channels::new(),
        }
    }

    fn admit(&mut self, identity: Option<Identity>) -> Auth {
        self.progress.tried.store(true, Ordering::Relaxed);
        self.identity = identity;
        if self.identity.is_some() { Auth::Accept } else { reject() }
    }

    /// Has the connection's task end the connection with a sentence, before anything more is read.
    async fn farewell(&self) {
        self.progress.no_keys.send_replace(NoKeys::Found);
        let mut told = self.progress.no_keys.subscribe();
        drop(timeout(FAREWELL_DEADLINE, told.wait_for(|&state| state == NoKeys::Told)).await);
    }

    fn answer(
        channel: ChannelId,
        accepted: bool,
        session: &mut Session,
    ) -> Result<(), ConnectionError> {
        if accepted {
            session.channel_success(channel)?;
        } else {
            session.channel_failure(channel)?;
        }
        Ok(())
    }

    fn start(
        &mut self,
        id: ChannelId,
        wanted: Wanted,
        session: &mut Session,
    ) -> Result<(), ConnectionError> {
        let started = self.channels.start(id, wanted);
        Self::answer(id, started.is_some(), session)?;
        if let (Some((start, (channel, permit), inbox)), Some(visit)) = (started, &self.visit) {
            let connection = session.handle();
            let has_pty = start.pty.is_some();
            let is_showing = AtomicBool::new(false);
            let client = Client { inbox, channel, connection, has_pty, is_showing };
            self.spawn(visit.clone(), start, client, permit);
        }
        Ok(())
    }

    fn spawn(&self, visit: Arc<Visit>, start: Start, client: Client, permit: OwnedSemaphorePermit) {
        let edge = self.edge.clone();
        let Ok(place) = edge.sessions.clone().try_acquire_owned() else {
            self.edge.tasks.spawn(async move {
                client.refuse(&Refusal::Full).await;
                drop(permit);
            });
            return;
        };
        self.edge.tasks.spawn(async move {
            serve(edge, visit, start, client).await;
            drop((place, permit));
        });
    }
}

impl Handler for Connection {
    type Error = ConnectionError;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        self.progress.tried.store(true, Ordering::Relaxed);
        if !is_acceptable(offer.algorithm) {
            return Ok(reject());
        }
        // For a certificate, russh asks with its bare key; it is checked when the key is proven.
        let known = names_a_session(user)
            || match check_key(&self.edge.store, offer.public_key, user).await {
                Ok(owner) => owner.is_some(),
                Err(error) => {
                    tracing::error!(%error, "a key could not be looked up; nobody is let in");
                    // The answer to an offer lets nobody in. After a refusal the client would say
                    // `Permission denied` and go, before it reads why.
                    self.farewell().await;
                    true
                }
            };
        Ok(if known { Auth::Accept } else { reject() })
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        let identity = if is_acceptable(key.algorithm) && !names_a_session(user) {
            check_key(&self.edge.store, key.public_key, user).await.unwrap_or_else(|error| {
                tracing::error!(%error, "a key could not be looked up; its owner was not let in");
                None
            })
        } else {
            None
        };
        Ok(self.admit(identity))
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Self::Error> {
        let now = SystemTime::now();
        let identity = check_certificate(certificate, user, &self.edge.authority, now);
        Ok(self.admit(identity))
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        let version = String::from_utf8_lossy(session.remote_sshid());
        let client_version: String =
            version.chars().filter(|c| !c.is_control()).take(255).collect();
        if let Some(identity) = self.identity.take() {
            if let Identity::Key { key, .. } = identity {
                let store = self.edge.store.clone();
                self.edge.tasks.spawn(async move {
                    if let Err(error) = store.ssh_key_used(key).await {
                        tracing::warn!(%key, %error, "the key's last use was not written");
                    }
                });
            }
            let client_address = self.client_address.to_string();
            self.visit = Some(Arc::new(Visit { identity, client_address, client_version }));
        }
        self.progress.signed_in.send_replace(true);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Ok(permit) = self.progress.channels.clone().try_acquire_owned() else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        let id = channel.id();
        // The reading half is dropped: input comes through `data`, which never blocks the loop.
        let (_, output) = channel.split();
        self.channels.open(id, (output, permit));
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channels.close(channel);
        Ok(())
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channels.end_input(channel);
        Ok(())
    }

    fn adjust_window(&mut self, channel: ChannelId, _current: u32) -> u32 {
        self.channels.target(channel)
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.channels.input(channel, data).await {
            Ok(())
        } else {
            Err(ConnectionError::WindowIgnored)
        }
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        _pixel_width: u32,
        _pixel_height: u32,
        modes: &[(russh::Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let pty = Pty {
            term: term.to_owned(),
            columns: cells(columns),
            rows: cells(rows),
            modes: modes.iter().map(|&(code, value)| (code as u8, value)).collect(),
        };
        let accepted = self.channels.requests(channel).is_some_and(|requests| requests.pty(pty));
        Self::answer(channel, accepted, session)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let accepted =
            self.channels.requests(channel).is_some_and(|requests| requests.variable(name, value));
        Self::answer(channel, accepted, session)
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.start(channel, Wanted::Program(Program::Shell), session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.start(channel, Wanted::Program(Program::Command(command.to_vec())), session)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.start(channel, Wanted::Subsystem(name.to_owned()), session)
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        columns: u32,
        rows: u32,
        _pixel_width: u32,
        _pixel_height: u32,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let (columns, rows) = (cells(columns), cells(rows));
        let running =
            self.channels.requests(channel).is_some_and(|requests| requests.resize(columns, rows));
        if running {
            self.channels.notice(channel, Notice::Resize { columns, rows });
        }
        Ok(())
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(name) = signal_name(signal) {
            self.channels.notice(channel, Notice::Signal(name));
        }
        Ok(())
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single_connection: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        Self::answer(channel, false, session)
    }
}

/// Every failure is the same.
fn reject() -> Auth {
    let methods = MethodSet::from(&[MethodKind::PublicKey][..]);
    Auth::Reject { proceed_with_methods: Some(methods), partial_success: false }
}

fn cells(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// The signals of RFC 4254, section 6.10; others have no name that we would know.
fn signal_name(signal: Sig) -> Option<String> {
    let name = match signal {
        Sig::ABRT => "ABRT",
        Sig::ALRM => "ALRM",
        Sig::FPE => "FPE",
        Sig::HUP => "HUP",
        Sig::ILL => "ILL",
        Sig::INT => "INT",
        Sig::KILL => "KILL",
        Sig::PIPE => "PIPE",
        Sig::QUIT => "QUIT",
        Sig::SEGV => "SEGV",
        Sig::TERM => "TERM",
        Sig::USR1 => "USR1",
        Sig::Custom(name) if name == "USR2" => "USR2",
        Sig::Custom(_) => return None,
    };
    Some(name.to_owned())
}
