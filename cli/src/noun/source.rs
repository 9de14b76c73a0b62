//! `platform source`.

use anyhow::Result;
use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Context;
use super::environment::{Limit, limit_or};
use crate::printer::Column;
use crate::prompt::{confirm_deletion, file_text};
use crate::select::{EnvironmentChoice, field};

const COLUMNS: &[Column] = &[
    ("HANDLE", "/handle"),
    ("TOKEN", "/token_key"),
    ("LINES", "/lines"),
    ("LAST LINE", "/last_line_at"),
    ("REFUSED", "/refused"),
    ("LAST REFUSAL", "/last_refusal"),
    ("DISABLED", "/disabled_at"),
];

/// A quota that is none of its own.
const DEFAULT: &str = "default";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the log sources of an environment.
    List(EnvironmentChoice),
    /// Show a log source and what has come in.
    Show(Name),
    /// Create a log source of an app or a database; its token is shown once.
    Create(Create),
    /// Change a log source; what is left out stays as it is.
    Update {
        #[command(flatten)]
        name: Name,
        /// A new handle.
        #[arg(long = "handle", value_name = "HANDLE")]
        new_handle: Option<String>,
        #[command(flatten)]
        settings: Settings,
        /// Let no client certificate stand for the token any more.
        #[arg(long, conflicts_with = "client_certificate")]
        no_client_certificates: bool,
    },
    /// Give a log source another token; it is shown once.
    Rotate {
        #[command(flatten)]
        name: Name,
        /// The old token is good for so many seconds more, up to a day.
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        keep_old_seconds: u32,
    },
    /// Take nothing from a log source until it is enabled again.
    Disable(Name),
    /// Take lines from a disabled log source again.
    Enable(Name),
    /// Delete a log source; what it has written stays.
    Delete {
        #[command(flatten)]
        name: Name,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Which log source.
#[derive(Debug, Args)]
pub(crate) struct Name {
    /// The log source's handle.
    #[arg(value_name = "SOURCE")]
    handle: String,
    #[command(flatten)]
    environment: EnvironmentChoice,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("subject").required(true))]
pub(crate) struct Create {
    #[command(flatten)]
    name: Name,
    /// The handle of the app whose lines it writes.
    #[arg(long, value_name = "HANDLE", group = "subject")]
    app: Option<String>,
    /// The handle of the database whose lines it writes.
    #[arg(long, value_name = "HANDLE", group = "subject")]
    database: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// A client certificate that stands for the token, in PEM; may be repeated. All that there were are replaced.
    #[arg(long, value_name = "FILE")]
    client_certificate: Vec<String>,
    /// Bytes that it may send in a second, or `default`: what the intake's settings say.
    #[arg(long, value_name = "BYTES", value_parser = limit_or(DEFAULT))]
    bytes_per_second: Option<Limit>,
    /// Bytes that it may send at once, or `default`.
    #[arg(long, value_name = "BYTES", value_parser = limit_or(DEFAULT))]
    burst_bytes: Option<Limit>,
}

impl Name {
    async fn id(&self, context: &Context) -> Result<String> {
        let found = self.environment.child(&context.client, "log-sources", &self.handle).await?;
        Ok(field(&found, "id").to_owned())
    }

    async fn change(&self, context: &Context, body: &Value, verb: &str) -> Result<()> {
        let id = self.id(context).await?;
        let etag = context.client.get(&["log-sources", &id]).await?.etag;
        let answer = context.client.patch(&["log-sources", &id], body, etag).await?;
        context.printer.done(&answer.body, &format!("{verb} the log source {}.", self.handle))
    }
}

impl Settings {
    fn fields(&self) -> Result<Map<String, Value>> {
        let mut fields = Map::new();
        if !self.client_certificate.is_empty() {
            let texts: Result<Vec<_>> =
                self.client_certificate.iter().map(|path| file_text(path)).collect();
            fields.insert("client_certificates".to_owned(), json!(texts?));
        }
        for (name, limit) in
            [("bytes_per_second", self.bytes_per_second), ("burst_bytes", self.burst_bytes)]
        {
            fields.extend(limit.map(|limit| (name.to_owned(), json!(limit))));
        }
        Ok(fields)
    }
}

impl Create {
    async fn run(self, context: &Context) -> Result<()> {
        let Self { name, app, database, settings } = self;
        let (client, environment) = (&context.client, &name.environment);
        let mut body = settings.fields()?;
        body.insert("handle".to_owned(), json!(name.handle));
        for (key, collection, handle) in
            [("app_id", "apps", app), ("database_id", "databases", database)]
        {
            if let Some(handle) = handle {
                let found = environment.child(client, collection, &handle).await?;
                body.insert(key.to_owned(), json!(field(&found, "id")));
            }
        }
        let path = ["environments", &environment.id(client).await?, "log-sources"];
        let created = client.post(&path, &Value::Object(body)).await?.body;
        let sentence = format!("Created the log source {}.", name.handle);
        context.printer.done(&created, &with_token(&sentence, field(&created, "token")))
    }
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let Context { client, printer } = context;
        match self {
            Self::List(environment) => {
                let path = ["environments", &environment.id(client).await?, "log-sources"];
                printer.list(&client.list(&path, &[]).await?, COLUMNS)
            }
            Self::Show(name) => {
                let id = name.id(context).await?;
                printer.item(&client.get(&["log-sources", &id]).await?.body)
            }
            Self::Create(create) => create.run(context).await,
            Self::Update { name, new_handle, settings, no_client_certificates } => {
                let mut body = settings.fields()?;
                body.extend(new_handle.map(|handle| ("handle".to_owned(), json!(handle))));
                if no_client_certificates {
                    body.insert("client_certificates".to_owned(), json!([]));
                }
                name.change(context, &Value::Object(body), "Changed").await
            }
            Self::Rotate { name, keep_old_seconds } => {
                let path = ["log-sources", &name.id(context).await?, "rotate"];
                let body = json!({ "keep_old_seconds": keep_old_seconds });
                let rotated = client.post(&path, &body).await?.body;
                let sentence = format!("Rotated the token of the log source {}.", name.handle);
                printer.done(&rotated, &with_token(&sentence, field(&rotated, "token")))
            }
            Self::Disable(name) => {
                name.change(context, &json!({ "disabled": true }), "Disabled").await
            }
            Self::Enable(name) => {
                name.change(context, &json!({ "disabled": false }), "Enabled").await
            }
            Self::Delete { name, yes } => {
                let id = name.id(context).await?;
                confirm_deletion("log source", &name.handle, yes)?;
                let answer = client.delete(&["log-sources", &id]).await?;
                printer.done(&answer.body, &format!("Deleted the log source {}.", name.handle))
            }
        }
    }
}

/// What was done, the token, and what to do with it.
fn with_token(sentence: &str, token: &str) -> String {
    format!(
        r#"{sentence} Its token, which is not shown again:

    {token}

To send lines, with your intake's host for INTAKE:

    curl -H 'Authorization: Bearer {token}' -H 'Content-Type: text/plain' \
        --data-binary 'a line' https://INTAKE:4318/logs

    docker run --log-driver syslog --log-opt syslog-address=tcp+tls://INTAKE:6514 \
        --log-opt syslog-format=rfc5424 --log-opt 'tag={token}/{{{{.Name}}}}' IMAGE

    # rsyslog.conf; the file has the authorities that the intake's certificate may be of
    global(defaultNetstreamDriverCAFile="/etc/ssl/certs/ca-certificates.crt")
    template(name="spillway" type="string" string="<%PRI%>1 %TIMESTAMP:::date-rfc3339% %HOSTNAME% %APP-NAME% %PROCID% %MSGID% [{token}@32473]%msg:::sp-if-no-1st-sp%%msg%\n")
    action(type="omfwd" target="INTAKE" port="6514" protocol="tcp" template="spillway"
        StreamDriver="ossl" StreamDriverMode="1" StreamDriverAuthMode="x509/name"
        StreamDriverPermittedPeers="INTAKE")"#
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Ok(Line::try_parse_from(std::iter::once("source").chain(line.split(' ')))?.command)
    }

    #[test]
    fn source_is_of_one_app_or_one_database() {
        assert!(parse("create web-logs --app web").is_ok());
        assert!(parse("create main-logs --database main --burst-bytes 4096").is_ok());
        for bad in ["create a", "create a --app b --database c", "update a --bytes-per-second x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_is_given_is_changed() {
        let fields = |line: &str| match parse(line) {
            Ok(Command::Update { settings, .. }) => settings.fields().map(Value::Object).ok(),
            _ => None,
        };
        assert_eq!(fields("update a"), Some(json!({})));
        assert_eq!(
            fields("update a --burst-bytes default --bytes-per-second 2048"),
            Some(json!({ "burst_bytes": null, "bytes_per_second": 2048 }))
        );
        assert_eq!(fields("update a --client-certificate /nowhere"), None);
    }
}
