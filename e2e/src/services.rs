//! The services as processes of their own, over one database.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::process::Command;

use crate::openssh::OpenSsh;
use crate::platform::{Cli, binary, public_folder, registered_openssh};
use crate::postgres::{TestCluster, TestDatabase};
use crate::process::Process;
use crate::wait;

const DEADLINE: Duration = Duration::from_secs(30);

/// One of the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `spillway-api`.
    Api,
    /// `spillway-ssh-edge`.
    Edge,
    /// `spillway-drain-worker`.
    Worker,
    /// `spillway-intake`.
    Intake,
}

/// The services over a database in a cluster of their own, with the organization `acme` and its owner
/// Ada Lovelace; in most tests also with the environment `production` and the app `web`.
#[derive(Debug)]
pub struct Services {
    running: Vec<(Service, Process)>,
    api_port: u16,
    ssh_port: u16,
    database: TestDatabase,
    folder: TempDir,
}

impl Services {
    /// Makes database and keys, starts the services, and creates the app with this image.
    pub async fn with_app(image: &str) -> Result<Self> {
        let services = Self::only(&[Service::Api, Service::Edge, Service::Worker]).await?;
        services.cli().create_app(image).await?;
        Ok(services)
    }

    /// Makes database and keys, and starts these services, the API among them. There is no environment.
    pub async fn only(to_start: &[Service]) -> Result<Self> {
        let folder = public_folder()?;
        let database = TestDatabase::of_own_cluster(TestCluster::start().await?).await?;
        let [api_port, ssh_port] = [free_port()?, free_port()?];
        let mut services = Self { running: Vec::new(), api_port, ssh_port, database, folder };
        let keys = services.keys().display().to_string();
        let cli = services.cli();
        cli.run(&["keys", "create", "--dir", &keys]).await?;
        let url = services.database.admin_url().to_owned();
        cli.run(&["migrate", "--database-url", &url, "--keys-dir", &keys]).await?;
        for &service in to_start {
            services.start(service).await?;
        }
        let api = format!("http://127.0.0.1:{api_port}");
        cli.sign_in_as_owner(["--database-url", &url], &api).await?;
        Ok(services)
    }

    /// Starts a service that does not run, and waits until it answers.
    pub async fn start(&mut self, service: Service) -> Result<()> {
        let mut process = Process::start(self.command(service)?, &self.log(service))?;
        let port = match service {
            Service::Api => Some(self.api_port),
            Service::Edge => Some(self.ssh_port),
            // Nothing asks them; what they do shows that they run.
            Service::Worker | Service::Intake => None,
        };
        if let Some(port) = port {
            wait_for_listener(&mut process, port).await?;
        }
        self.running.push((service, process));
        Ok(())
    }

    /// Ends a service by SIGKILL.
    pub async fn kill(&mut self, service: Service) -> Result<()> {
        let Some(at) = self.running.iter().position(|(running, _)| *running == service) else {
            bail!("{service:?} is not running");
        };
        self.running.swap_remove(at).1.stop(Signal::KILL, DEADLINE).await?;
        Ok(())
    }

    /// A running service's process id.
    pub fn pid(&self, service: Service) -> Result<Pid> {
        let found = self.running.iter().find(|(running, _)| *running == service);
        found.with_context(|| format!("{service:?} is not running"))?.1.pid()
    }

    /// The database.
    pub const fn database(&mut self) -> &mut TestDatabase {
        &mut self.database
    }

    /// The command of the signed-in engineer.
    #[must_use]
    pub fn cli(&self) -> Cli {
        Cli::new(&self.folder.path().join("home"))
    }

    /// A folder for files that go with the services.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Plain OpenSSH with a new key that is registered for the engineer.
    pub async fn openssh(&self) -> Result<OpenSsh> {
        registered_openssh(&self.cli(), self.ssh_port, &self.keys(), self.folder.path()).await
    }

    /// What a service has logged.
    #[must_use]
    pub fn logged(&self, service: Service) -> String {
        std::fs::read_to_string(self.log(service)).unwrap_or_default()
    }

    fn keys(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    fn log(&self, service: Service) -> PathBuf {
        self.folder.path().join(format!("{service:?}.log").to_lowercase())
    }

    /// Starts another edge, of this program, with settings as those of the first; gives it and its
    /// client.
    pub async fn start_edge_beside(&self, program: &str) -> Result<(Process, OpenSsh)> {
        let port = free_port()?;
        let command = self.edge_command(program, port)?;
        let mut process = Process::start(command, &self.folder.path().join("beside.log"))?;
        wait_for_listener(&mut process, port).await?;
        let keys = self.keys();
        let client = registered_openssh(&self.cli(), port, &keys, self.folder.path()).await?;
        Ok((process, client))
    }

    fn edge_command(&self, program: &str, port: u16) -> Result<Command> {
        let url = self.database.admin_url();
        let mut command = Service::Edge.command_as(program, &self.keys(), url)?;
        command.args(["--ssh-listen", &format!("127.0.0.1:{port}")]);
        command.args(["--ssh-session-network", "none", "--ssh-runtime-dir"]);
        command.arg(self.folder.path().join(format!("edge-{port}")));
        Ok(command)
    }

    fn command(&self, service: Service) -> Result<Command> {
        if service == Service::Edge {
            return self.edge_command(service.program(), self.ssh_port);
        }
        let mut command = service.command(&self.keys(), self.database.admin_url())?;
        if service == Service::Api {
            command.args(["--api-listen", &format!("127.0.0.1:{}", self.api_port)]);
        } else if service == Service::Worker {
            command.args(["--drain-allow-network", "127.0.0.0/8,::1/128"]);
            // Soon another worker's, when this one is killed.
            command.args(["--drain-lease-seconds", "3"]);
        }
        Ok(command)
    }
}

impl Service {
    /// Its program with its keys, and its connection to the database of which `admin_url` is the
    /// owner's URL. Where it listens, and what else it is told, is to be added.
    pub fn command(self, keys: &Path, admin_url: &str) -> Result<Command> {
        self.command_as(self.program(), keys, admin_url)
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Api => "spillway-api",
            Self::Edge => "spillway-ssh-edge",
            Self::Worker => "spillway-drain-worker",
            Self::Intake => "spillway-intake",
        }
    }

    fn command_as(self, program: &str, keys: &Path, admin_url: &str) -> Result<Command> {
        let (role, url_flag, files): (_, _, &[(&str, &str)]) = match self {
            Self::Api => (
                "spillway_api",
                "--api-database-url",
                &[
                    ("--api-jwt-key", "jwt.key"),
                    ("--api-user-ca-key", "user_ca"),
                    ("--api-host-ca-public", "host_ca.pub"),
                    ("--api-edge-sealing-key", "edge_sealing.key"),
                    ("--api-worker-sealing-key", "worker_sealing.key"),
                ],
            ),
            Self::Edge => (
                "spillway_edge",
                "--ssh-database-url",
                &[
                    ("--ssh-host-key", "edge_host_key"),
                    ("--ssh-host-certificate", "edge_host_key-cert.pub"),
                    ("--ssh-user-ca-public", "user_ca.pub"),
                    ("--ssh-opening-key", "edge_opening.key"),
                ],
            ),
            Self::Worker => (
                "spillway_worker",
                "--drain-database-url",
                &[("--drain-opening-key", "worker_opening.key")],
            ),
            Self::Intake => ("spillway_intake", "--intake-database-url", &[]),
        };
        let password = std::fs::read_to_string(keys.join(format!("{role}.password")))
            .with_context(|| format!("the password of {role}"))?;
        let password = model::Secret::new(password.trim().to_owned());
        let url = store::migrations::role_url(admin_url, role, &password)?;
        let mut command = Command::new(binary(program)?);
        command.args(["--log-format", "text", url_flag, &url]);
        for (flag, file) in files {
            command.arg(flag).arg(keys.join(file));
        }
        Ok(command)
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        // In order, so that containers go with the edge; a kill follows for one that hangs.
        for (_, process) in &self.running {
            drop(process.signal(Signal::INT));
        }
        for (_, process) in &self.running {
            process.wait_for_end_blocking(Duration::from_secs(15));
        }
    }
}

async fn wait_for_listener(process: &mut Process, port: u16) -> Result<()> {
    let address = ([127, 0, 0, 1], port).into();
    wait::until_true("a service to listen", DEADLINE, async || {
        process.check_running()?;
        Ok(TcpSocket::new_v4()?.connect(address).await.is_ok())
    })
    .await
}

/// A port that is free now: services must come back on the port that they had.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
