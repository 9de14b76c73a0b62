//! The client's end of a session: what it is shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::{Event, ExitStatus, OutputStream};
use russh::server::{Handle, Msg};
use russh::{ChannelWriteHalf, Sig};
use tokio::time::timeout;

use super::inbox::Inbox;
use crate::admission::Refusal;

const STDERR: u32 = 1;
const SENTENCE_DEADLINE: Duration = Duration::from_secs(10);

/// A channel to write to, and what comes from it.
pub(crate) struct Client {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) channel: ChannelWriteHalf<Msg>,
    pub(crate) connection: Handle,
    pub(crate) has_pty: bool,
    /// Whether something is being shown that the client has no room for yet.
    pub(crate) is_showing: AtomicBool,
}

/// Sets the flag until dropped: showing may be given up.
struct Showing<'a>(&'a AtomicBool);

impl<'a> Showing<'a> {
    fn begin(flag: &'a AtomicBool) -> Self {
        flag.store(true, Ordering::Relaxed);
        Self(flag)
    }
}

impl Drop for Showing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Client {
    /// Shows a durable event, unless the client is gone.
    pub(crate) async fn show(&self, event: Event) {
        let _showing = Showing::begin(&self.is_showing);
        // Losing the write loses what a client that is gone would not have read. A write would wait
        // for ever for the window of a connection that has ended.
        tokio::select! {
            () = self.inbox.gone().cancelled() => {}
            shown = self.write(event) => if shown.is_err() {
                self.inbox.close("the connection ended");
            }
        }
    }

    /// Says why there is no session.
    pub(crate) async fn refuse(&self, refusal: &Refusal) {
        self.close(&refusal.to_string(), Some(1)).await;
    }

    /// Closes the channel with nothing but the platform's own sentence: no byte of the session's is
    /// in it, so it needs no record to be shown.
    pub(crate) async fn cut_off(&self, why: &str) {
        self.close(why, None).await;
    }

    async fn close(&self, why: &str, exit_status: Option<u32>) {
        let text = self.sentence(why);
        let told = async {
            self.channel.extended_data_bytes(STDERR, text).await?;
            if let Some(exit_status) = exit_status {
                self.channel.exit_status(exit_status).await?;
            }
            self.channel.eof().await
        };
        // A client that reads nothing is closed without the sentence.
        let told_and_closed = async {
            drop(timeout(SENTENCE_DEADLINE, told).await);
            drop(timeout(SENTENCE_DEADLINE, self.channel.close()).await);
        };
        tokio::select! {
            () = self.inbox.gone().cancelled() => {}
            () = told_and_closed => {}
        }
    }

    /// A sentence of the platform's, as this client's terminal wants it.
    pub(crate) fn sentence(&self, text: &str) -> Vec<u8> {
        // A raw terminal needs the carriage return.
        let (before, after) = if self.has_pty { ("\r\n", "\r\n") } else { ("", "\n") };
        format!("{before}spillway: {text}{after}").into_bytes()
    }

    async fn write(&self, event: Event) -> Result<(), russh::Error> {
        match event {
            Event::Output { stream: OutputStream::Stdout, bytes, .. } => {
                self.channel.data_bytes(bytes).await
            }
            Event::Output { stream: OutputStream::Stderr, bytes, .. } => {
                self.channel.extended_data_bytes(STDERR, bytes).await
            }
            Event::Exit(ExitStatus::Code(code)) => self.channel.exit_status(code).await,
            Event::Exit(ExitStatus::Signal { name, core_dumped }) => self
                .connection
                .exit_signal_request(
                    self.channel.id(),
                    Sig::Custom(name),
                    core_dumped,
                    String::new(),
                    String::new(),
                )
                .await
                .map_err(|()| russh::Error::SendError),
            Event::SessionEnded { .. } => {
                self.channel.eof().await?;
                self.channel.close().await
            }
            _ => Ok(()),
        }
    }
}
