//! The `platform` command: for engineers, and (feature `server`) for operators.

mod args;
mod client;
mod credentials;
mod noun;
mod printer;
mod prompt;
mod select;
#[cfg(feature = "server")]
mod server;
mod ssh;
mod surroundings;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, FromArgMatches as _};

use crate::args::{Args, Command};

fn main() -> ExitCode {
    // The one provider of the tree: without it, rustls would have to choose and refuses to.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let args = parse();
    let for_programs = args.global.json;
    let status = match args.command {
        #[cfg(feature = "server")]
        Command::Operator(command) => server::run(command, &args.global),
        Command::Ssh(command) => return ssh::main(&command, &args.global),
        Command::User(command) => run(command, &args.global),
    };
    match status {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            args::report(&error, for_programs);
            ExitCode::FAILURE
        }
    }
}

#[cfg(feature = "server")]
fn parse() -> Args {
    let arguments: Vec<_> = std::env::args_os().collect();
    let parsed = service::config::matches(&Args::command(), &arguments);
    let matches = parsed.unwrap_or_else(|error| error.exit());
    Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

#[cfg(not(feature = "server"))]
fn parse() -> Args {
    let matches = Args::command().get_matches();
    Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn run(command: noun::Command, global: &args::Global) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(noun::run(command, global))
}
