//! A mail server (RFC 5321) that keeps what it is sent, with TLS or without it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::certificates::ServerCertificate;

/// A mail that was accepted.
#[derive(Debug, Clone, Default)]
pub struct Mail {
    /// Whether it came over TLS.
    pub encrypted: bool,
    /// The sender in the envelope.
    pub from: String,
    /// The recipients in the envelope.
    pub to: Vec<String>,
    /// Headers and body, with LF at the ends of lines.
    pub text: String,
}

impl Mail {
    /// A header's value; empty if it is not there. Folded ones are cut.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let mut lines = self.text.lines().take_while(|line| !line.is_empty());
        lines
            .find_map(|line| line.split_once(": ").filter(|(found, _)| *found == name))
            .map_or("", |(_, value)| value)
    }
}

/// When a server speaks TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// From the first byte (RFC 8314, section 3.3).
    Implicit,
    /// After STARTTLS (RFC 3207).
    StartTls,
}

/// The server; it stops when dropped.
#[derive(Debug)]
pub struct SmtpReceiver {
    address: SocketAddr,
    state: Arc<State>,
    task: AbortHandle,
}

#[derive(Default)]
struct State {
    tls: Option<(SmtpTls, TlsAcceptor)>,
    mails: Mutex<Vec<Mail>>,
    sign_ins: Mutex<Vec<String>>,
    in_the_clear: Mutex<String>,
    to_refuse: AtomicUsize,
}

impl SmtpReceiver {
    /// Starts on a free port of 127.0.0.1, without TLS.
    pub async fn start() -> Result<Self> {
        Self::start_as(State::default()).await
    }

    /// The same with TLS.
    pub async fn start_with(tls: SmtpTls, certificate: &ServerCertificate) -> Result<Self> {
        let acceptor = TlsAcceptor::from(certificate.server_config()?);
        Self::start_as(State { tls: Some((tls, acceptor)), ..State::default() }).await
    }

    async fn start_as(state: State) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(state);
        #[allow(clippy::disallowed_methods, reason = "it is aborted when the receiver is dropped")]
        let task = tokio::spawn(accept(listener, state.clone())).abort_handle();
        Ok(Self { address, state, task })
    }

    /// The URL for those who send in the clear.
    #[must_use]
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers the next so many mails with 451, try again later.
    pub fn refuse(&self, mails: usize) {
        self.state.to_refuse.store(mails, Ordering::Relaxed);
    }

    /// Every mail so far.
    #[must_use]
    pub fn mails(&self) -> Vec<Mail> {
        lock(&self.state.mails).clone()
    }

    /// Commands that signed somebody in over TLS (RFC 4954), as they were sent.
    #[must_use]
    pub fn sign_ins(&self) -> Vec<String> {
        lock(&self.state.sign_ins).clone()
    }

    /// Every line that came without TLS.
    #[must_use]
    pub fn in_the_clear(&self) -> String {
        lock(&self.state.in_the_clear).clone()
    }
}

impl Drop for SmtpReceiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("State")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(serve(socket, state.clone()));
    }
}

async fn serve(socket: TcpStream, state: Arc<State>) -> Result<()> {
    const GREETING: &[u8] = b"220 receiver\r\n";
    if let Some((SmtpTls::Implicit, acceptor)) = &state.tls {
        let mut stream = BufReader::new(acceptor.accept(socket).await?);
        stream.write_all(GREETING).await?;
        stream.flush().await?;
        converse(&mut stream, true, &state).await?;
        return Ok(());
    }
    let mut stream = BufReader::new(socket);
    stream.write_all(GREETING).await?;
    if converse(&mut stream, false, &state).await? {
        let (_, acceptor) = state.tls.as_ref().context("TLS was offered")?;
        let mut stream = BufReader::new(acceptor.accept(stream.into_inner()).await?);
        converse(&mut stream, true, &state).await?;
    }
    Ok(())
}

/// Answers commands until the end, or until TLS is to begin: then true.
async fn converse<S>(stream: &mut S, encrypted: bool, state: &State) -> Result<bool>
where
    S: AsyncBufRead + AsyncWrite + Unpin,
{
    let offers_tls = !encrypted && state.tls.is_some();
    let mut mail = Mail::default();
    while let Some(line) = read_line(stream, encrypted, state).await? {
        let command = line.to_ascii_uppercase();
        let argument = line.split_once(':').map_or("", |(_, address)| address);
        let address = argument.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        let answer = if command.starts_with("EHLO") || command.starts_with("HELO") {
            // Who sends in the clear what is not to be sent so is not kept from it.
            if offers_tls {
                "250-receiver\r\n250-STARTTLS\r\n250 AUTH PLAIN"
            } else {
                "250-receiver\r\n250 AUTH PLAIN"
            }
        } else if command == "STARTTLS" && offers_tls {
            "220 go on"
        } else if command.starts_with("AUTH") {
            if encrypted {
                lock(&state.sign_ins).push(line);
            }
            "235 signed in"
        } else if command.starts_with("MAIL FROM") {
            mail = Mail { encrypted, from: address, ..Mail::default() };
            "250 ok"
        } else if command.starts_with("RCPT TO") {
            mail.to.push(address);
            "250 ok"
        } else if command == "DATA" {
            stream.write_all(b"354 go on\r\n").await?;
            stream.flush().await?;
            while let Some(line) =
                read_line(stream, encrypted, state).await?.filter(|line| line != ".")
            {
                mail.text.push_str(line.strip_prefix('.').unwrap_or(&line));
                mail.text.push('\n');
            }
            let refuse = |left: usize| left.checked_sub(1);
            let refused =
                state.to_refuse.fetch_update(Ordering::Relaxed, Ordering::Relaxed, refuse);
            if refused.is_ok() {
                "451 try again later"
            } else {
                lock(&state.mails).push(std::mem::take(&mut mail));
                "250 kept"
            }
        } else if command == "QUIT" {
            "221 bye"
        } else {
            "250 ok"
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
        stream.flush().await?;
        if command == "STARTTLS" && offers_tls {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn read_line<S>(stream: &mut S, encrypted: bool, state: &State) -> Result<Option<String>>
where
    S: AsyncBufRead + Unpin,
{
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    if !encrypted {
        lock(&state.in_the_clear).push_str(&line);
    }
    Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()))
}
