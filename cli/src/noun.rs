//! The commands for users: one file for each noun.

use anyhow::Result;
use clap::{CommandFactory as _, Subcommand};

use crate::args::{Args, Global};
use crate::client::Client;
use crate::printer::Printer;

mod activity;
mod app;
mod database;
mod docker_run;
mod drain;
mod environment;
mod key;
mod session;
mod sign_in;
mod token;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Login(sign_in::Login),
    Logout(sign_in::Logout),
    Whoami(sign_in::Whoami),
    /// Environments: where apps, databases and log drains live.
    #[command(subcommand, name = "env", visible_alias = "environment")]
    Environment(environment::Command),
    /// Apps: images that sessions run.
    #[command(subcommand)]
    App(app::Command),
    /// Databases: names for the sources of databases' logs.
    #[command(subcommand, name = "db", visible_alias = "database")]
    Database(database::Command),
    /// Log drains: where logs are sent to.
    #[command(subcommand)]
    Drain(Box<drain::Command>),
    /// Your SSH keys, for plain `ssh`, `scp` and `rsync`.
    #[command(subcommand)]
    Key(key::Command),
    /// Your API tokens, for programs.
    #[command(subcommand)]
    Token(token::Command),
    /// What users and the platform did to log drains.
    #[command(subcommand)]
    Activity(activity::Command),
    /// Ephemeral sessions of the past and of now.
    #[command(subcommand)]
    Session(session::Command),
    /// Print completions for a shell; put them where it looks for them.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// What a command works with.
#[derive(Debug)]
pub(crate) struct Context {
    client: Client,
    printer: Printer,
}

pub(crate) async fn run(command: Command, global: &Global) -> Result<()> {
    let printer = global.printer();
    let context = || Ok::<_, anyhow::Error>(Context { client: global.client()?, printer });
    match command {
        Command::Login(command) => command.run(global).await,
        Command::Logout(command) => command.run(global).await,
        Command::Whoami(command) => command.run(&context()?).await,
        Command::Environment(command) => command.run(&context()?).await,
        Command::App(command) => command.run(&context()?).await,
        Command::Database(command) => command.run(&context()?).await,
        Command::Drain(command) => command.run(&context()?).await,
        Command::Key(command) => command.run(&context()?).await,
        Command::Token(command) => command.run(&context()?).await,
        Command::Activity(command) => command.run(&context()?).await,
        Command::Session(command) => command.run(&context()?).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "platform", &mut script);
            Printer::raw(&String::from_utf8(script)?)
        }
    }
}
