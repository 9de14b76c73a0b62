//! Spillway's worker with one drain, and the stream that it reads.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use e2e::postgres::{TestCluster, TestDatabase};
use e2e::process::Process;
use log_stream::{Block, LogStream as _, PostgresSettings, PostgresStream};
use model::{Drain, Environment, Id, OpeningKey, Secret};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio_postgres::types::ToSql;

use super::load::{self, text};
use super::sink::{Protocol, Sink};
use crate::cpu::Part;
use crate::records::{RECORDS_PER_BLOCK, Session};

const DEADLINE: Duration = Duration::from_secs(20);

/// What the worker sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Syslog,
    /// JSON lines, as they are.
    Https,
    HttpsGzip,
}

impl Form {
    pub(super) const fn protocol(self) -> Protocol {
        match self {
            Self::Syslog => Protocol::Syslog,
            Self::Https | Self::HttpsGzip => Protocol::Https,
        }
    }
}

/// A database with an organization, its stream, and the worker's key.
pub(crate) struct World {
    pub(crate) admin: tokio_postgres::Client,
    pub(crate) stream: PostgresStream,
    key: OpeningKey,
    pub(crate) folder: TempDir,
    organization: Id<model::Organization>,
    pub(crate) database: TestDatabase,
}

impl World {
    /// In a cluster of its own, which flushes commits to disk.
    pub(crate) async fn start() -> Result<Self> {
        let database = TestDatabase::of_own_cluster(TestCluster::start().await?).await?;
        let admin = database.connect().await?;
        let organization = Id::generate();
        admin
            .batch_execute(&format!(
                "insert into organizations (id, handle, name) values ('{organization}', 'acme', 'Acme')"
            ))
            .await?;
        let url = Secret::new(database.admin_url().to_owned());
        let stream = PostgresStream::connect(PostgresSettings::new(url)).await?;
        let folder = tempfile::Builder::new().prefix("spillway-bench-").tempdir()?;
        let key = OpeningKey::generate();
        std::fs::write(folder.path().join("opening.key"), key.to_text().expose())?;
        Ok(Self { admin, stream, key, folder, organization, database })
    }

    /// Makes an environment.
    pub(crate) async fn environment(&self) -> Result<Id<Environment>> {
        let environment: Id<Environment> = Id::generate();
        self.admin
            .batch_execute(&format!(
                "insert into environments (id, organization_id, handle)
                 values ('{environment}', '{}', 'e-{environment}')",
                self.organization
            ))
            .await?;
        Ok(environment)
    }

    /// Makes an environment in which one session has shown lines with these numbers, each in a record
    /// of its own.
    pub(super) async fn backlog(&self, count: usize) -> Result<Id<Environment>> {
        let environment = self.environment().await?;
        let mut session = Session::new(environment)?;
        for first in (0..count).step_by(RECORDS_PER_BLOCK) {
            let numbers = first..count.min(first + RECORDS_PER_BLOCK);
            self.stream.append(lines(&mut session, numbers)?).await?;
        }
        Ok(environment)
    }

    /// Starts a worker that may send to this machine.
    pub(crate) fn worker(&self) -> Result<Process> {
        let mut command = Command::new(e2e::platform::binary("spillway-drain-worker")?);
        command.args(["--drain-database-url", &self.database.worker_url()?]);
        command.arg("--drain-opening-key").arg(self.folder.path().join("opening.key"));
        command.args(["--drain-allow-network", "127.0.0.0/8,::1/128", "--log-format", "text"]);
        command.args(["--log", "warn"]);
        Process::start(command, &self.folder.path().join("worker.log"))
    }

    /// Makes a drain of this environment from its beginning on.
    pub(crate) async fn drain(
        &self,
        environment: Id<Environment>,
        sink: &Sink,
        form: Form,
        has_every_tag: bool,
    ) -> Result<()> {
        let ca = &sink.certificate().authority;
        let url = format!("https://localhost:{}/", sink.port());
        let post = |compression: &str| {
            let destination =
                json!({ "url": url, "compression": compression, "ca_certificates": ca });
            ("https_post", destination)
        };
        let (kind, destination) = match form {
            Form::Syslog => {
                let destination =
                    json!({ "host": "localhost", "port": sink.port(), "ca_certificates": ca });
                ("syslog_tls_tcp", destination)
            }
            Form::Https => post("none"),
            Form::HttpsGzip => post("gzip"),
        };
        let [_id, same @ ..] = load::TAGS;
        let options = match form {
            _ if has_every_tag => json!({}),
            Form::Syslog => json!({ "tags": same }),
            Form::Https | Form::HttpsGzip => json!({ "tags": load::TAGS }),
        };
        self.drain_with(environment, kind, destination, options).await
    }

    /// Makes a drain of this environment from its beginning on, without credentials and options.
    pub(crate) async fn drain_to(
        &self,
        environment: Id<Environment>,
        kind: &str,
        destination: Value,
    ) -> Result<()> {
        self.drain_with(environment, kind, destination, json!({})).await
    }

    async fn drain_with(
        &self,
        environment: Id<Environment>,
        kind: &str,
        destination: Value,
        options: Value,
    ) -> Result<()> {
        let drain: Id<Drain> = Id::generate();
        let sealed = self.key.sealing_key().seal(drain.uuid(), b"{}");
        let columns = "insert into log_drains (id, environment_id, handle, kind, destination,
                 sealed_credentials, options, drain_apps, drain_databases, drain_ephemeral_sessions)
             values ($1, $2, $3, $4, $5::text::jsonb, $6, $7::text::jsonb, true, true, true)";
        let handle = format!("drain-{drain}");
        let (destination, options) = (destination.to_string(), options.to_string());
        let (drain_id, environment) = (drain.uuid(), environment.uuid());
        let values: [&(dyn ToSql + Sync); 7] =
            [&drain_id, &environment, &handle, &kind, &destination, &sealed, &options];
        self.admin.execute(columns, &values).await?;
        // Transaction ids begin above 0: everything comes after that.
        let position =
            "insert into drain_positions (drain_id, low_xid, low_seq, high_xid, high_seq)
             values ($1, 1, 0, 1, 0)";
        self.admin.execute(position, &[&drain.uuid()]).await?;
        Ok(self.admin.batch_execute(&format!("notify spillway_drains, '{drain}'")).await?)
    }

    /// Removes every drain.
    pub(crate) async fn remove_drains(&self) -> Result<()> {
        Ok(self.admin.batch_execute("delete from log_drains").await?)
    }

    /// Whose CPU time counts: a service's, and PostgreSQL's.
    pub(crate) fn parts(&mut self, service: &Process) -> Result<Vec<Part>> {
        let postgres = self.database.cluster().context("a cluster of its own")?.pid()?;
        Ok(vec![Part::Tree(service.pid()?.as_raw_pid()), Part::Tree(postgres.as_raw_pid())])
    }

    /// Stops a service in order.
    pub(crate) async fn stop(service: &mut Process) -> Result<()> {
        service.stop(Signal::INT, DEADLINE).await?;
        Ok(())
    }
}

/// A block of lines with these numbers.
pub(crate) fn lines(session: &mut Session, numbers: std::ops::Range<usize>) -> Result<Arc<Block>> {
    session.block(numbers.map(|number| Bytes::from(format!("{}\n", text(number)))))
}
