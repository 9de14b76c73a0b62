//! `platform activity`.

use anyhow::Result;
use clap::Subcommand;

use super::Context;
use crate::printer::Column;
use crate::select::EnvironmentChoice;

const COLUMNS: &[Column] = &[
    ("AT", "/at"),
    ("ACTOR", "/actor"),
    ("ACTION", "/action"),
    ("TARGET", "/target"),
    ("DETAIL", "/detail"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List what was done in an environment, newest first.
    List(EnvironmentChoice),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let Self::List(environment) = self;
        let path = ["environments", &environment.id(&context.client).await?, "activity"];
        context.printer.list(&context.client.list(&path, &[]).await?, COLUMNS)
    }
}
