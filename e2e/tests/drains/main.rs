//! Log drains from the stream to real receivers: the built worker over PostgreSQL, rsyslog, a TLS
//! sink that ends its connections in chosen ways, and an HTTPS receiver that answers as told.

#![allow(clippy::indexing_slicing, reason = "a test that finds less than it wants may panic")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use e2e::postgres::TestDatabase;
use e2e::process::Process;
use e2e::wait;
use log_stream::{Block, LogStream as _, PostgresSettings, PostgresStream};
use model::{
    AppTag, Drain, EnvironmentTag, Event, Id, OpeningKey, Origin, OutputStream, Record, Secret,
    SessionStarted, SessionTag, Source, Timestamp,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

mod activity;
mod client_certificates;
mod concurrency;
mod containers;
mod content;
mod deletion;
mod destinations;
mod disconnects;
mod lines;
mod mail;
mod memory;
mod notices;
mod options;
mod outages;
mod ownership;
mod refusals;
mod retention;
mod silence;
mod state;
mod vendors;

use lines::Delivered;

/// Far more than anything here takes.
const DEADLINE: Duration = Duration::from_mins(1);

/// A database with one environment, its stream, and the worker's key.
struct World {
    database: TestDatabase,
    admin: tokio_postgres::Client,
    stream: PostgresStream,
    environment: EnvironmentTag,
    app: AppTag,
    key: OpeningKey,
    folder: TempDir,
}

/// A drain's row and position.
#[derive(Debug)]
struct State {
    delivered: i64,
    rejected: i64,
    failing: bool,
    error: String,
    lag_records: i64,
    lag_seconds: f64,
}

impl World {
    async fn new() -> Result<Self> {
        Self::over(TestDatabase::create().await?).await
    }

    async fn over(database: TestDatabase) -> Result<Self> {
        let admin = database.connect().await?;
        let environment = EnvironmentTag {
            id: Id::generate(),
            handle: "production".parse()?,
            organization: Id::generate(),
        };
        let app = AppTag { id: Id::generate(), handle: "web".parse()? };
        admin
            .batch_execute(&format!(
                "insert into organizations (id, handle, name) values ('{0}', 'acme', 'Acme');
                 insert into environments (id, organization_id, handle)
                 values ('{1}', '{0}', 'production')",
                environment.organization, environment.id
            ))
            .await?;
        let url = Secret::new(database.admin_url().to_owned());
        let stream = PostgresStream::connect(PostgresSettings::new(url)).await?;
        let folder = tempfile::Builder::new().prefix("spillway-drains-").tempdir()?;
        let key = OpeningKey::generate();
        std::fs::write(folder.path().join("opening.key"), key.to_text().expose())?;
        Ok(Self { database, admin, stream, environment, app, key, folder })
    }

    /// Starts a worker that may send to this machine.
    fn worker(&self) -> Result<Process> {
        self.worker_with(&["--drain-allow-network", "127.0.0.0/8,::1/128"])
    }

    fn worker_with(&self, arguments: &[&str]) -> Result<Process> {
        Process::start(self.worker_command(arguments)?, &self.log())
    }

    fn worker_command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.default_worker_command()?;
        command.args(["--drain-lease-seconds", "3"]).args(arguments);
        Ok(command)
    }

    /// With nothing that could be left out.
    fn default_worker_command(&self) -> Result<Command> {
        let mut command = Command::new(e2e::platform::binary("spillway-drain-worker")?);
        command.args(["--drain-database-url", &self.database.worker_url()?]);
        command.arg("--drain-opening-key").arg(self.folder.path().join("opening.key"));
        command.args(["--log", "info,drain_worker=debug"]);
        Ok(command)
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("worker.log")
    }

    /// Makes a drain of ephemeral sessions whose position is now.
    async fn drain(&self, kind: &str, destination: Value, credentials: Value) -> Result<Id<Drain>> {
        let drain: Id<Drain> = Id::generate();
        let sealed = self.key.sealing_key().seal(drain.uuid(), credentials.to_string().as_bytes());
        self.admin
            .execute(
                "insert into log_drains (id, environment_id, handle, kind, destination,
                     sealed_credentials, drain_apps, drain_databases, drain_ephemeral_sessions)
                 values ($1, $2, $3, $4, $5::text::jsonb, $6, true, true, true)",
                &[
                    &drain.uuid(),
                    &self.environment.id.uuid(),
                    &format!("drain-{drain}"),
                    &kind,
                    &destination.to_string(),
                    &sealed,
                ],
            )
            .await?;
        self.admin
            .execute(
                "insert into drain_positions (drain_id, low_xid, low_seq, high_xid, high_seq)
                 select $1, x.id, 0, x.id, 0
                 from (select stream.settled_below()::text::bigint as id offset 0) as x",
                &[&drain.uuid()],
            )
            .await?;
        self.announce(drain).await?;
        Ok(drain)
    }

    async fn syslog(&self, port: u16, authority: &str) -> Result<Id<Drain>> {
        let destination =
            json!({ "host": "localhost", "port": port, "ca_certificates": authority });
        self.drain("syslog_tls_tcp", destination, json!({})).await
    }

    async fn https(&self, receiver: &e2e::https_receiver::HttpsReceiver) -> Result<Id<Drain>> {
        let destination = json!({ "url": receiver.url(), "ca_certificates": receiver.authority() });
        let credentials = json!({ "headers": { "Authorization": "Bearer token-of-the-test" } });
        self.drain("https_post", destination, credentials).await
    }

    /// Sets columns of a drain's row, as the api does.
    async fn change(&self, drain: Id<Drain>, set: &str) -> Result<()> {
        let statement =
            format!("update log_drains set {set}, revision = revision + 1 where id = '{drain}'");
        self.admin.batch_execute(&statement).await?;
        self.announce(drain).await
    }

    async fn announce(&self, drain: Id<Drain>) -> Result<()> {
        let statement = format!("notify spillway_drains, '{drain}'");
        Ok(self.admin.batch_execute(&statement).await?)
    }

    async fn state(&self, drain: Id<Drain>) -> Result<State> {
        let row = self
            .admin
            .query_one(
                "select delivered_lines, rejected_lines, failing_since is not null,
                     coalesce(last_error, ''), lag_records, lag_seconds
                 from drain_positions where drain_id = $1",
                &[&drain.uuid()],
            )
            .await?;
        Ok(State {
            delivered: row.get(0),
            rejected: row.get(1),
            failing: row.get(2),
            error: row.get(3),
            lag_records: row.get(4),
            lag_seconds: row.get(5),
        })
    }

    async fn repeated(&self, drain: Id<Drain>) -> Result<i64> {
        let repeated = "select repeated_lines from drain_positions where drain_id = $1";
        Ok(self.admin.query_one(repeated, &[&drain.uuid()]).await?.get(0))
    }

    /// Waits until the drain's row is as wanted.
    async fn state_until(
        &self,
        drain: Id<Drain>,
        what: &str,
        wanted: impl Fn(&State) -> bool,
    ) -> Result<State> {
        let found = wait::until(what, DEADLINE, async || {
            let state = self.state(drain).await?;
            Ok(wanted(&state).then_some(state))
        })
        .await;
        let last = self.state(drain).await?;
        found.with_context(|| format!("last state: {last:?}; worker:\n{}", self.worker_log()))
    }

    fn worker_log(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    async fn append(&self, records: &[Record]) -> Result<()> {
        let block = Block::encode(self.environment.id, records)?;
        Ok(self.stream.append(Arc::new(block)).await?)
    }

    fn session(&self) -> Session {
        let id = Id::generate();
        let origin = Origin {
            producer: id.producer(),
            source: Source::EphemeralSession,
            environment: self.environment.clone(),
            app: Some(self.app.clone()),
            database: None,
            session: Some(SessionTag {
                id,
                user: Id::generate(),
                user_email: "ada@example.com".to_owned(),
                user_name: "Ada \"the first\" Lovelace]".to_owned(),
            }),
        };
        Session { origin: origin.into(), seq: 0, shown: Vec::new(), forgotten: 0, at: None }
    }
}

/// Makes the records of one session, and remembers what it showed.
struct Session {
    origin: Arc<Origin>,
    seq: u64,
    shown: Vec<u8>,
    /// Bytes that it showed before those, and does not remember.
    forgotten: u64,
    at: Option<Timestamp>,
}

impl Session {
    fn event(&mut self, event: Event) -> Record {
        let at = self.at.unwrap_or_else(Timestamp::now);
        let record = Record { origin: self.origin.clone(), seq: self.seq, at, event };
        self.seq += 1;
        record
    }

    fn started(&mut self) -> Record {
        self.event(Event::SessionStarted(Box::new(SessionStarted {
            image: "web:1".to_owned(),
            client_address: "10.0.0.1".to_owned(),
            client_version: "SSH-2.0-test".to_owned(),
            auth_method: "certificate".to_owned(),
            key_fingerprint: "SHA256:abc".to_owned(),
            reason: None,
        })))
    }

    fn output(&mut self, bytes: impl AsRef<[u8]>) -> Record {
        let bytes = Bytes::copy_from_slice(bytes.as_ref());
        let offset = self.forgotten + self.shown.len() as u64;
        self.shown.extend_from_slice(&bytes);
        self.event(Event::Output { stream: OutputStream::Stdout, offset, bytes })
    }

    /// Frees the memory of a session that nobody checks.
    fn forget(&mut self) {
        self.forgotten += self.shown.len() as u64;
        self.shown.clear();
    }

    fn numbered(&mut self, numbers: std::ops::Range<usize>) -> Record {
        let lines: Vec<_> = numbers.map(|n| format!("line {n} of the session\r\n")).collect();
        self.output(lines.concat())
    }

    fn ended(&mut self) -> Record {
        let output_bytes = self.shown.len() as u64;
        self.event(Event::SessionEnded {
            reason: "the client closed it".to_owned(),
            aborted: false,
            output_bytes,
            duration: Duration::from_secs(1),
        })
    }

    /// Whether what was delivered is all that the session showed.
    fn is_complete_in(&self, delivered: &[Delivered]) -> bool {
        lines::covered(&self.origin.producer.to_string(), delivered) >= self.shown.len() as u64
    }

    /// Waits until everything that the session showed was delivered. Looks only when nothing more
    /// comes for a moment: reading thousands of lines again and again would starve the receiver.
    async fn all_delivered(
        &self,
        count: impl Fn() -> usize,
        delivered: impl Fn() -> Result<Vec<Delivered>>,
    ) -> Result<Vec<Delivered>> {
        let mut last = 0;
        wait::until("every line", DEADLINE, async || {
            let now = count();
            if std::mem::replace(&mut last, now) != now || now == 0 {
                return Ok(None);
            }
            let lines = delivered()?;
            Ok(self.is_complete_in(&lines).then_some(lines))
        })
        .await
    }

    /// Checks that everything that the session showed was delivered, in order but for repeats.
    fn check(&self, delivered: &[Delivered]) -> Result<()> {
        lines::check(&self.origin.producer.to_string(), &self.shown, delivered)
    }
}

async fn kill(process: &mut Process) -> Result<()> {
    process.stop(Signal::KILL, DEADLINE).await?;
    Ok(())
}
