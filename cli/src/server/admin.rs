//! `platform admin`: the first organizations and users. The API cannot make them, because nobody
//! could sign in to it yet.

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use model::{Handle, Role, Secret};
use serde_json::json;
use store::bootstrap::{Bootstrap, NewUser};

use crate::printer::Printer;
use crate::prompt;
use crate::server::folder::FolderChoice;
use crate::server::keys::{Keys, random_password};
use crate::server::postgres::owner_url;

/// Short passwords are guessed (NIST SP 800-63B-4, section 3.1.1.2).
const SHORTEST_PASSWORD: usize = 12;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Organizations.
    #[command(subcommand)]
    Organization(Organization),
    /// Users.
    #[command(subcommand)]
    User(User),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Organization {
    /// Create an organization.
    Create {
        /// Its handle: 1 to 63 of a-z, 0-9 and '-'.
        #[arg(long)]
        handle: Handle,
        /// Its name, for people; default: the handle.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        database: Database,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Create a user who is a member of an organization.
    Create(CreateUser),
    /// Make a user a member of one more organization, or change the role there.
    AddTo {
        /// The user's e-mail address.
        #[arg(long, value_name = "ADDRESS")]
        email: String,
        /// The organization's handle.
        #[arg(long, value_name = "HANDLE")]
        organization: Handle,
        /// What the user may do there: owner, admin, engineer, auditor or viewer.
        #[arg(long)]
        role: Role,
        #[command(flatten)]
        database: Database,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateUser {
    /// The user's e-mail address, to sign in with.
    #[arg(long, value_name = "ADDRESS")]
    email: String,
    /// The user's name, as it appears in the logs of sessions.
    #[arg(long)]
    name: String,
    /// The organization's handle.
    #[arg(long, value_name = "HANDLE")]
    organization: Handle,
    /// What the user may do there: owner, admin, engineer, auditor or viewer.
    #[arg(long)]
    role: Role,
    /// Read the password from the first line of standard input, instead of asking for it.
    #[arg(long, conflicts_with = "generate_password")]
    password_stdin: bool,
    /// Make a random password and print it.
    #[arg(long)]
    generate_password: bool,
    #[command(flatten)]
    database: Database,
}

/// Which database.
#[derive(Debug, Args)]
pub(crate) struct Database {
    #[command(flatten)]
    folder: FolderChoice,
    /// The database, as its owner, where it is not the one that `platform up` runs in the data
    /// folder.
    #[arg(long, env = "SPILLWAY_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
}

impl Database {
    async fn connect(&self) -> Result<Bootstrap> {
        if let Some(url) = &self.database_url {
            return Ok(Bootstrap::connect(url).await?);
        }
        let folder = self.folder.folder()?;
        let path = folder.path().display();
        if !Keys::exist(&folder.keys()) {
            bail!(
                "there is nothing in {path} that you can read; is it the --data-dir of `platform up`?"
            );
        }
        let password = Keys::create(&folder.keys())?.password("database_owner")?;
        Bootstrap::connect(&owner_url(&folder, &password))
            .await
            .with_context(|| format!("is `platform up` running on {path}?"))
    }
}

impl Command {
    pub(crate) async fn run(self, printer: Printer) -> Result<()> {
        match self {
            Self::Organization(Organization::Create { handle, name, database }) => {
                let name = name.unwrap_or_else(|| handle.as_str().to_owned());
                let id = database.connect().await?.create_organization(&handle, &name).await?;
                let told = json!({ "id": id, "handle": handle, "name": name });
                printer.done(&told, &format!("Created the organization {handle}."))
            }
            Self::User(User::Create(command)) => command.run(printer).await,
            Self::User(User::AddTo { email, organization, role, database }) => {
                let mut bootstrap = database.connect().await?;
                let id = bootstrap.organization(&organization).await?;
                let Some(user) = bootstrap.user(&email).await? else {
                    bail!("there is no user with the e-mail address {email}");
                };
                bootstrap.add_member(id, user, role).await?;
                let told = json!({ "id": user, "organization": organization, "role": role });
                printer.done(&told, &format!("{email} is now {role} in {organization}."))
            }
        }
    }
}

impl CreateUser {
    async fn run(self, printer: Printer) -> Result<()> {
        check_email(&self.email)?;
        if self.name.trim().is_empty() || self.name.chars().any(char::is_control) {
            bail!("the name must be one line of text: logs show it");
        }
        let mut bootstrap = self.database.connect().await?;
        let organization = bootstrap.organization(&self.organization).await?;
        let password = self.password()?;
        let user = NewUser {
            password_hash: api::hash_password(&password)?,
            email: self.email,
            name: self.name,
        };
        let id = bootstrap.create_user(&user, organization, self.role).await?;
        let mut told = json!({
            "id": id,
            "email": user.email,
            "name": user.name,
            "organization": self.organization,
            "role": self.role,
        });
        let mut sentence =
            format!("Created the user {}, {} in {}.", user.email, self.role, self.organization);
        if let (true, Some(fields)) = (self.generate_password, told.as_object_mut()) {
            fields.insert("password".to_owned(), json!(password.expose()));
            sentence.push_str("\nPassword (shown once): ");
            sentence.push_str(password.expose());
        }
        printer.done(&told, &sentence)
    }

    fn password(&self) -> Result<Secret<String>> {
        if self.generate_password {
            return Ok(random_password());
        }
        let password = if self.password_stdin {
            prompt::password_from_stdin()?
        } else {
            let password = prompt::ask_password(&format!("Password for {}", self.email))?;
            let again = prompt::ask_password("The same again")?;
            if password.expose() != again.expose() {
                bail!("the two passwords differ; nothing was created");
            }
            password
        };
        if password.expose().chars().count() < SHORTEST_PASSWORD {
            bail!("a password has at least {SHORTEST_PASSWORD} characters");
        }
        Ok(password)
    }
}

/// Catches slips; whether mail arrives, nobody can tell from the text.
fn check_email(email: &str) -> Result<()> {
    let parts = email.split_once('@');
    let plain = |text: &str| !text.is_empty() && !text.contains(['@', ' ']) && text.is_ascii();
    match parts {
        Some((name, host)) if plain(name) && plain(host) && email.len() <= 254 => Ok(()),
        _ => bail!("{email} is not an e-mail address"),
    }
}
