//! `platform db`.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Context;
use super::docker_run::DockerRun;
use crate::printer::Column;
use crate::prompt::confirm_deletion;
use crate::select::{EnvironmentChoice, field};

const COLUMNS: &[Column] =
    &[("HANDLE", "/handle"), ("ENGINE", "/engine"), ("CREATED", "/created_at"), ("ID", "/id")];

const ENGINES: [&str; 6] = ["postgresql", "mysql", "mariadb", "redis", "mongodb", "other"];

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the databases of an environment.
    List(EnvironmentChoice),
    /// Show a database.
    Show(Name),
    /// Create a database.
    Create {
        #[command(flatten)]
        name: Name,
        /// Its engine.
        #[arg(long, value_parser = ENGINES)]
        engine: String,
    },
    /// Change a database.
    Update {
        #[command(flatten)]
        name: Name,
        /// A new handle.
        #[arg(long = "handle", value_name = "HANDLE")]
        new_handle: Option<String>,
        /// Another engine.
        #[arg(long, value_parser = ENGINES)]
        engine: Option<String>,
    },
    /// Show how to run a database's container so that its log is recorded.
    ///
    /// The intake of the Docker daemon (--intake-docker-host) follows containers with these labels. Nothing is
    /// run.
    Run {
        #[command(flatten)]
        name: Name,
        /// The container image, and the command to run in it if not the image's.
        #[arg(last = true, required = true, value_name = "IMAGE COMMAND")]
        program: Vec<String>,
    },
    /// Delete a database.
    Delete {
        #[command(flatten)]
        name: Name,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Which database.
#[derive(Debug, Args)]
pub(crate) struct Name {
    /// The database's handle.
    #[arg(value_name = "DATABASE")]
    handle: String,
    #[command(flatten)]
    environment: EnvironmentChoice,
}

impl Name {
    async fn find(&self, context: &Context) -> Result<Value> {
        self.environment.child(&context.client, "databases", &self.handle).await
    }
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let Context { client, printer } = context;
        match self {
            Self::List(environment) => {
                let path = ["environments", &environment.id(client).await?, "databases"];
                printer.list(&client.list(&path, &[]).await?, COLUMNS)
            }
            Self::Show(name) => printer.item(&name.find(context).await?),
            Self::Create { name, engine } => {
                let path = ["environments", &name.environment.id(client).await?, "databases"];
                let body = json!({ "handle": name.handle, "engine": engine });
                let answer = client.post(&path, &body).await?;
                printer.done(&answer.body, &format!("Created the database {}.", name.handle))
            }
            Self::Update { name, new_handle, engine } => {
                let mut body = Map::new();
                body.extend(new_handle.map(|handle| ("handle".to_owned(), json!(handle))));
                body.extend(engine.map(|engine| ("engine".to_owned(), json!(engine))));
                let found = name.find(context).await?;
                let path = ["databases", field(&found, "id")];
                let etag = client.get(&path).await?.etag;
                let answer = client.patch(&path, &Value::Object(body), etag).await?;
                printer.done(&answer.body, &format!("Changed the database {}.", name.handle))
            }
            Self::Run { name, program } => {
                name.find(context).await?;
                let environment = &name.environment;
                let line = DockerRun::new(environment, context, "database", &name.handle).await?;
                line.print(*printer, program)
            }
            Self::Delete { name, yes } => {
                let found = name.find(context).await?;
                confirm_deletion("database", &name.handle, yes)?;
                let answer = client.delete(&["databases", field(&found, "id")]).await?;
                printer.done(&answer.body, &format!("Deleted the database {}.", name.handle))
            }
        }
    }
}
