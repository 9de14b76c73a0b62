//! `platform env`.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Context;
use crate::printer::Column;
use crate::prompt::confirm_deletion;
use crate::select::{EnvironmentChoice, field, organization_id};

mod notices;

use notices::Notices;

const COLUMNS: &[Column] = &[
    ("HANDLE", "/handle"),
    ("IDLE LIMIT S", "/idle_limit_seconds"),
    ("MEMORY BYTES", "/memory_limit_bytes"),
    ("KEPT BYTES", "/retention/kept_bytes"),
    ("CREATED", "/created_at"),
    ("ID", "/id"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List your environments.
    List {
        /// Only those of the organization with this handle.
        #[arg(long, short = 'o', value_name = "HANDLE")]
        organization: Option<String>,
    },
    /// Show an environment.
    Show(Name),
    /// Create an environment.
    Create {
        /// Its handle: 1 to 63 of a-z, 0-9 and '-'.
        handle: String,
        /// The organization's handle; may be left out where you are in one only.
        #[arg(long, short = 'o', value_name = "HANDLE")]
        organization: Option<String>,
        #[command(flatten)]
        policy: Policy,
        #[command(flatten)]
        notices: Notices,
    },
    /// Change an environment.
    Update {
        #[command(flatten)]
        name: Name,
        /// A new handle.
        #[arg(long = "handle", value_name = "HANDLE")]
        new_handle: Option<String>,
        #[command(flatten)]
        policy: Policy,
        #[command(flatten)]
        notices: Notices,
    },
    /// Delete an environment.
    Delete {
        #[command(flatten)]
        name: Name,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Which environment.
#[derive(Debug, Args)]
pub(crate) struct Name {
    /// The environment's handle.
    handle: String,
    /// The organization's handle; needed where several of yours have an environment of that name.
    #[arg(long, short = 'o', value_name = "HANDLE")]
    organization: Option<String>,
}

/// What sessions in an environment may use, and how long records are kept.
#[derive(Debug, Args)]
pub(crate) struct Policy {
    /// End a session after this long without input or output, in seconds.
    #[arg(long, value_name = "SECONDS")]
    idle_limit_seconds: Option<u64>,
    /// Memory for a session's container, in bytes.
    #[arg(long, value_name = "BYTES")]
    memory_limit_bytes: Option<u64>,
    /// CPU time for a session's container, in thousandths of a CPU.
    #[arg(long, value_name = "MILLIS")]
    cpu_limit_millis: Option<u64>,
    /// Processes and threads in a session's container, at most.
    #[arg(long, value_name = "NUMBER")]
    pids_limit: Option<u64>,
    /// Keep records for so many seconds, from a day on, or `forever`. What a log drain has not delivered by
    /// then it loses, and counts.
    #[arg(long, value_name = "SECONDS", value_parser = limit_or("forever"))]
    retention_seconds: Option<Limit>,
    /// Give up the oldest records where all have more bytes, compressed, or `unlimited`. Those of the last hour
    /// are kept.
    #[arg(long, value_name = "BYTES", value_parser = limit_or("unlimited"))]
    retention_bytes: Option<Limit>,
    /// Bytes that all log sources together may send in a second, or `default`: what the intake's settings say.
    #[arg(long, value_name = "BYTES", value_parser = limit_or("default"))]
    intake_bytes_per_second: Option<Limit>,
    /// Bytes that they may send at once, or `default`.
    #[arg(long, value_name = "BYTES", value_parser = limit_or("default"))]
    intake_burst_bytes: Option<Limit>,
}

/// A number; None: a word that says that there is none.
pub(super) type Limit = Option<u64>;

/// Reads a number, or the word that says that there is none.
pub(super) fn limit_or(none: &'static str) -> impl Fn(&str) -> Result<Limit, String> + Clone {
    move |text| match text.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) if text == none => Ok(None),
        Err(_) => Err(format!("it should be a number or `{none}`")),
    }
}

impl Policy {
    fn fields(&self) -> Map<String, Value> {
        let fields = [
            ("idle_limit_seconds", self.idle_limit_seconds),
            ("memory_limit_bytes", self.memory_limit_bytes),
            ("cpu_limit_millis", self.cpu_limit_millis),
            ("pids_limit", self.pids_limit),
        ]
        .map(|(name, value)| (name, value.map(Value::from)));
        let retention = [("seconds", self.retention_seconds), ("bytes", self.retention_bytes)]
            .map(|(name, value)| (name, value.map(Value::from)));
        let quota = [
            ("intake_bytes_per_second", self.intake_bytes_per_second),
            ("intake_burst_bytes", self.intake_burst_bytes),
        ]
        .map(|(name, value)| (name, value.map(Value::from)));
        let mut fields = given(fields);
        fields.extend(given(quota));
        let retention = given(retention);
        if !retention.is_empty() {
            fields.insert("retention".to_owned(), retention.into());
        }
        fields
    }
}

fn given<const N: usize>(fields: [(&str, Option<Value>); N]) -> Map<String, Value> {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

impl Name {
    async fn find(&self, context: &Context) -> Result<Value> {
        let choice = EnvironmentChoice {
            environment: Some(self.handle.clone()),
            organization: self.organization.clone(),
        };
        choice.find(&context.client).await
    }
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let Context { client, printer } = context;
        match self {
            Self::List { organization } => {
                let mut items = client.list(&["environments"], &[]).await?;
                if let Some(handle) = organization {
                    let organization = organization_id(client, Some(&handle)).await?;
                    items.retain(|item| field(item, "organization_id") == organization);
                }
                printer.list(&items, COLUMNS)
            }
            Self::Show(name) => printer.item(&name.find(context).await?),
            Self::Create { handle, organization, policy, notices } => {
                let organization = organization_id(client, organization.as_deref()).await?;
                let mut body = policy.fields();
                notices.insert_into(&mut body)?;
                body.insert("handle".to_owned(), json!(handle));
                let path = ["organizations", &organization, "environments"];
                let answer = client.post(&path, &Value::Object(body)).await?;
                printer.done(&answer.body, &format!("Created the environment {handle}."))
            }
            Self::Update { name, new_handle, policy, notices } => {
                let mut body = policy.fields();
                notices.insert_into(&mut body)?;
                body.extend(new_handle.map(|handle| ("handle".to_owned(), json!(handle))));
                let found = name.find(context).await?;
                let path = ["environments", field(&found, "id")];
                let etag = client.get(&path).await?.etag;
                let answer = client.patch(&path, &Value::Object(body), etag).await?;
                printer.done(&answer.body, &format!("Changed the environment {}.", name.handle))
            }
            Self::Delete { name, yes } => {
                let found = name.find(context).await?;
                confirm_deletion("environment", &name.handle, yes)?;
                let answer = client.delete(&["environments", field(&found, "id")]).await?;
                printer.done(&answer.body, &format!("Deleted the environment {}.", name.handle))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        policy: Policy,
    }

    #[test]
    fn only_what_is_given_is_changed_and_a_word_takes_a_limit_away() {
        let body = |line: &str| {
            let words = line.split(' ').filter(|word| !word.is_empty());
            let line = Line::try_parse_from(std::iter::once("update").chain(words))?;
            Ok::<_, clap::Error>(Value::from(line.policy.fields()))
        };
        assert_eq!(body("").unwrap(), json!({}));
        assert_eq!(
            body("--pids-limit 9 --retention-seconds forever --retention-bytes 5").unwrap(),
            json!({ "pids_limit": 9, "retention": { "seconds": null, "bytes": 5 } })
        );
        assert!(body("--retention-bytes many").is_err());
    }
}
