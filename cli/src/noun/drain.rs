//! `platform drain`.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Context;
use crate::printer::Column;
use crate::prompt::confirm_deletion;
use crate::select::{EnvironmentChoice, field};

mod settings;

const COLUMNS: &[Column] = &[
    ("HANDLE", "/handle"),
    ("KIND", "/kind"),
    ("STATE", "/state"),
    ("LAG S", "/lag_seconds"),
    ("DELIVERED", "/delivered_lines"),
    ("REJECTED", "/rejected_lines"),
    ("LAST ERROR", "/last_error"),
];

const STEPS: &[Column] =
    &[("STEP", "/step"), ("OK", "/ok"), ("MS", "/duration_ms"), ("DETAIL", "/detail")];

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the log drains of an environment.
    List(EnvironmentChoice),
    /// Show a log drain, its state and its last error.
    Show(Name),
    /// Create a log drain.
    #[command(subcommand)]
    Create(settings::Create),
    /// Change a log drain; what is left out stays as it is.
    Update {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        changes: settings::Changes,
    },
    /// Stop sending to a log drain; what happens meanwhile is kept for it.
    Pause(Name),
    /// Go on sending to a paused log drain, from where it stopped.
    Resume(Name),
    /// Delete a log drain, and what it has not yet sent.
    Delete {
        #[command(flatten)]
        name: Name,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Send a test line through a log drain, and show each step.
    Test(Name),
}

/// Which log drain.
#[derive(Debug, Args)]
pub(crate) struct Name {
    /// The drain's handle.
    #[arg(value_name = "DRAIN")]
    handle: String,
    #[command(flatten)]
    environment: EnvironmentChoice,
}

impl Name {
    async fn id(&self, context: &Context) -> Result<String> {
        let found = self.environment.child(&context.client, "log-drains", &self.handle).await?;
        Ok(field(&found, "id").to_owned())
    }

    async fn act(&self, context: &Context, verb: &str, sentence: &str) -> Result<()> {
        let path = ["log-drains", &self.id(context).await?, verb];
        let answer = context.client.post(&path, &json!({})).await?;
        context.printer.done(&answer.body, &format!("{sentence} the drain {}.", self.handle))
    }
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let Context { client, printer } = context;
        match self {
            Self::List(environment) => {
                let path = ["environments", &environment.id(client).await?, "log-drains"];
                printer.list(&client.list(&path, &[]).await?, COLUMNS)
            }
            Self::Show(name) => {
                let id = name.id(context).await?;
                printer.item(&client.get(&["log-drains", &id]).await?.body)
            }
            Self::Create(create) => {
                let (name, body) = create.body()?;
                let path = ["environments", &name.environment.id(client).await?, "log-drains"];
                let answer = client.post(&path, &body).await?;
                printer.done(&answer.body, &format!("Created the drain {}.", name.handle))
            }
            Self::Update { name, changes } => {
                let id = name.id(context).await?;
                let current = client.get(&["log-drains", &id]).await?;
                let body = changes.body(&current.body)?;
                let answer = client.patch(&["log-drains", &id], &body, current.etag).await?;
                printer.done(&answer.body, &format!("Changed the drain {}.", name.handle))
            }
            Self::Pause(name) => name.act(context, "pause", "Paused").await,
            Self::Resume(name) => name.act(context, "resume", "Resumed").await,
            Self::Delete { name, yes } => {
                let id = name.id(context).await?;
                confirm_deletion("drain", &name.handle, yes)?;
                let answer = client.delete(&["log-drains", &id]).await?;
                printer.done(&answer.body, &format!("Deleted the drain {}.", name.handle))
            }
            Self::Test(name) => {
                let path = ["log-drains", &name.id(context).await?, "test"];
                let answer = client.post(&path, &json!({})).await?.body;
                match answer.get("steps").and_then(Value::as_array) {
                    Some(steps) if !printer.is_json() => printer.list(steps, STEPS)?,
                    _ => printer.item(&answer)?,
                }
                if answer.get("ok") != Some(&Value::Bool(true)) {
                    anyhow::bail!("the test of the drain {} failed", name.handle);
                }
                Ok(())
            }
        }
    }
}
