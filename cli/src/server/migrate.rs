//! `platform migrate`, for deployments with separate services.

use anyhow::{Context as _, Result};
use clap::Args;
use model::Secret;
use serde_json::json;
use std::path::PathBuf;

use crate::printer::Printer;
use crate::server::keys::Keys;

/// Bring a database's schema up to date, and give the services' roles their passwords.
///
/// The roles are `spillway_api`, `spillway_edge` and `spillway_worker`; their passwords are in the
/// keys folder, in `ROLE.password`.
#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// The database, as its owner, who may create roles.
    #[arg(long, env = "SPILLWAY_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: String,
    /// The keys folder of `platform keys create`; without it, passwords stay as they are.
    #[arg(long, value_name = "DIR")]
    keys_dir: Option<PathBuf>,
}

impl Migrate {
    pub(crate) async fn run(self, printer: Printer) -> Result<()> {
        store::migrations::run(&self.database_url).await?;
        if let Some(folder) = &self.keys_dir {
            if !Keys::exist(folder) {
                anyhow::bail!(
                    "{} holds no keys; make them with: platform keys create --dir {}",
                    folder.display(),
                    folder.display()
                );
            }
            set_passwords(&self.database_url, &Keys::create(folder)?).await?;
        }
        printer.done(&json!({}), "The database is up to date.")
    }
}

/// Gives the services' roles the passwords of the keys folder.
pub(crate) async fn set_passwords(database_url: &str, keys: &Keys) -> Result<()> {
    let passwords: Vec<Secret<String>> = store::migrations::ROLES
        .iter()
        .map(|role| keys.password(role))
        .collect::<Result<_>>()
        .context("the roles' passwords")?;
    let pairs: Vec<(&str, &Secret<String>)> =
        store::migrations::ROLES.into_iter().zip(&passwords).collect();
    Ok(store::migrations::set_role_passwords(database_url, &pairs).await?)
}
