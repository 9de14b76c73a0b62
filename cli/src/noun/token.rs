//! `platform token`.

use anyhow::Result;
use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::Context;
use super::key::only_match;
use crate::printer::Column;
use crate::select::field;

const COLUMNS: &[Column] = &[
    ("NAME", "/name"),
    ("CREATED", "/created_at"),
    ("EXPIRES", "/expires_at"),
    ("LAST USED", "/last_used_at"),
    ("ID", "/id"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List your API tokens.
    List,
    /// Create an API token with your own rights; it is shown once.
    Create {
        /// A name to know it by.
        name: String,
        /// When it ends, in RFC 3339 (2027-01-31T00:00:00Z); default: when it is revoked.
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
    },
    /// Revoke an API token.
    Revoke {
        /// Its name or id.
        token: String,
    },
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let Context { client, printer } = context;
        match self {
            Self::List => printer.list(&client.list(&["me", "api-tokens"], &[]).await?, COLUMNS),
            Self::Create { name, expires_at } => {
                let mut body = Map::new();
                body.insert("name".to_owned(), json!(name));
                body.extend(expires_at.map(|time| ("expires_at".to_owned(), json!(time))));
                let answer = client.post(&["me", "api-tokens"], &Value::Object(body)).await?;
                printer.done(&answer.body, field(&answer.body, "token"))
            }
            Self::Revoke { token } => {
                let tokens = client.list(&["me", "api-tokens"], &[]).await?;
                let found = only_match(&tokens, &token, "token", &["name", "id"])?;
                let answer = client.delete(&["me", "api-tokens", field(found, "id")]).await?;
                printer.done(&answer.body, &format!("Revoked the token {token}."))
            }
        }
    }
}
