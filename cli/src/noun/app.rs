//! `platform app`.

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Context;
use super::docker_run::DockerRun;
use crate::printer::Column;
use crate::prompt::{confirm_deletion, file_text};
use crate::select::{EnvironmentChoice, field};

const COLUMNS: &[Column] = &[
    ("HANDLE", "/handle"),
    ("IMAGE", "/image"),
    ("COMMAND", "/command"),
    ("UPDATED", "/updated_at"),
    ("ID", "/id"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the apps of an environment.
    List(EnvironmentChoice),
    /// Show an app and the names of its configuration variables.
    Show(Name),
    /// Create an app.
    Create {
        #[command(flatten)]
        name: Name,
        /// The container image, as Docker on the edge knows it.
        #[arg(long, value_name = "IMAGE")]
        image: String,
        /// What a session without a command runs, after `--`; default: a shell.
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Change an app's handle, image or command.
    Update {
        #[command(flatten)]
        name: Name,
        /// A new handle.
        #[arg(long = "handle", value_name = "HANDLE")]
        new_handle: Option<String>,
        /// Another container image.
        #[arg(long, value_name = "IMAGE")]
        image: Option<String>,
        /// Let a session without a command run a shell again.
        #[arg(long, conflicts_with = "command")]
        default_command: bool,
        /// What a session without a command runs, after `--`.
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Show how to run a container of an app so that its log is recorded.
    ///
    /// The intake of the Docker daemon (--intake-docker-host) follows containers with these labels. Nothing is
    /// run.
    Run {
        #[command(flatten)]
        name: Name,
        /// The command to run in it, after `--`; default: the app's, or else the image's.
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Delete an app.
    Delete {
        #[command(flatten)]
        name: Name,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Set and unset configuration variables; sessions get them as environment variables.
    ///
    /// Values are sealed: nobody can read them back through the API.
    #[command(alias = "configuration")]
    Configure {
        #[command(flatten)]
        name: Name,
        /// NAME=VALUE sets; NAME=@FILE takes the file's text, NAME=- that of standard input, both
        /// without one line end at their end; NAME=@@TEXT sets @TEXT.
        #[arg(value_name = "NAME=VALUE", required_unless_present = "unset")]
        set: Vec<String>,
        /// Remove a variable; may be repeated.
        #[arg(long, value_name = "NAME")]
        unset: Vec<String>,
    },
}

/// Which app.
#[derive(Debug, Args)]
pub(crate) struct Name {
    /// The app's handle.
    #[arg(value_name = "APP")]
    handle: String,
    #[command(flatten)]
    environment: EnvironmentChoice,
}

impl Name {
    async fn find(&self, context: &Context) -> Result<Value> {
        self.environment.child(&context.client, "apps", &self.handle).await
    }
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let Context { client, printer } = context;
        match self {
            Self::List(environment) => {
                let path = ["environments", &environment.id(client).await?, "apps"];
                printer.list(&client.list(&path, &[]).await?, COLUMNS)
            }
            Self::Show(name) => {
                let found = name.find(context).await?;
                let id = field(&found, "id");
                let mut app = client.get(&["apps", id]).await?.body;
                let variables = client.get(&["apps", id, "configuration"]).await?.body;
                if let (Value::Object(app), Value::Object(variables)) = (&mut app, variables) {
                    app.extend(variables);
                }
                printer.item(&app)
            }
            Self::Create { name, image, command } => {
                let mut body = json!({ "handle": name.handle, "image": image });
                set_command(&mut body, &command);
                let path = ["environments", &name.environment.id(client).await?, "apps"];
                let answer = client.post(&path, &body).await?;
                printer.done(&answer.body, &format!("Created the app {}.", name.handle))
            }
            Self::Update { name, new_handle, image, default_command, command } => {
                let mut body = json!({});
                if let Some(fields) = body.as_object_mut() {
                    fields.extend(new_handle.map(|handle| ("handle".to_owned(), json!(handle))));
                    fields.extend(image.map(|image| ("image".to_owned(), json!(image))));
                    if default_command {
                        fields.insert("command".to_owned(), Value::Null);
                    }
                }
                set_command(&mut body, &command);
                let found = name.find(context).await?;
                let path = ["apps", field(&found, "id")];
                let etag = client.get(&path).await?.etag;
                let answer = client.patch(&path, &body, etag).await?;
                printer.done(&answer.body, &format!("Changed the app {}.", name.handle))
            }
            Self::Run { name, command } => {
                let app = name.find(context).await?;
                let own = app.get("command").and_then(Value::as_array).into_iter().flatten();
                let own = own.filter_map(Value::as_str).map(str::to_owned);
                let mut program = vec![field(&app, "image").to_owned()];
                program.extend(if command.is_empty() { own.collect() } else { command });
                let line = DockerRun::new(&name.environment, context, "app", &name.handle).await?;
                line.print(*printer, program)
            }
            Self::Delete { name, yes } => {
                let found = name.find(context).await?;
                confirm_deletion("app", &name.handle, yes)?;
                let answer = client.delete(&["apps", field(&found, "id")]).await?;
                printer.done(&answer.body, &format!("Deleted the app {}.", name.handle))
            }
            Self::Configure { name, set, unset } => {
                let variables = variables(&set, unset)?;
                let found = name.find(context).await?;
                let path = ["apps", field(&found, "id"), "configuration"];
                let body = json!({ "variables": variables });
                let answer = client.patch(&path, &body, None).await?;
                let sentence = format!("Configured the app {}; new sessions see it.", name.handle);
                printer.done(&answer.body, &sentence)
            }
        }
    }
}

fn set_command(body: &mut Value, command: &[String]) {
    if let (Some(fields), false) = (body.as_object_mut(), command.is_empty()) {
        fields.insert("command".to_owned(), json!(command));
    }
}

fn variables(set: &[String], unset: Vec<String>) -> Result<Map<String, Value>> {
    let mut variables = Map::new();
    for assignment in set {
        let Some((name, value)) = assignment.split_once('=') else {
            bail!("{assignment} is not NAME=VALUE");
        };
        let value = match value.strip_prefix('@') {
            Some(text) if text.starts_with('@') => text.to_owned(),
            Some(path) => text_of(path)?,
            None if value == "-" => text_of("-")?,
            None => value.to_owned(),
        };
        if variables.insert(name.to_owned(), json!(value)).is_some() {
            bail!("{name} is set twice");
        }
    }
    for name in unset {
        if variables.insert(name.clone(), Value::Null).is_some() {
            bail!("{name} is given twice");
        }
    }
    Ok(variables)
}

fn text_of(path: &str) -> Result<String> {
    let text = file_text(path).context("a variable's value")?;
    Ok(text.strip_suffix('\n').map(str::to_owned).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(assignments: &[&str]) -> Result<Map<String, Value>> {
        variables(
            &assignments.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(),
            Vec::new(),
        )
    }

    #[test]
    fn values_may_hold_equals_signs_and_begin_with_at() {
        let variables = set(&["URL=postgres://x?a=b", "HANDLE=@@ada", "EMPTY="]).unwrap();
        assert_eq!(
            Value::Object(variables),
            json!({
                "URL": "postgres://x?a=b", "HANDLE": "@ada", "EMPTY": "",
            })
        );
    }

    #[test]
    fn value_of_a_file_loses_one_line_end() {
        let path = std::env::temp_dir().join(format!("variable-{}", std::process::id()));
        std::fs::write(&path, "secret\n\n").unwrap();
        let variables = set(&[&format!("KEY=@{}", path.display())]).unwrap();
        std::fs::remove_file(path).unwrap();
        assert_eq!(Value::Object(variables), json!({ "KEY": "secret\n" }));
    }

    #[test]
    fn variable_given_twice_is_refused() {
        assert!(set(&["A=1", "A=2"]).is_err());
        assert!(variables(&["A=1".to_owned()], vec!["A".to_owned()]).is_err());
        assert!(set(&["A"]).is_err());
    }
}
