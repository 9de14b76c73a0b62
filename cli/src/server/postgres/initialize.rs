//! Making the cluster.
//!
//! Invariant: the cluster's folder appears whole or not at all.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use model::Secret;

use super::{Account, Programs, version_file};
use crate::server::folder::Folder;

const DEADLINE: Duration = Duration::from_mins(5);

/// Makes the folder's cluster, unless it is there.
pub(crate) async fn unless_done(
    folder: &Folder,
    account: &Account,
    programs: &Programs,
    owner: &str,
    password: &Secret<String>,
) -> Result<()> {
    if version_file(&folder.cluster()).exists() {
        return Ok(());
    }
    tracing::info!(folder = %folder.cluster().display(), "making the database cluster");
    let draft = folder.path().join("postgres.new");
    if draft.exists() {
        std::fs::remove_dir_all(&draft)
            .with_context(|| format!("cannot remove {}", draft.display()))?;
    }
    account.make_folder(&draft)?;
    let password_file = folder.sockets().join("owner.password");
    crate::credentials::write_private(&password_file, password.expose().as_bytes())?;
    let made = make(&draft, &password_file, account, programs, owner).await;
    std::fs::remove_file(&password_file)?;
    made?;
    std::fs::rename(&draft, folder.cluster())
        .with_context(|| format!("cannot rename {}", draft.display()))
}

async fn make(
    draft: &Path,
    password_file: &Path,
    account: &Account,
    programs: &Programs,
    owner: &str,
) -> Result<()> {
    account.give(password_file)?;
    let mut command = Command::new(programs.path("initdb"));
    command
        .arg("--pgdata")
        .arg(draft)
        .args(["--username", owner, "--auth=scram-sha-256", "--data-checksums"])
        .args(["--encoding=UTF8", "--locale=C.UTF-8"])
        .arg("--pwfile")
        .arg(password_file)
        .stdin(Stdio::null());
    account.run_as(&mut command, draft);
    let mut command = tokio::process::Command::from(command);
    let output = tokio::time::timeout(DEADLINE, command.kill_on_drop(true).output())
        .await
        .context("initdb did not end within five minutes")?
        .with_context(|| format!("cannot run {}", programs.path("initdb").display()))?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        bail!("initdb failed ({}): {}", output.status, told.trim());
    }
    Ok(())
}
