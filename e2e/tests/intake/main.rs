//! The logs of apps and databases from real senders into the stream: the built intake over PostgreSQL.

#![allow(clippy::indexing_slicing, reason = "a test that finds less than it wants may panic")]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::postgres::TestDatabase;
use e2e::process::Process;
use e2e::wait;
use log_stream::Block;
use model::{EnvironmentTag, Event, Id, LogLine, LogSource, Record};
use rand::Rng as _;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::process::Command;
use uuid::Uuid;

mod docker;
mod http;
mod syslog;

/// Far more than anything here takes.
const DEADLINE: Duration = Duration::from_mins(1);

/// A database with one environment, an app `web` and a database `main` in it, and nothing running.
struct World {
    database: TestDatabase,
    admin: tokio_postgres::Client,
    environment: EnvironmentTag,
    app: Uuid,
    main: Uuid,
    folder: TempDir,
}

/// Another organization, in which everything has the same handles.
struct OtherTenant {
    environment: EnvironmentTag,
    app: Uuid,
}

/// A log source and its token.
#[derive(Debug, Clone)]
struct Source {
    id: Id<LogSource>,
    token: String,
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
        let (app, main) = (Uuid::now_v7(), Uuid::now_v7());
        admin
            .batch_execute(&format!(
                "insert into organizations (id, handle, name) values ('{0}', 'acme', 'Acme');
                 insert into environments (id, organization_id, handle)
                 values ('{1}', '{0}', 'production');
                 insert into apps (id, environment_id, handle, image)
                 values ('{app}', '{1}', 'web', 'none');
                 insert into databases (id, environment_id, handle, engine)
                 values ('{main}', '{1}', 'main', 'postgresql')",
                environment.organization, environment.id
            ))
            .await?;
        let folder = tempfile::Builder::new().prefix("spillway-intake-").tempdir()?;
        Ok(Self { database, admin, environment, app, main, folder })
    }

    /// A source of the app's lines.
    async fn app_source(&self) -> Result<Source> {
        self.source("app_id", self.app).await
    }

    /// A source of the database's lines.
    async fn database_source(&self) -> Result<Source> {
        self.source("database_id", self.main).await
    }

    async fn source(&self, column: &str, thing: Uuid) -> Result<Source> {
        self.source_in(&self.environment, column, thing).await
    }

    async fn source_in(
        &self,
        environment: &EnvironmentTag,
        column: &str,
        thing: Uuid,
    ) -> Result<Source> {
        let source = Source { id: Id::generate(), token: token() };
        let statement = format!(
            "insert into log_sources (id, environment_id, handle, {column}, token_key, token_hash)
             values ($1, $2, $1::uuid::text, $3, $4, $5)"
        );
        let hash = Sha256::digest(source.token.as_bytes()).to_vec();
        let (id, environment) = (source.id.uuid(), environment.id.uuid());
        self.admin
            .execute(&statement, &[&id, &environment, &thing, &source.token.get(..7), &hash])
            .await?;
        Ok(source)
    }

    /// The organization `umbrella` with an environment and an app of the same handles.
    async fn other_tenant(&self) -> Result<OtherTenant> {
        let handle = self.environment.handle.clone();
        let environment =
            EnvironmentTag { id: Id::generate(), handle, organization: Id::generate() };
        let app = Uuid::now_v7();
        self.admin
            .batch_execute(&format!(
                "insert into organizations (id, handle, name) values ('{0}', 'umbrella', 'U');
                 insert into environments (id, organization_id, handle)
                 select '{1}', '{0}', handle from environments where id = '{2}';
                 insert into apps (id, environment_id, handle, image)
                 values ('{app}', '{1}', 'web', 'none')",
                environment.organization, environment.id, self.environment.id
            ))
            .await?;
        Ok(OtherTenant { environment, app })
    }

    /// The intake, with these flags; what it says goes to `intake.log` in the folder.
    fn intake(&self, arguments: &[&str]) -> Result<Process> {
        let mut command = Command::new(e2e::platform::binary("spillway-intake")?);
        command.args(["--intake-database-url", &self.database.intake_url()?]);
        command.args(["--log", "info,intake=debug"]).args(arguments);
        if !arguments.contains(&"--intake-http-listen") {
            command.args(["--intake-http-listen", "127.0.0.1:0"]);
        }
        Process::start(command, &self.log())
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("intake.log")
    }

    /// All records of the environment, in the order of the stream.
    async fn records(&self) -> Result<Vec<Record>> {
        self.records_of(&self.environment).await
    }

    async fn records_of(&self, environment: &EnvironmentTag) -> Result<Vec<Record>> {
        let rows = self
            .admin
            .query(
                "select id, header, payload from stream.blocks where environment_id = $1
                 order by xid, seq",
                &[&environment.id.uuid()],
            )
            .await?;
        let mut records = Vec::new();
        for row in rows {
            let (header, payload): (Vec<u8>, Vec<u8>) = (row.get(1), row.get(2));
            records.extend(Block::from_parts(row.get(0), header, payload)?.records()?);
        }
        Ok(records)
    }

    /// All lines of the environment, in the order of the stream.
    async fn lines(&self) -> Result<Vec<LogLine>> {
        let lines = self.records().await?.into_iter().filter_map(|record| match record.event {
            Event::Line(line) => Some(*line),
            _ => None,
        });
        Ok(lines.collect())
    }

    /// Waits until there are so many lines; gives them.
    async fn lines_until(&self, count: usize) -> Result<Vec<LogLine>> {
        let found = wait::until("lines in the stream", DEADLINE, async || {
            let lines = self.lines().await?;
            Ok((lines.len() >= count).then_some(lines))
        });
        let found = found.await;
        found.with_context(|| {
            let said = std::fs::read_to_string(self.log()).unwrap_or_default();
            format!("the intake said:\n{said}")
        })
    }
}

/// A token as the API makes them.
fn token() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut random = rand::rng();
    let letters = (0..31).map(|_| char::from(LETTERS[random.random_range(0..32)]));
    std::iter::once('s').chain(letters).collect()
}

/// The text of a line.
fn text(line: &LogLine) -> String {
    String::from_utf8_lossy(&line.text).into_owned()
}
