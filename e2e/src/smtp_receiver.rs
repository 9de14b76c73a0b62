//! A mail server without TLS (RFC 5321) that keeps what it is sent.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// A mail that was accepted.
#[derive(Debug, Clone, Default)]
pub struct Mail {
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

/// The server; it stops when dropped.
#[derive(Debug)]
pub struct SmtpReceiver {
    address: SocketAddr,
    state: Arc<State>,
    task: AbortHandle,
}

#[derive(Debug, Default)]
struct State {
    mails: Mutex<Vec<Mail>>,
    to_refuse: AtomicUsize,
}

impl SmtpReceiver {
    /// Starts on a free port of 127.0.0.1.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::<State>::default();
        #[allow(clippy::disallowed_methods, reason = "it is aborted when the receiver is dropped")]
        let task = tokio::spawn(accept(listener, state.clone())).abort_handle();
        Ok(Self { address, state, task })
    }

    /// The URL for those who send.
    #[must_use]
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// Answers the next so many mails with 451, try again later.
    pub fn refuse(&self, mails: usize) {
        self.state.to_refuse.store(mails, Ordering::Relaxed);
    }

    /// Every mail so far.
    #[must_use]
    pub fn mails(&self) -> Vec<Mail> {
        self.state.mails.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for SmtpReceiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(converse(socket, state.clone()));
    }
}

async fn converse(socket: TcpStream, state: Arc<State>) -> Result<()> {
    let (reader, mut writer) = socket.into_split();
    let mut lines = BufReader::new(reader).lines();
    let mut mail = Mail::default();
    writer.write_all(b"220 receiver\r\n").await?;
    while let Some(line) = lines.next_line().await? {
        let command = line.to_ascii_uppercase();
        let argument = line.split_once(':').map_or("", |(_, address)| address);
        let address = argument.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        let answer = if command.starts_with("EHLO") || command.starts_with("HELO") {
            "250 receiver"
        } else if command.starts_with("MAIL FROM") {
            mail = Mail { from: address, ..Mail::default() };
            "250 ok"
        } else if command.starts_with("RCPT TO") {
            mail.to.push(address);
            "250 ok"
        } else if command == "DATA" {
            writer.write_all(b"354 go on\r\n").await?;
            while let Some(line) = lines.next_line().await?.filter(|line| line != ".") {
                mail.text.push_str(line.strip_prefix('.').unwrap_or(&line));
                mail.text.push('\n');
            }
            let refuse = |left: usize| left.checked_sub(1);
            let refused =
                state.to_refuse.fetch_update(Ordering::Relaxed, Ordering::Relaxed, refuse);
            if refused.is_ok() {
                "451 try again later"
            } else {
                let mails = &mut *state.mails.lock().unwrap_or_else(PoisonError::into_inner);
                mails.push(std::mem::take(&mut mail));
                "250 kept"
            }
        } else if command == "QUIT" {
            "221 bye"
        } else {
            "250 ok"
        };
        writer.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
    Ok(())
}
