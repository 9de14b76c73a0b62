//! PostgreSQL: a database for a test, or a whole cluster that the test may stop and kill.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use model::Secret;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use store::migrations;
use tempfile::TempDir;
use tokio::process::Command;
use tokio_postgres::{Client, NoTls};
use url::Url;
use uuid::Uuid;

use crate::process::{self, Process, environment_variable};
use crate::wait;

const ROLE_PASSWORD: &str = "test-password-of-a-service";
const START: Duration = Duration::from_secs(30);

/// A new, migrated database, dropped with this value. It lives in the cluster that
/// `SPILLWAY_TEST_DATABASE_URL` names (a superuser's URL), or else in a cluster of its own.
#[derive(Debug)]
pub struct TestDatabase {
    maintenance_url: String,
    name: String,
    admin_url: String,
    own_cluster: Option<TestCluster>,
}

impl TestDatabase {
    /// Makes the database, migrates it and gives the three roles their password.
    pub async fn create() -> Result<Self> {
        match environment_variable("SPILLWAY_TEST_DATABASE_URL") {
            Some(url) => Self::create_in(url, None).await,
            None => Self::of_own_cluster(TestCluster::start().await?).await,
        }
    }

    /// Makes the database in a cluster that the test may stop and kill.
    pub async fn of_own_cluster(cluster: TestCluster) -> Result<Self> {
        Self::create_in(cluster.admin_url(), Some(cluster)).await
    }

    async fn create_in(maintenance_url: String, own_cluster: Option<TestCluster>) -> Result<Self> {
        let name = format!("test_{}", Uuid::new_v4().simple());
        let mut admin_url = Url::parse(&maintenance_url)
            .context("SPILLWAY_TEST_DATABASE_URL is postgres://user:password@host:port/postgres")?;
        admin_url.set_path(&name);
        // The other template may be in use by another test, and PostgreSQL then refuses.
        execute(&maintenance_url, &format!("create database {name} template template0")).await?;
        let database = Self { maintenance_url, name, admin_url: admin_url.into(), own_cluster };
        migrations::run(&database.admin_url).await?;
        let password = Secret::new(ROLE_PASSWORD.to_owned());
        let passwords = migrations::ROLES.map(|role| (role, &password));
        migrations::set_role_passwords(&database.admin_url, &passwords).await?;
        Ok(database)
    }

    /// The superuser's URL of this database.
    #[must_use]
    pub fn admin_url(&self) -> &str {
        &self.admin_url
    }

    /// The URL of the api's role.
    pub fn api_url(&self) -> Result<String> {
        self.role_url("spillway_api")
    }

    /// The URL of the edge's role.
    pub fn edge_url(&self) -> Result<String> {
        self.role_url("spillway_edge")
    }

    /// The URL of the intake's role.
    pub fn intake_url(&self) -> Result<String> {
        self.role_url("spillway_intake")
    }

    /// The URL of the worker's role.
    pub fn worker_url(&self) -> Result<String> {
        self.role_url("spillway_worker")
    }

    /// A connection as the superuser.
    pub async fn connect(&self) -> Result<Client> {
        connect(&self.admin_url).await
    }

    /// The cluster, when it is the test's own.
    pub fn cluster(&mut self) -> Option<&mut TestCluster> {
        self.own_cluster.as_mut()
    }

    fn role_url(&self, role: &str) -> Result<String> {
        Ok(migrations::role_url(&self.admin_url, role, &Secret::new(ROLE_PASSWORD.to_owned()))?)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if self.own_cluster.is_some() {
            return;
        }
        let statement = format!("drop database if exists {} with (force)", self.name);
        let url = self.maintenance_url.clone();
        // Dropping happens inside of a runtime, where another cannot be run on the same thread.
        let dropped = std::thread::spawn(move || -> Result<()> {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(execute(&url, &statement))
        })
        .join();
        if !matches!(dropped, Ok(Ok(()))) {
            eprintln!("the test database {} was not dropped: {dropped:?}", self.name);
        }
    }
}

/// Connects; the connection ends when the client is dropped.
pub async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio::time::timeout(START, tokio_postgres::connect(url, NoTls))
        .await
        .context("PostgreSQL does not answer")??;
    #[allow(clippy::disallowed_methods, reason = "it ends with its client")]
    tokio::spawn(connection);
    Ok(client)
}

async fn execute(url: &str, statement: &str) -> Result<()> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // The connection is driven here, so that it is closed when this returns.
    tokio::select! {
        outcome = client.batch_execute(statement) => outcome?,
        outcome = connection => outcome?,
    }
    Ok(())
}

/// A PostgreSQL cluster of the test's own, on a unix socket only. As root it runs under the
/// `postgres` account.
#[derive(Debug)]
pub struct TestCluster {
    server: Option<Process>,
    folder: TempDir,
    account: Option<(u32, u32)>,
    settings: Vec<String>,
}

impl TestCluster {
    /// Makes a cluster in a temporary folder and starts it.
    pub async fn start() -> Result<Self> {
        Self::start_in(&std::env::temp_dir(), &[]).await
    }

    /// Makes a cluster in a new folder within `parent`, which every account may pass through, and
    /// starts it with these settings (`name=value`).
    pub async fn start_in(parent: &Path, settings: &[&str]) -> Result<Self> {
        let (folder, account) = own_folder(parent)?;
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let mut cluster = Self { server: None, folder, account, settings };
        let mut initdb = cluster.command("initdb")?;
        initdb.args(["--username=postgres", "--auth=trust", "--no-sync", "--no-instructions"]);
        initdb.args(["--encoding=UTF8", "--locale=C.UTF-8"]).arg("-D").arg(cluster.data());
        process::succeed(initdb, START).await?;
        cluster.start_again().await?;
        Ok(cluster)
    }

    /// A hot standby of this cluster, which runs: it follows whatever is committed.
    pub async fn standby(&self) -> Result<Self> {
        let (folder, account) = own_folder(&std::env::temp_dir())?;
        let mut standby = Self { server: None, folder, account, settings: self.settings.clone() };
        let mut copy = standby.command("pg_basebackup")?;
        copy.args([
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
            "--wal-method=stream",
        ]);
        copy.args(["--username=postgres", "--host"]).arg(self.folder.path());
        copy.arg("--pgdata").arg(standby.data());
        process::succeed(copy, START).await?;
        standby.start_again().await?;
        Ok(standby)
    }

    /// Makes a standby take its primary's place.
    pub async fn promote(&mut self) -> Result<()> {
        let mut promote = self.command("pg_ctl")?;
        promote.arg("promote").arg("--pgdata").arg(self.data());
        process::succeed(promote, START).await?;
        Ok(())
    }

    /// The superuser's URL.
    #[must_use]
    pub fn admin_url(&self) -> String {
        let folder = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{folder}/postgres")
    }

    /// The server's first process.
    pub fn pid(&self) -> Result<Pid> {
        self.server.as_ref().context("PostgreSQL is not running")?.pid()
    }

    /// Starts the stopped or killed server and waits until it answers.
    pub async fn start_again(&mut self) -> Result<()> {
        let mut command = self.command("postgres")?;
        command.arg("-D").arg(self.data()).arg("-k").arg(self.folder.path());
        command.args(["-c", "listen_addresses=", "-c", "max_connections=200"]);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        // The log must not be in a folder that only the other account may write.
        let log = self.folder.path().join("server.log");
        let server = self.server.insert(Process::start(command, &log)?);
        let folder = self.folder.path().display().to_string().replace('/', "%2F");
        let url = format!("postgres://postgres@{folder}/postgres");
        wait::until("PostgreSQL to start", START, async || {
            server.check_running()?;
            Ok(tokio_postgres::connect(&url, NoTls).await.ok().map(drop))
        })
        .await
    }

    /// Starts the server again if it has ended by itself, as it does when it cannot recover. False:
    /// it has, and does not start yet.
    pub async fn keep_running(&mut self) -> bool {
        if self.server.as_mut().is_some_and(|server| server.check_running().is_ok()) {
            return true;
        }
        self.start_again().await.is_ok()
    }

    /// Ends every connection and stops the server in order (a fast shutdown).
    pub async fn stop(&mut self) -> Result<()> {
        self.end(Signal::INT).await
    }

    /// Kills the server at once, as a crash does: SIGQUIT ends its children with it, so that the
    /// data folder is free for the next start.
    pub async fn crash(&mut self) -> Result<()> {
        self.end(Signal::QUIT).await
    }

    /// Kills every process of the server with SIGKILL.
    pub async fn kill(&mut self) -> Result<()> {
        let mut server = self.server.take().context("PostgreSQL is not running")?;
        let children = children_of(server.pid()?.as_raw_pid())?;
        // The first: it would start its children again.
        server.stop(Signal::KILL, START).await?;
        for child in children {
            signal_if_running(child, Signal::KILL)?;
        }
        Ok(())
    }

    /// Whether the server runs: it ends by itself when it cannot write.
    pub fn is_running(&mut self) -> bool {
        self.server.as_mut().is_some_and(|server| server.check_running().is_ok())
    }

    /// The process ids of the server, its own first.
    pub fn pids(&self) -> Result<Vec<Pid>> {
        let server = self.server.as_ref().context("PostgreSQL is not running")?.pid()?;
        let mut pids = vec![server];
        pids.extend(children_of(server.as_raw_pid())?);
        Ok(pids)
    }

    /// Stops every process of the server from running, as a hung disk does, until
    /// [`Self::unfreeze`].
    pub fn freeze(&self) -> Result<()> {
        self.signal_all(Signal::STOP)
    }

    /// Lets a frozen server run on.
    pub fn unfreeze(&self) -> Result<()> {
        self.signal_all(Signal::CONT)
    }

    async fn end(&mut self, signal: Signal) -> Result<()> {
        let mut server = self.server.take().context("PostgreSQL is not running")?;
        server.stop(signal, START).await?;
        Ok(())
    }

    fn signal_all(&self, signal: Signal) -> Result<()> {
        let server = self.server.as_ref().context("PostgreSQL is not running")?;
        let children = children_of(server.pid()?.as_raw_pid())?;
        server.signal(signal)?;
        for child in children {
            signal_if_running(child, signal)?;
        }
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(binaries()?.join(program));
        command.current_dir(self.folder.path()).env("LC_ALL", "C.UTF-8");
        if let Some((uid, gid)) = self.account {
            command.uid(uid).gid(gid);
        }
        Ok(command)
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            // SIGQUIT ends the server's children too; the kill that follows would orphan them.
            drop(self.unfreeze());
            drop(server.signal(Signal::QUIT));
            let gone = self.data().join("postmaster.pid");
            for _ in 0..100 {
                if !gone.exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// A new folder for a server, and the account that it runs under if that is another.
fn own_folder(parent: &Path) -> Result<(TempDir, Option<(u32, u32)>)> {
    let folder = tempfile::Builder::new().prefix("spillway-pg-").tempdir_in(parent)?;
    let account = if rustix::process::geteuid().is_root() {
        let (uid, gid) = postgres_account()?;
        std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid))?;
        Some((uid, gid))
    } else {
        None
    };
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    Ok((folder, account))
}

/// A backend may have ended meanwhile.
fn signal_if_running(process: Pid, signal: Signal) -> Result<()> {
    match kill_process(process, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn children_of(parent: i32) -> Result<Vec<Pid>> {
    let text = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
    Ok(text.split_whitespace().filter_map(|pid| pid.parse().ok().and_then(Pid::from_raw)).collect())
}

fn postgres_account() -> Result<(u32, u32)> {
    let accounts = std::fs::read_to_string("/etc/passwd")?;
    let fields: Vec<&str> = accounts
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .context("there is no postgres account; install postgresql")?
        .split(':')
        .collect();
    match fields.as_slice() {
        [_, _, uid, gid, ..] => Ok((uid.parse()?, gid.parse()?)),
        _ => bail!("the postgres account in /etc/passwd has no ids"),
    }
}

/// The folder of PostgreSQL's server programs: the newest of Debian's.
fn binaries() -> Result<PathBuf> {
    let base = Path::new("/usr/lib/postgresql");
    let mut versions: Vec<u32> = std::fs::read_dir(base)
        .context("PostgreSQL's server is not installed (postgresql)")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|version: &u32| {
            base.join(version.to_string())
                .join("bin/postgres")
                .metadata()
                .is_ok_and(|file| file.mode() & 0o111 != 0)
        })
        .collect();
    versions.sort_unstable();
    let newest = versions.pop().context("no PostgreSQL server in /usr/lib/postgresql")?;
    Ok(base.join(newest.to_string()).join("bin"))
}
