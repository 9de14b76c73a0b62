//! `platform drain`.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Context;
use crate::printer::Column;
use crate::prompt::{confirm, confirm_deletion};
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

const REJECTED: &[Column] = &[
    ("ID", "/id"),
    ("LINE", "/line_id"),
    ("AT", "/rejected_at"),
    ("SENT AGAIN SINCE", "/resend_requested_at"),
    ("REASON", "/reason"),
];

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
        /// Send a test line as the changed drain would, show each step, and change nothing.
        #[arg(long)]
        verify: bool,
    },
    /// Send a test line as a drain would that was created like this, and show each step; keep nothing.
    #[command(subcommand)]
    Verify(settings::Create),
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
    /// Leave out all that a log drain has not sent by now, and go on with what comes.
    Skip {
        #[command(flatten)]
        name: Name,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// List the lines that a log drain's endpoint refused.
    Rejected(Name),
    /// Send refused lines again.
    Resend {
        #[command(flatten)]
        name: Name,
        /// The id of a refused line; may be repeated. Left out: all of them.
        #[arg(long, value_name = "ID")]
        id: Vec<uuid::Uuid>,
    },
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

    /// Shows how a test went; fails where it failed.
    fn show_test(&self, context: &Context, answer: &Value) -> Result<()> {
        match answer.get("steps").and_then(Value::as_array) {
            Some(steps) if !context.printer.is_json() => context.printer.list(steps, STEPS)?,
            _ => context.printer.item(answer)?,
        }
        if answer.get("ok") != Some(&Value::Bool(true)) {
            anyhow::bail!("the test of the drain {} failed", self.handle);
        }
        Ok(())
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
                let (name, mut body) = create.body()?;
                settings::resolve(client, &name.environment, &mut body).await?;
                let path = ["environments", &name.environment.id(client).await?, "log-drains"];
                let answer = client.post(&path, &body).await?;
                printer.done(&answer.body, &format!("Created the drain {}.", name.handle))
            }
            Self::Verify(create) => {
                let (name, mut body) = create.body()?;
                settings::resolve(client, &name.environment, &mut body).await?;
                let environment = name.environment.id(client).await?;
                let path = ["environments", &environment, "log-drains", "verify"];
                name.show_test(context, &client.post(&path, &body).await?.body)
            }
            Self::Update { name, changes, verify } => {
                let id = name.id(context).await?;
                let current = client.get(&["log-drains", &id]).await?;
                let mut body = changes.body(&current.body)?;
                settings::resolve(client, &name.environment, &mut body).await?;
                if verify {
                    let answer = client.post(&["log-drains", &id, "verify"], &body).await?;
                    return name.show_test(context, &answer.body);
                }
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
                name.show_test(context, &client.post(&path, &json!({})).await?.body)
            }
            Self::Skip { name, yes } => {
                let id = name.id(context).await?;
                let handle = &name.handle;
                confirm(&format!("leave out what the drain {handle} has not sent"), handle, yes)?;
                let answer = client.post(&["log-drains", &id, "skip"], &json!({})).await?;
                printer.done(&answer.body, &format!("The drain {handle} goes on from now."))
            }
            Self::Rejected(name) => {
                let path = ["log-drains", &name.id(context).await?, "rejected-lines"];
                printer.list(&client.list(&path, &[]).await?, REJECTED)
            }
            Self::Resend { name, id } => {
                let path = ["log-drains", &name.id(context).await?, "rejected-lines", "resend"];
                let body = if id.is_empty() { json!({}) } else { json!({ "ids": id }) };
                let answer = client.post(&path, &body).await?.body;
                let count = answer.get("requested").and_then(Value::as_u64).unwrap_or_default();
                printer.done(&answer, &format!("{count} refused line(s) will be sent again."))
            }
        }
    }
}
