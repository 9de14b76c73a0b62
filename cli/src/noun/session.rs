//! `platform session`.

use anyhow::Result;
use clap::Subcommand;

use super::Context;
use crate::printer::Column;
use crate::select::EnvironmentChoice;

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("APP", "/app"),
    ("USER", "/user_email"),
    ("STATE", "/state"),
    ("STARTED", "/started_at"),
    ("ENDED", "/ended_at"),
    ("EXIT", "/exit_code"),
    ("SIGNAL", "/exit_signal"),
    ("REASON", "/reason"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the ephemeral sessions of an environment.
    List(EnvironmentChoice),
    /// Show an ephemeral session.
    Show {
        /// The session's id.
        id: uuid::Uuid,
    },
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let Context { client, printer } = context;
        match self {
            Self::List(environment) => {
                let environment = environment.id(client).await?;
                let path = ["environments", &environment, "ephemeral-sessions"];
                printer.list(&client.list(&path, &[]).await?, COLUMNS)
            }
            Self::Show { id } => {
                let id = id.to_string();
                printer.item(&client.get(&["ephemeral-sessions", &id]).await?.body)
            }
        }
    }
}
