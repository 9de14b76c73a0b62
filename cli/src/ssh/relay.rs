//! One channel of a signed-in connection, connected to this process's input and outputs.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use russh::client::{Handle, Msg};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Disconnect, Sig};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{Duration, timeout};

use super::backlog::Backlog;
use super::host::HostCheck;
use super::output::{Closed, Output};
use super::terminal::{self, RawMode};
use super::{NO_SESSION, input};
use crate::surroundings;

const OPEN_DEADLINE: Duration = Duration::from_secs(30);
const GOODBYE_DEADLINE: Duration = Duration::from_secs(2);
/// The kind of extended data that is standard error (RFC 4254, section 5.2).
const STANDARD_ERROR: u32 = 1;
/// The status of a program that wrote to a closed pipe: 128 + SIGPIPE.
const OUTPUT_CLOSED: u8 = 141;

type Writer = ChannelWriteHalf<Msg>;

/// What has been asked of the edge and not been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Terminal,
    Program,
}

/// Runs `command`, or a shell, and answers its exit status.
pub(crate) async fn run(
    connection: Handle<HostCheck>,
    backlog: Arc<Backlog>,
    terminal: bool,
    command: Option<String>,
) -> Result<u8> {
    let opened = timeout(OPEN_DEADLINE, connection.channel_open_session()).await;
    let channel = opened
        .context("the edge did not open the session in time")?
        .context("the edge did not open the session")?;
    let (reader, writer) = channel.split();
    let (output, error) = (Output::stdout(backlog.clone()), Output::stderr(backlog));
    let raw_mode = if terminal { RawMode::enter()? } else { None };
    let requests = ask(&writer, terminal, command).await.context("the edge cut the connection")?;
    let (started, start) = oneshot::channel();
    // Each of these runs until the first has ended, so none is cut off in the middle of its work.
    let ended = tokio::select! {
        ended = receive(reader, requests, started, &output, &error) => ended,
        // Not the outputs: whoever should read them may be why this process is being ended.
        status = stopped() => return status,
        failed = send_input(start, &writer) => failed.map(|never| match never {}),
        failed = send_sizes(terminal, &writer) => failed.map(|never| match never {}),
    };
    output.finish().await;
    error.finish().await;
    drop(raw_mode);
    let goodbye = async {
        connection.disconnect(Disconnect::ByApplication, "", "").await.ok();
        // Until it is sent.
        connection.await.ok();
    };
    // The edge sees the end of the connection by itself, if it does not hear this.
    timeout(GOODBYE_DEADLINE, goodbye).await.ok();
    ended
}

async fn ask(
    writer: &Writer,
    terminal: bool,
    command: Option<String>,
) -> Result<VecDeque<Request>, russh::Error> {
    let mut requests = VecDeque::new();
    for (name, value) in surroundings::languages() {
        writer.set_env(false, name, value).await?;
    }
    if terminal {
        let (width, height, x, y) = terminal::size();
        let kind = surroundings::terminal_kind();
        writer.request_pty(true, &kind, width, height, x, y, &[]).await?;
        requests.push_back(Request::Terminal);
    }
    match command {
        Some(command) => writer.exec(true, command).await?,
        None => writer.request_shell(true).await?,
    }
    requests.push_back(Request::Program);
    Ok(requests)
}

/// Takes what the edge sends, until the channel's end.
async fn receive(
    mut reader: ChannelReadHalf,
    mut requests: VecDeque<Request>,
    started: oneshot::Sender<()>,
    output: &Output,
    error: &Output,
) -> Result<u8> {
    let mut started = Some(started);
    let (mut refused, mut status) = (None, None);
    while let Some(message) = reader.wait().await {
        let written = match message {
            ChannelMsg::Data { data } => output.write(data).await,
            ChannelMsg::ExtendedData { data, ext: STANDARD_ERROR } => {
                // Closed standard error (`2>&-`) is no reason to end.
                error.write(data).await.ok();
                Ok(())
            }
            ChannelMsg::Success => {
                if requests.pop_front() == Some(Request::Program) {
                    // An error means that nobody waits for it.
                    started.take().map(|started| started.send(()).ok());
                }
                Ok(())
            }
            ChannelMsg::Failure => {
                refused = refused.or(requests.pop_front());
                Ok(())
            }
            ChannelMsg::ExitStatus { exit_status } => {
                status = Some(u8::try_from(exit_status).unwrap_or(NO_SESSION));
                Ok(())
            }
            ChannelMsg::ExitSignal { signal_name, .. } => {
                status = Some(status_of(&signal_name));
                Ok(())
            }
            ChannelMsg::Close => break,
            _ => Ok(()),
        };
        if let Err(Closed) = written {
            return Ok(OUTPUT_CLOSED);
        }
    }
    match (status, refused) {
        (Some(status), _) => Ok(status),
        // The edge has told why on standard error.
        (None, Some(Request::Program)) => bail!("the edge did not start the session"),
        (None, Some(Request::Terminal)) => bail!("the edge gave the session no terminal"),
        (None, None) => bail!("the connection to the edge was lost"),
    }
}

/// Sends standard input once the program runs; what is typed earlier waits in the terminal.
async fn send_input(start: oneshot::Receiver<()>, writer: &Writer) -> Result<Infallible> {
    if start.await.is_ok() {
        let mut input = input::start();
        while let Some(piece) = input.recv().await {
            if writer.data_bytes(piece).await.is_err() {
                return pending().await;
            }
        }
        // Half-close: the output goes on.
        drop(writer.eof().await);
    }
    // Where the connection has failed, `receive` sees it, after what came before.
    pending().await
}

async fn send_sizes(terminal: bool, writer: &Writer) -> Result<Infallible> {
    let mut resized = signal(SignalKind::window_change())?;
    while terminal && resized.recv().await.is_some() {
        let (width, height, x, y) = terminal::size();
        drop(writer.window_change(width, height, x, y).await);
    }
    pending().await
}

/// Waits until somebody wants this process to end; the status that tells so.
async fn stopped() -> Result<u8> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    // Any may win: each ends the process.
    let number = tokio::select! {
        _ = interrupt.recv() => SignalKind::interrupt(),
        _ = terminate.recv() => SignalKind::terminate(),
        _ = hang_up.recv() => SignalKind::hangup(),
    };
    Ok(u8::try_from(128 + number.as_raw_value()).unwrap_or(NO_SESSION))
}

/// 128 and the signal's number on Linux, as shells show it.
fn status_of(signal: &Sig) -> u8 {
    let number = match signal {
        Sig::HUP => 1,
        Sig::INT => 2,
        Sig::QUIT => 3,
        Sig::ILL => 4,
        Sig::ABRT => 6,
        Sig::FPE => 8,
        Sig::KILL => 9,
        Sig::USR1 => 10,
        Sig::SEGV => 11,
        Sig::PIPE => 13,
        Sig::ALRM => 14,
        Sig::TERM => 15,
        Sig::Custom(name) => match name.as_str() {
            "TRAP" => 5,
            "BUS" => 7,
            "USR2" => 12,
            "XCPU" => 24,
            "XFSZ" => 25,
            "SYS" => 31,
            _ => return NO_SESSION,
        },
    };
    128 + number
}
