//! Spillway's intake, and what it has made durable.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::certificates::ServerCertificate;
use e2e::process::Process;
use e2e::wait;
use log_stream::Header;
use model::{Environment, Id, LogSource};
use rand::Rng as _;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpSocket;
use tokio::process::Command;
use tokio_postgres::Statement;
use uuid::Uuid;

use super::DEADLINE;
use crate::drain::ours::World;

const START: Duration = Duration::from_secs(20);
/// Looking costs PostgreSQL time, which counts as the intake's.
const LOOK_EVERY: Duration = Duration::from_millis(25);
const BLOCKS: &str = "select header, seq from stream.blocks
    where environment_id = $1 and seq > $2 order by seq";
/// More than this machine can send.
const NO_QUOTA: &str = "4294967295";

/// A running intake.
pub(super) struct Intake {
    pub(super) process: Process,
    pub(super) syslog_port: u16,
    pub(super) http_port: u16,
    pub(super) certificate: ServerCertificate,
}

impl Intake {
    /// Starts it over this world's database.
    pub(super) async fn start(world: &World) -> Result<Self> {
        let certificate = ServerCertificate::for_localhost()?;
        let [_, chain, key] = certificate.write_to(world.folder.path())?;
        let (syslog_port, http_port) = (free_port()?, free_port()?);
        let mut command = Command::new(e2e::platform::binary("spillway-intake")?);
        command.args(["--intake-database-url", &world.database.intake_url()?]);
        command.args(["--intake-syslog-tls-listen", &format!("127.0.0.1:{syslog_port}")]);
        command.arg("--intake-syslog-tls-certificate").arg(chain);
        command.arg("--intake-syslog-tls-key").arg(key);
        command.args(["--intake-http-listen", &format!("127.0.0.1:{http_port}")]);
        for quota in [
            "--intake-source-bytes-per-second",
            "--intake-source-burst-bytes",
            "--intake-environment-bytes-per-second",
            "--intake-environment-burst-bytes",
        ] {
            command.args([quota, NO_QUOTA]);
        }
        command.args(["--log-format", "text", "--log", "warn"]);
        let log = world.folder.path().join(format!("intake-{}.log", Uuid::now_v7()));
        let mut process = Process::start(command, &log)?;
        wait::until_true("the intake to listen", START, async || {
            process.check_running()?;
            let listens = async |port| -> Result<bool> {
                Ok(TcpSocket::new_v4()?.connect(([127, 0, 0, 1], port).into()).await.is_ok())
            };
            Ok(listens(syslog_port).await? && listens(http_port).await?)
        })
        .await?;
        Ok(Self { process, syslog_port, http_port, certificate })
    }
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A token as the API makes them.
pub(super) fn token() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut random = rand::rng();
    let letter = || LETTERS.get(random.random_range(0..LETTERS.len())).copied().map(char::from);
    std::iter::once('s').chain(std::iter::from_fn(letter).take(31)).collect()
}

impl World {
    /// A new environment, with a log source of an app that has this token.
    pub(super) async fn log_source(&self, token: &str) -> Result<Id<Environment>> {
        let environment = self.environment().await?;
        let (app, source) = (Uuid::now_v7(), Id::<LogSource>::generate());
        self.admin
            .execute(
                "insert into apps (id, environment_id, handle, image) values ($1, $2, 'web', 'none')",
                &[&app, &environment.uuid()],
            )
            .await?;
        let key = token.get(..7).context("a token")?;
        let hash = Sha256::digest(token.as_bytes()).to_vec();
        self.admin
            .execute(
                "insert into log_sources
                     (id, environment_id, handle, app_id, token_key, token_hash)
                 values ($1, $2, 'web', $3, $4, $5)",
                &[&source.uuid(), &environment.uuid(), &app, &key, &hash],
            )
            .await?;
        Ok(environment)
    }

    /// Removes every log source, so that its token is free.
    pub(super) async fn remove_log_sources(&self) -> Result<()> {
        let all = "delete from log_source_counts; delete from log_source_minutes; delete from log_sources";
        Ok(self.admin.batch_execute(all).await?)
    }

    /// How many records of this environment are durable.
    pub(super) async fn records(&self, environment: Id<Environment>) -> Result<usize> {
        let blocks = self.admin.prepare(BLOCKS).await?;
        Ok(self.records_after(&blocks, environment, -1).await?.0)
    }

    /// How many there are in blocks after this one, and the last block.
    async fn records_after(
        &self,
        blocks: &Statement,
        environment: Id<Environment>,
        last: i64,
    ) -> Result<(usize, i64)> {
        let rows = self.admin.query(blocks, &[&environment.uuid(), &last]).await?;
        let (mut records, mut last) = (0, last);
        for row in rows {
            records += usize::try_from(Header::parse(row.get(0))?.records)?;
            last = row.get(1);
        }
        Ok((records, last))
    }

    /// Waits until so many are. An environment's blocks come one after the other.
    pub(super) async fn wait_for_records(
        &self,
        environment: Id<Environment>,
        count: usize,
    ) -> Result<()> {
        let blocks = self.admin.prepare(BLOCKS).await?;
        let (begun, mut found, mut last) = (Instant::now(), 0, -1);
        while found < count {
            ensure!(begun.elapsed() < DEADLINE, "of {count} lines came {found}");
            tokio::time::sleep(LOOK_EVERY).await;
            let (more, to) = self.records_after(&blocks, environment, last).await?;
            (found, last) = (found + more, to);
        }
        Ok(())
    }
}
