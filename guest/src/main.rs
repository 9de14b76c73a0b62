//! The first process of a session's container.
//!
//! It connects to the edge, starts one program as the edge says, moves bytes between the two, and
//! reports how the program ended. The container ends with it, so nothing outlives the session.
//!
//! It runs beside the program, under the same user: it holds nothing that the program may not have
//! but the connection, and the program can reach neither that nor this process's memory. The edge
//! trusts neither.

mod edge;
mod environment;
mod exit;
mod input;
mod outgoing;
mod program;
mod session;
mod signals;
mod source;
mod terminal;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;

use guest_protocol::{FromEdge, FromGuest, MAX_TEXT, SOCKET_PATH, TOKEN_VARIABLE};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::edge::{Edge, Lost};

/// `guest [SOCKET]`; the second form is the guest's own, see [`terminal::exec`].
fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some(OsStr::new(terminal::EXEC)) {
        return terminal::exec(arguments);
    }
    match serve(first.unwrap_or_else(|| SOCKET_PATH.into()).into()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guest: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the token is missing: {TOKEN_VARIABLE} is not set")]
    NoToken,
    #[error("{0}: the edge's socket cannot be reached: {1}")]
    Connect(PathBuf, #[source] std::io::Error),
    #[error(transparent)]
    Edge(#[from] Lost),
    #[error("the edge began with another frame than Start")]
    NoStart,
    #[error(transparent)]
    System(#[from] std::io::Error),
}

fn serve(socket: PathBuf) -> Result<(), Failure> {
    // Before anything else runs here: neither the token in /proc/1/environ nor the connection in
    // /proc/1/fd is to be had by other processes of this user.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(std::io::Error::from)?;
    let hang_up = signals::on_termination()?;
    let (token, image) = variables();
    let token = token.ok_or(Failure::NoToken)?;
    let mut edge =
        Edge::connect(&socket, token).map_err(|error| Failure::Connect(socket, error))?;

    // No deadline: a container may be prepared long before it is used, and the end of an edge
    // closes the connection.
    let (what, variables, pty) = match edge.wait()? {
        FromEdge::Start { program, environment, pty } => (program, environment, pty),
        FromEdge::HangUp => return Ok(()),
        _ => return Err(Failure::NoStart),
    };
    match program::start(&what, image, variables, pty.as_ref()) {
        Ok(program) => Ok(session::run(edge, program, hang_up)?),
        Err(error) => {
            let mut why = error.to_string();
            why.truncate(why.floor_char_boundary(MAX_TEXT));
            Ok(edge.last_words(&FromGuest::StartFailed(why))?)
        }
    }
}

/// The token, and the variables that the image sets.
fn variables() -> (Option<String>, Vec<(OsString, OsString)>) {
    let (mine, image): (Vec<_>, Vec<_>) =
        std::env::vars_os().partition(|(name, _)| name == TOKEN_VARIABLE);
    (mine.into_iter().next().and_then(|(_, token)| token.into_string().ok()), image)
}
