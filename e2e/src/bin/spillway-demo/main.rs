//! What `scripts/demo` needs besides the platform: the two receivers, an engineer at a terminal,
//! and the comparison of what was seen with what was received.

#![allow(clippy::print_stdout, reason = "this program talks to the person who runs the demo")]

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

mod engineer;
mod receivers;
mod report;

#[derive(Debug, Parser)]
enum Command {
    /// Run rsyslog with TLS and an HTTPS receiver until SIGTERM or SIGINT.
    Receive(receivers::Receive),
    /// Run a program on a terminal, type lines at its prompts, and keep what it shows.
    Type(engineer::Type),
    /// Compare what a session showed with what the receivers have.
    Report(report::Report),
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    match Command::parse() {
        Command::Receive(receive) => receive.run().await.map(|()| ExitCode::SUCCESS),
        Command::Type(typing) => typing.run().await,
        Command::Report(report) => report.run().await,
    }
}
