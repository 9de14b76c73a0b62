//! `platform ssh`: a session in a fresh container of an app.
//!
//! The key is made for this one session and never leaves this process; the API vouches for it with a
//! certificate, and tells which authority vouches for the edge.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;

use crate::args::{Global, report};
use crate::select::EnvironmentChoice;

mod admission;
mod backlog;
mod connection;
mod host;
mod input;
mod output;
mod relay;
mod terminal;
mod transport;

/// Exit status when there was no session, as of OpenSSH's client.
const NO_SESSION: u8 = 255;

/// Open a session in a fresh container of an app; it ends with the remote command's status.
///
/// What the session shows is recorded, and sent to the environment's log drains together with your
/// name. Without a command, it is a shell in your terminal; `-- COMMAND` runs a command, with
/// standard input, output and error connected, so pipes work both ways:
/// `platform ssh --app web -- cat /etc/hosts > hosts`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The app's handle.
    #[arg(long, short = 'a', value_name = "HANDLE", env = "SPILLWAY_APP")]
    app: String,
    #[command(flatten)]
    environment: EnvironmentChoice,
    /// Use a terminal in the container, even for a command.
    #[arg(short = 't', long = "tty", conflicts_with = "no_tty")]
    tty: bool,
    /// Use no terminal in the container.
    #[arg(short = 'T', long = "no-tty")]
    no_tty: bool,
    /// Why you open this session; it is recorded.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// The command, joined by spaces for the container's shell, as `ssh` does.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Arguments {
    /// Whether the session gets a terminal.
    fn wants_terminal(&self, on_terminal: bool) -> bool {
        self.tty || (on_terminal && self.command.is_empty() && !self.no_tty)
    }
}

pub(crate) fn main(arguments: &Arguments, global: &Global) -> ExitCode {
    match run(arguments, global) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            report(&error, global.json);
            ExitCode::from(NO_SESSION)
        }
    }
}

fn run(arguments: &Arguments, global: &Global) -> Result<u8> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let status = runtime.block_on(session(arguments, global));
    // Not waited for: name resolution may be stuck.
    runtime.shutdown_background();
    status
}

async fn session(arguments: &Arguments, global: &Global) -> Result<u8> {
    let client = global.client()?;
    let reason = arguments.reason.as_deref();
    let app = arguments.environment.child(&client, "apps", &arguments.app).await?;
    let admission = admission::request(&client, &app, reason).await?;
    let backlog = Arc::default();
    let connection = connection::open(&admission, &backlog).await?;
    let terminal = arguments.wants_terminal(terminal::is_present());
    let command = (!arguments.command.is_empty()).then(|| arguments.command.join(" "));
    relay::run(connection, backlog, terminal, command).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(line: &str) -> Arguments {
        Line::try_parse_from(line.split(' ')).unwrap().arguments
    }

    #[test]
    fn terminal_is_for_shells_unless_told_otherwise() {
        assert!(parse("ssh --app web").wants_terminal(true));
        assert!(!parse("ssh --app web").wants_terminal(false));
        assert!(!parse("ssh --app web -T").wants_terminal(true));
        assert!(!parse("ssh --app web -- ls").wants_terminal(true));
        assert!(parse("ssh --app web -t -- ls").wants_terminal(false));
    }

    #[test]
    fn flags_after_the_dashes_are_the_commands() {
        assert_eq!(parse("ssh --app web -- ls -t --app x").command, ["ls", "-t", "--app", "x"]);
    }
}
