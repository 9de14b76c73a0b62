//! `platform login`, `logout` and `whoami`.

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::Context;
use crate::args::Global;
use crate::client::{Authority, Client};
use crate::credentials::CredentialsFile;
use crate::{client, prompt};

/// Sign in with e-mail address and password; the sign-in is kept in ~/.config/spillway.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Your e-mail address; asked for if left out.
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// Read the password from the first line of standard input.
    #[arg(long)]
    password_stdin: bool,
}

/// End the sign-in and forget it.
#[derive(Debug, Args)]
pub(crate) struct Logout {}

/// Show who you are to the API, and your roles.
#[derive(Debug, Args)]
pub(crate) struct Whoami {}

impl Login {
    pub(crate) async fn run(self, global: &Global) -> Result<()> {
        let file = CredentialsFile::of_user()?;
        let url = global.api_url(None);
        let api = Client::new(&url, global.allow_http, Authority::Nobody)?;
        let email = match self.email {
            Some(email) => email,
            None if self.password_stdin => anyhow::bail!("--password-stdin needs --email, too"),
            None => prompt::ask("E-mail address")?,
        };
        let password = if self.password_stdin {
            prompt::password_from_stdin()?
        } else {
            prompt::ask_password("Password")?
        };
        let body = json!({ "email": email, "password": password.expose() });
        let answer = api.post(&["sign-in"], &body).await?;
        let base = api.base().to_string();
        let _lock = file.lock().await?;
        file.write(&client::credentials(&answer.body, base, email.clone())?)?;
        let told = json!({ "email": email, "api": api.base().as_str() });
        global.printer().done(&told, &format!("Signed in to {} as {email}.", api.base()))
    }
}

impl Logout {
    pub(crate) async fn run(self, global: &Global) -> Result<()> {
        let file = CredentialsFile::of_user()?;
        let _lock = file.lock().await?;
        if let Some(credentials) = file.read()? {
            let api = Client::new(&credentials.api_url, global.allow_http, Authority::Nobody)?;
            let body = json!({ "refresh_token": credentials.refresh_token.as_str() });
            let ended = api.post(&["sign-out"], &body).await;
            // Forgotten in any case: whoever signs out leaves the machine.
            file.remove()?;
            ended?;
        }
        global.printer().done(&json!({}), "Signed out.")
    }
}

impl Whoami {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let me = context.client.get(&["me"]).await?.body;
        context.printer.item(&me)
    }
}
