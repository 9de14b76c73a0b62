//! `platform up`: the four services in one process, over a database of its own or a given one.
//!
//! Order of start: database, schema, services. Order of end: services, which finish what they have
//! and commit, then the database.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use model::Secret;
use serde_json::json;
use service::{Shutdown, TelemetrySettings};
use store::bootstrap::Bootstrap;
use store::migrations::role_url;

use crate::printer::Printer;
use crate::server::folder::{Folder, FolderChoice};
use crate::server::keys::Keys;
use crate::server::migrate::set_passwords;
use crate::server::postgres::{Account, Cluster, check_socket_path, owner_url};

const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// Run the whole platform: API, SSH edge, intake and drain worker in one process, with a PostgreSQL
/// cluster of its own.
///
/// The first start makes the cluster, the keys and the certificate authorities in the data folder;
/// later starts continue. Ctrl-C stops in order; a second Ctrl-C stops at once. Every setting can
/// be given as a flag, as an environment variable, or in the file of --config; flags are stronger
/// than variables, and variables than the file.
#[derive(Debug, Args)]
#[command(
    mut_arg("log_format", |argument| argument.default_value("text")),
    mut_arg("ssh_runtime_dir", |argument| argument.default_value("edge").help(
        "The folder for the sessions' sockets and the guest's binary, from the data folder on. \
         Containers run a file in it, so it must not be on a file system mounted noexec"
    )),
)]
pub(crate) struct Up {
    #[command(flatten)]
    folder: FolderChoice,
    /// A TOML file whose keys are these flags without the dashes in front.
    #[arg(long, env = "SPILLWAY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Use this database, as its owner, who may create roles, instead of a cluster in the data
    /// folder: `postgres://USER:PASSWORD@HOST/DATABASE`.
    #[arg(long, env = "SPILLWAY_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    #[command(flatten, next_help_heading = "API")]
    api: api::Settings,
    #[command(flatten, next_help_heading = "SSH edge")]
    edge: ssh_edge::Settings,
    #[command(flatten, next_help_heading = "Intake")]
    intake: intake::Settings,
    #[command(flatten, next_help_heading = "Drain worker")]
    worker: drain_worker::Settings,
    #[command(flatten, next_help_heading = "Logs of the platform itself")]
    telemetry: TelemetrySettings,
}

/// The services, ready to run.
struct Services {
    api: api::Bound,
    edge: ssh_edge::Bound,
    intake: intake::Bound,
    worker: drain_worker::Bound,
}

/// What people are told when everything runs.
struct Ready {
    api: String,
    edge: String,
    intake: String,
    // The flag by which operators' commands find the database.
    database: String,
    // Nobody can sign in yet.
    is_new: bool,
}

impl Up {
    pub(crate) async fn run(self: Box<Self>, printer: Printer) -> Result<()> {
        service::start_telemetry(&self.telemetry).context("--log")?;
        let shutdown = Shutdown::new();
        shutdown.on_signals()?;
        let folder = self.folder.folder()?;
        let account = match &self.database_url {
            Some(_) => Account::current(),
            None => Account::for_database()?,
        };
        check_socket_path(&folder)?;
        let lock = folder.take(&account)?;
        if folder.cluster().exists() && !Keys::exist(&folder.keys()) {
            bail!(
                "{} holds a database, but {} has no keys: what is sealed in the one opens with the \
                 other only; restore the keys from a backup",
                folder.path().display(),
                folder.keys().display()
            );
        }
        let keys = Keys::create(&folder.keys())?;
        let ended = match &self.database_url {
            Some(url) => {
                let url = url.clone();
                Box::pin(self.serve(&folder, &keys, &url, &shutdown, printer)).await
            }
            None => {
                Box::pin(self.serve_with_cluster(&folder, &account, &keys, &shutdown, printer))
                    .await
            }
        };
        drop(lock);
        ended
    }

    async fn serve_with_cluster(
        self: Box<Self>,
        folder: &Folder,
        account: &Account,
        keys: &Keys,
        shutdown: &Shutdown,
        printer: Printer,
    ) -> Result<()> {
        // Not interrupted: it has deadlines, and half a start is harder to stop than a whole one.
        let mut cluster = Cluster::start(folder, account, keys).await?;
        let url = owner_url(folder, &keys.password("database_owner")?);
        let served = tokio::select! {
            served = Box::pin(self.serve(folder, keys, &url, shutdown, printer)) => served,
            // Never wins.
            never = cluster.keep_running() => match never {},
        };
        let stopped = cluster.stop().await;
        tracing::info!("the database has stopped");
        served.and(stopped)
    }

    /// Runs the services until the shutdown is requested or one of them fails.
    async fn serve(
        self: Box<Self>,
        folder: &Folder,
        keys: &Keys,
        database_url: &str,
        shutdown: &Shutdown,
        printer: Printer,
    ) -> Result<()> {
        let scheme = |is_tls| if is_tls { "https" } else { "http" };
        let api_scheme = scheme(self.api.api_tls_certificate.is_some());
        let intake_scheme = scheme(self.intake.intake_http_tls_certificate.is_some());
        let own_database = self.database_url.is_none();
        let starting = async {
            store::migrations::run(database_url).await?;
            set_passwords(database_url, keys).await?;
            self.bind(folder, keys, database_url).await
        };
        // A start that is given up has served nobody: what it holds is closed with the process.
        let Services { api, edge, intake, worker } = tokio::select! {
            services = starting => services?,
            () = shutdown.requested() => return Ok(()),
        };
        let ready = Ready {
            api: format!("{api_scheme}://{}", api.address()),
            edge: edge.address().to_string(),
            intake: format!("{intake_scheme}://{}", intake.http_address()),
            database: if own_database {
                format!("--data-dir {}", folder.path().display())
            } else {
                "--database-url URL".to_owned()
            },
            is_new: Bootstrap::connect(database_url).await?.organizations().await? == 0,
        };
        ready.tell(printer)?;
        let (api, edge, intake, worker) = tokio::join!(
            until_stopped("API", api.run(shutdown.clone()), shutdown),
            until_stopped("SSH edge", edge.run(shutdown.clone()), shutdown),
            until_stopped("intake", intake.run(shutdown.clone()), shutdown),
            until_stopped("drain worker", worker.run(shutdown.clone()), shutdown),
        );
        if !shutdown.finished(STOP_DEADLINE).await {
            bail!("some tasks had not ended {} s after the services", STOP_DEADLINE.as_secs());
        }
        api.and(edge).and(intake).and(worker)
    }

    async fn bind(self: Box<Self>, folder: &Folder, keys: &Keys, url: &str) -> Result<Services> {
        let password =
            |role: &str| Ok::<_, anyhow::Error>(role_url(url, role, &keys.password(role)?)?);
        let worker = drain_worker::bind(drain_worker::Config {
            settings: self.worker,
            connections: drain_worker::Connections {
                drain_database_url: password("spillway_worker")?,
                drain_opening_key: keys.file("worker_opening.key"),
            },
        });
        let worker = worker.await.context("the drain worker cannot start")?;
        let intake = intake::bind(intake::Config {
            settings: self.intake,
            connections: intake::Connections { intake_database_url: password("spillway_intake")? },
        });
        let intake = intake.await.context("the intake cannot start")?;
        let mut edge_settings = self.edge;
        edge_settings.ssh_runtime_dir = folder.path().join(&edge_settings.ssh_runtime_dir);
        let edge = ssh_edge::bind(ssh_edge::Config {
            settings: edge_settings,
            connections: ssh_edge::Connections {
                ssh_database_url: password("spillway_edge")?,
                ssh_host_key: keys.file("edge_host_key"),
                ssh_host_certificate: keys.file("edge_host_key-cert.pub"),
                ssh_user_ca_public: keys.file("user_ca.pub"),
                ssh_opening_key: keys.file("edge_opening.key"),
            },
        });
        let edge = edge.await.context("the SSH edge cannot start")?;
        let api = api::bind(api::Config {
            settings: self.api,
            connections: api::Connections {
                api_database_url: Secret::new(password("spillway_api")?),
                api_jwt_key: keys.file("jwt.key"),
                api_user_ca_key: keys.file("user_ca"),
                api_host_ca_public: keys.file("host_ca.pub"),
                api_edge_sealing_key: keys.file("edge_sealing.key"),
                api_worker_sealing_key: keys.file("worker_sealing.key"),
            },
        });
        let api = api.await.context("the API cannot start")?;
        Ok(Services { api, edge, intake, worker })
    }
}

/// Runs a service; the first that ends ends the others, each in its own order.
async fn until_stopped<E>(
    name: &str,
    service: impl Future<Output = Result<(), E>>,
    shutdown: &Shutdown,
) -> Result<()>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let ended = service.await;
    tracing::info!("the {name} has stopped");
    shutdown.request();
    ended.with_context(|| format!("the {name} failed"))
}

impl Ready {
    fn tell(&self, printer: Printer) -> Result<()> {
        let Self { api, edge, intake, database, is_new } = self;
        if printer.is_json() {
            let told = json!({ "ready": true, "api": api, "ssh": edge, "intake": intake });
            return Printer::raw(&format!("{told}\n"));
        }
        printer.line(&format!(
            "Spillway is ready.\n  API       {api}\n  SSH edge  {edge}\n  Intake    {intake}"
        ))?;
        if *is_new {
            printer.line(&format!(
                "There is no organization yet. In another terminal:\n  \
                 platform admin organization create {database} --handle acme --name Acme\n  \
                 platform admin user create {database} --organization acme --role owner \\\n    \
                 --email you@example.com --name 'Your Name'\n  \
                 platform login --api {api} --email you@example.com"
            ))?;
        }
        printer.line("Ctrl-C stops it.")
    }
}
