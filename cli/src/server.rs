//! The commands for operators: `platform up`, and what a first start needs.

use anyhow::Result;
use clap::Subcommand;

use crate::args::Global;

mod admin;
mod folder;
mod keys;
mod migrate;
mod postgres;
mod up;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(Box<up::Up>),
    Migrate(migrate::Migrate),
    /// The keys of a deployment.
    #[command(subcommand)]
    Keys(keys::Command),
    /// What the first organization and its users need, without the API.
    #[command(subcommand)]
    Admin(admin::Command),
    /// Becomes the database server of `platform up`.
    #[command(hide = true)]
    BecomePostgres(postgres::BecomePostgres),
}

pub(crate) fn run(command: Command, global: &Global) -> Result<()> {
    let command = match command {
        // This one replaces the process, before any thread is started.
        Command::BecomePostgres(command) => return command.run(),
        command => command,
    };
    // The database server is told when the thread that started it ends (see postgres::process), so
    // it is started from this one, which lasts.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let printer = global.printer();
    runtime.block_on(async {
        match command {
            Command::Up(command) => Box::pin(command.run(printer)).await,
            Command::Migrate(command) => command.run(printer).await,
            Command::Keys(command) => command.run(printer),
            Command::Admin(command) => command.run(printer).await,
            Command::BecomePostgres(command) => command.run(),
        }
    })
}
