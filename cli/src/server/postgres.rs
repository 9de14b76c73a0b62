//! The PostgreSQL cluster of `platform up`.
//!
//! Invariants: it listens on a unix socket that only its account and root reach; it acknowledges
//! what is on disk, nothing earlier; it does not outlive this process.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use model::Secret;
use tokio::time::{Instant, sleep};
use url::form_urlencoded::byte_serialize;

mod account;
mod initialize;
mod process;
mod programs;

pub(crate) use account::Account;
pub(crate) use process::BecomePostgres;

use crate::server::folder::Folder;
use crate::server::keys::Keys;
use process::Server;
use programs::Programs;

/// The cluster's owner; the services have roles of their own.
const OWNER: &str = "spillway";
const DATABASE: &str = "spillway";
/// The longest path of a unix socket: `sun_path` of unix(7), without its final zero.
const SOCKET_PATH_LIMIT: usize = 107;
const START_DEADLINE: Duration = Duration::from_mins(2);
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// A running cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    server: Server,
    programs: Programs,
    folder: Folder,
    account: Account,
}

/// The URL by which the owner connects to the cluster of a data folder.
pub(crate) fn owner_url(folder: &Folder, password: &Secret<String>) -> String {
    let folder = folder.sockets();
    let host: String = byte_serialize(folder.as_os_str().as_encoded_bytes()).collect();
    // Not every client reads a plus sign as a space.
    let host = host.replace('+', "%20");
    format!("postgres://{OWNER}:{}@{host}/{DATABASE}", password.expose())
}

/// Refuses a data folder in which the socket's path would be too long.
pub(crate) fn check_socket_path(folder: &Folder) -> Result<()> {
    let socket = folder.sockets().join(".s.PGSQL.5432");
    let length = socket.as_os_str().len();
    if length > SOCKET_PATH_LIMIT {
        bail!(
            "the path of --data-dir is {} bytes too long for a unix socket in it ({}); \
             give a shorter one",
            length - SOCKET_PATH_LIMIT,
            socket.display()
        );
    }
    Ok(())
}

impl Cluster {
    /// Starts the folder's cluster, which is made at the first call, and waits until it answers.
    pub(crate) async fn start(folder: &Folder, account: &Account, keys: &Keys) -> Result<Self> {
        let password = keys.password("database_owner")?;
        let programs = Programs::find(&folder.cluster())?;
        account.make_folder(&folder.sockets())?;
        initialize::unless_done(folder, account, &programs, OWNER, &password).await?;
        process::stop_leftover(&folder.cluster()).await?;
        let server = Server::spawn(folder, account, &programs)?;
        let (folder, account) = (folder.clone(), account.clone());
        let mut cluster = Self { server, programs, folder, account };
        cluster.wait_until_ready(&password).await?;
        Ok(cluster)
    }

    /// Keeps the server running: starts it again whenever it has ended. Never returns; losing this
    /// future in a `select!` loses nothing.
    pub(crate) async fn keep_running(&mut self) -> Infallible {
        loop {
            let status = self.server.ended().await;
            tracing::error!(%status, "the database server has ended; starting it again");
            sleep(RESTART_PAUSE).await;
            if let Err(error) = process::stop_leftover(&self.folder.cluster()).await {
                tracing::error!("{error:#}");
                continue;
            }
            match Server::spawn(&self.folder, &self.account, &self.programs) {
                Ok(server) => self.server = server,
                Err(error) => tracing::error!("{error:#}"),
            }
        }
    }

    /// Stops the server: connections are cut, what is committed is kept.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.server.stop().await
    }

    async fn wait_until_ready(&mut self, password: &Secret<String>) -> Result<()> {
        let url = owner_url(&self.folder, password);
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            let refusal = match store::migrations::create_database(&url).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let log = Server::log(&self.folder);
            if let Some(status) = self.server.has_ended()? {
                bail!(
                    "the database server ended at its start ({status}): {}; see {}",
                    last_line(&log),
                    log.display()
                );
            }
            if Instant::now() > deadline {
                return Err(refusal).with_context(|| {
                    format!("the database server is not ready; see {}", log.display())
                });
            }
            sleep(Duration::from_millis(30)).await;
        }
    }
}

fn last_line(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
}

fn version_file(cluster: &Path) -> PathBuf {
    cluster.join("PG_VERSION")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::folder::FolderChoice;

    fn folder(path: &str) -> Folder {
        FolderChoice { data_dir: Some(path.into()) }.folder().unwrap()
    }

    #[test]
    fn folder_too_long_for_a_socket_is_refused_with_a_sentence() {
        assert!(check_socket_path(&folder("/var/lib/spillway")).is_ok());
        let error = check_socket_path(&folder(&format!("/{}", "x".repeat(100)))).unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
    }

    #[test]
    fn url_survives_any_folder_name() {
        let url = owner_url(&folder("/tmp/A b%?#@é"), &Secret::new("pw".to_owned()));
        let url = store::migrations::role_url(&url, "r", &Secret::new("p".to_owned())).unwrap();
        assert_eq!(url, "postgres://r:p@%2Ftmp%2FA%20b%25%3F%23%40%C3%A9%2Frun/spillway");
    }
}
