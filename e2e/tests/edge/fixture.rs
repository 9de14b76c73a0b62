//! One edge, its database, and one organization with an engineer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::clock::{self, FakeClock};
use e2e::docker::{TestImage, remove_containers};
use e2e::openssh::{KeyPair, OpenSsh};
use e2e::platform::binary;
use e2e::postgres::TestDatabase;
use e2e::process::{self, Finished, Process};
use e2e::wait;
use futures_util::StreamExt as _;
use log_stream::{LogStream as _, Position, PostgresSettings, PostgresStream};
use model::{
    App, Environment, EphemeralSession, Event, Id, OpeningKey, Organization, OutputStream, Record,
    Secret, User,
};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::Command;
use tokio_postgres::Client;
use uuid::Uuid;

pub(crate) const DEADLINE: Duration = Duration::from_secs(40);

pub(crate) struct Fixture {
    pub(crate) database: TestDatabase,
    pub(crate) client: Client,
    pub(crate) edge: Process,
    pub(crate) ssh: OpenSsh,
    pub(crate) folder: TempDir,
    pub(crate) opening_key: OpeningKey,
    pub(crate) engineer: Engineer,
    pub(crate) organization: Id<Organization>,
    pub(crate) environment: Id<Environment>,
    pub(crate) app: Id<App>,
    host_authority: String,
    settings: Vec<String>,
    clock: Option<FakeClock>,
}

pub(crate) struct Engineer {
    pub(crate) id: Id<User>,
    pub(crate) key: KeyPair,
}

/// The user name of the fixture's app.
pub(crate) const WEB: &str = "web.production";

impl Fixture {
    pub(crate) async fn start() -> Result<Self> {
        Self::start_in(TestDatabase::create().await?, &[]).await
    }

    pub(crate) async fn start_with(settings: &[&str]) -> Result<Self> {
        Self::start_in(TestDatabase::create().await?, settings).await
    }

    /// With a clock that [`Fixture::step_clock`] sets.
    pub(crate) async fn start_with_clock(settings: &[&str]) -> Result<Self> {
        let clock = Some(FakeClock::find()?);
        Self::build(TestDatabase::create().await?, settings, clock).await
    }

    pub(crate) async fn start_in(database: TestDatabase, settings: &[&str]) -> Result<Self> {
        Self::build(database, settings, None).await
    }

    async fn build(
        database: TestDatabase,
        settings: &[&str],
        clock: Option<FakeClock>,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("edge-").tempdir()?;
        let path = folder.path();
        let host = KeyPair::generate(&path.join("host"), "ed25519").await?;
        let host_authority = KeyPair::generate(&path.join("host-ca"), "ed25519").await?;
        KeyPair::generate(&path.join("user-ca"), "ed25519").await?;
        let mut sign = Command::new("ssh-keygen");
        sign.args(["-q", "-h", "-I", "host", "-n", "spillway-edge", "-V", "-1h:+1h", "-s"]);
        sign.arg(&host_authority.private).arg(host.private.with_extension("pub"));
        process::succeed(sign, DEADLINE).await?;
        let opening_key = OpeningKey::generate();
        std::fs::write(path.join("opening-key"), opening_key.to_text().expose())?;
        let client = database.connect().await?;
        let organization = organization(&client, "acme").await?;
        let key = KeyPair::generate(&path.join("engineer"), "ed25519").await?;
        let engineer = user(&client, "ada@acme.test", "Ada", key).await?;
        member(&client, organization, engineer.id, "engineer").await?;
        let environment = environment(&client, organization, "production").await?;
        let image = TestImage::Busybox.ensure().await?;
        let app = app(&client, environment, "web", &image).await?;
        let mut settings: Vec<String> =
            settings.iter().map(|&setting| setting.to_owned()).collect();
        if !settings.iter().any(|setting| setting == "--ssh-session-network") {
            settings.extend(["--ssh-session-network".to_owned(), "none".to_owned()]);
        }
        let (edge, port) =
            start_edge(path, &database.edge_url()?, &settings, clock.as_ref()).await?;
        let ssh = OpenSsh::new(
            port,
            &engineer.key.private,
            &host_authority.public,
            "spillway-edge",
            path,
        )?;
        let host_authority = host_authority.public;
        Ok(Self {
            database,
            client,
            edge,
            ssh,
            folder,
            opening_key,
            engineer,
            organization,
            environment,
            app,
            host_authority,
            settings,
            clock,
        })
    }

    /// Starts the edge again, after it has ended, with the same folder.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        let path = self.folder.path();
        let url = self.database.edge_url()?;
        let (edge, port) = start_edge(path, &url, &self.settings, self.clock.as_ref()).await?;
        self.edge = edge;
        self.ssh = self.ssh_as(&self.engineer.key.private, port)?;
        Ok(())
    }

    /// Sets the edge's clock to so many seconds beside the machine's.
    pub(crate) fn step_clock(&self, seconds: i32) -> Result<()> {
        clock::step(&self.folder.path().join("clock"), seconds)
    }

    /// Starts another edge beside the first, which has its end when it is dropped.
    pub(crate) async fn start_beside(&self, name: &str) -> Result<Process> {
        let second = self.folder.path().join(name);
        std::fs::create_dir(&second)?;
        for file in ["host", "host-cert.pub", "user-ca.pub", "opening-key"] {
            std::fs::copy(self.folder.path().join(file), second.join(file))?;
        }
        Ok(start_edge(&second, &self.database.edge_url()?, &self.settings, None).await?.0)
    }

    fn ssh_as(&self, key: &Path, port: u16) -> Result<OpenSsh> {
        OpenSsh::new(port, key, &self.host_authority, "spillway-edge", self.folder.path())
    }

    /// Where the edge listens.
    pub(crate) fn port(&self) -> Result<u16> {
        port(&self.edge)
    }

    /// OpenSSH's client with another key.
    pub(crate) fn ssh_with(&self, key: &Path) -> Result<OpenSsh> {
        self.ssh_as(key, self.port()?)
    }

    /// A new key in the fixture's folder.
    pub(crate) async fn new_key(&self, name: &str) -> Result<KeyPair> {
        KeyPair::generate(&self.folder.path().join(name), "ed25519").await
    }

    /// Runs one command as the engineer.
    pub(crate) async fn run(&self, options: &[&str], command: &str) -> Result<Finished> {
        self.run_with_input(options, command, Vec::new()).await
    }

    pub(crate) async fn run_with_input(
        &self,
        options: &[&str],
        command: &str,
        input: Vec<u8>,
    ) -> Result<Finished> {
        let mut ssh = self.ssh.ssh(WEB, options);
        ssh.arg(command);
        process::finish_with_input(ssh, input, DEADLINE * 2).await
    }

    /// Every session's id, oldest first.
    pub(crate) async fn sessions(&self) -> Result<Vec<Id<EphemeralSession>>> {
        let rows = self.client.query("select id from ephemeral_sessions order by id", &[]).await?;
        Ok(rows.iter().map(|row| Id::from_uuid(row.get(0))).collect())
    }

    /// Waits until a session's row is closed; gives its state and the reason.
    pub(crate) async fn closed(&self, session: Id<EphemeralSession>) -> Result<(String, String)> {
        wait::until("the session's row is closed", DEADLINE, async || {
            let row = self
                .client
                .query_one(
                    "select state, coalesce(end_reason, '') from ephemeral_sessions where id = $1",
                    &[&session.uuid()],
                )
                .await?;
            let state: String = row.get(0);
            Ok((state != "active" && state != "requested").then(|| (state, row.get(1))))
        })
        .await
    }

    /// A session's records up to its end, checked to be complete and in order.
    pub(crate) async fn records(&self, session: Id<EphemeralSession>) -> Result<Vec<Record>> {
        self.records_until(session, session).await
    }

    /// A session's records up to the end of another session, checked in the same way.
    pub(crate) async fn records_until(
        &self,
        session: Id<EphemeralSession>,
        last: Id<EphemeralSession>,
    ) -> Result<Vec<Record>> {
        let settings = PostgresSettings::new(Secret::new(self.database.worker_url()?));
        let stream = PostgresStream::connect(settings).await?;
        let mut blocks = stream.read(self.environment, Position::START);
        let read = async {
            let mut records = Vec::new();
            while let Some(block) = blocks.next().await {
                for record in block?.1.records()? {
                    let Some(id) = record.origin.session.as_ref().map(|tag| tag.id) else {
                        continue;
                    };
                    let is_last = id == last && matches!(record.event, Event::SessionEnded { .. });
                    if id == session {
                        records.push(record);
                    }
                    if is_last {
                        return Ok(records);
                    }
                }
            }
            anyhow::bail!("the stream ended")
        };
        let records = tokio::time::timeout(DEADLINE, read)
            .await
            .context("the session's last record is not in the stream")??;
        check(&records)?;
        Ok(records)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // The edge is killed; its containers end by themselves, and at the latest here.
        let label = std::fs::read_to_string(self.folder.path().join("run/edge-id"))
            .map(|id| format!("dev.spillway.edge={}", id.trim()));
        drop(self.edge.signal(Signal::KILL));
        let removed = std::thread::spawn(move || -> Result<()> {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(remove_containers(&label?))
        })
        .join();
        if !matches!(removed, Ok(Ok(()))) {
            eprintln!("containers may be left: {removed:?}");
        }
    }
}

async fn start_edge(
    folder: &Path,
    database: &str,
    settings: &[String],
    clock: Option<&FakeClock>,
) -> Result<(Process, u16)> {
    let path = |name: &str| -> PathBuf { folder.join(name) };
    let mut command = Command::new(binary("spillway-ssh-edge")?);
    command.args(["--ssh-listen", "127.0.0.1:0", "--log", "info", "--log-format", "json"]);
    command.args(["--ssh-database-url", database]).arg("--ssh-runtime-dir").arg(path("run"));
    command.arg("--ssh-host-key").arg(path("host"));
    command.arg("--ssh-host-certificate").arg(path("host-cert.pub"));
    command.arg("--ssh-user-ca-public").arg(path("user-ca.pub"));
    command.arg("--ssh-opening-key").arg(path("opening-key"));
    command.args(settings);
    if let Some(fake) = clock {
        if !std::fs::exists(path("clock"))? {
            clock::step(&path("clock"), 0)?;
        }
        fake.give(&mut command, &path("clock"));
    }
    let log = path("edge.log");
    std::fs::write(&log, "")?;
    let mut edge = Process::start(command, &log)?;
    wait::until_true("the edge listens", DEADLINE, async || {
        edge.check_running()?;
        Ok(edge.log().contains("\"listening\""))
    })
    .await?;
    let port = port(&edge)?;
    Ok((edge, port))
}

fn port(edge: &Process) -> Result<u16> {
    let log = edge.log();
    let line = log.lines().find(|line| line.contains("\"listening\"")).context("no address")?;
    let line: serde_json::Value = serde_json::from_str(line)?;
    let address = line.get("address").and_then(|address| address.as_str()).context("no address")?;
    Ok(address.rsplit(':').next().context("no port")?.parse()?)
}

pub(crate) async fn organization(client: &Client, handle: &str) -> Result<Id<Organization>> {
    let id = Uuid::now_v7();
    let statement = "insert into organizations (id, handle, name) values ($1, $2, $2)";
    client.execute(statement, &[&id, &handle]).await?;
    Ok(Id::from_uuid(id))
}

pub(crate) async fn user(
    client: &Client,
    email: &str,
    name: &str,
    key: KeyPair,
) -> Result<Engineer> {
    let id = Uuid::now_v7();
    let statement =
        "insert into users (id, email, name, password_hash) values ($1, $2, $3, 'none')";
    client.execute(statement, &[&id, &email, &name]).await?;
    let mut print = Command::new("ssh-keygen");
    print.arg("-lf").arg(key.private.with_extension("pub"));
    let fingerprint = process::succeed(print, DEADLINE).await?.text();
    let fingerprint = fingerprint.split(' ').nth(1).context("no fingerprint")?.to_owned();
    let statement = "insert into ssh_keys (id, user_id, name, public_key, fingerprint)
        values ($1, $2, 'key', $3, $4)";
    client.execute(statement, &[&Uuid::now_v7(), &id, &key.public, &fingerprint]).await?;
    Ok(Engineer { id: Id::from_uuid(id), key })
}

pub(crate) async fn member(
    client: &Client,
    organization: Id<Organization>,
    user: Id<User>,
    role: &str,
) -> Result<()> {
    let statement = "insert into memberships (organization_id, user_id, role) values ($1, $2, $3)
        on conflict (organization_id, user_id) do update set role = excluded.role";
    client.execute(statement, &[&organization.uuid(), &user.uuid(), &role]).await?;
    Ok(())
}

pub(crate) async fn environment(
    client: &Client,
    organization: Id<Organization>,
    handle: &str,
) -> Result<Id<Environment>> {
    let id = Uuid::now_v7();
    let statement = "insert into environments (id, organization_id, handle) values ($1, $2, $3)";
    client.execute(statement, &[&id, &organization.uuid(), &handle]).await?;
    Ok(Id::from_uuid(id))
}

pub(crate) async fn app(
    client: &Client,
    environment: Id<Environment>,
    handle: &str,
    image: &str,
) -> Result<Id<App>> {
    let id = Uuid::now_v7();
    let statement = "insert into apps (id, environment_id, handle, image) values ($1, $2, $3, $4)";
    client.execute(statement, &[&id, &environment.uuid(), &handle, &image]).await?;
    Ok(Id::from_uuid(id))
}

/// No record is missing, none is twice, time and offsets go on.
fn check(records: &[Record]) -> Result<()> {
    let mut offsets = [0, 0];
    for (place, record) in records.iter().enumerate() {
        ensure!(record.seq == u64::try_from(place)?, "record {place} has number {}", record.seq);
        if let Event::Output { stream, offset, bytes } = &record.event {
            let expected = match stream {
                OutputStream::Stdout => &mut offsets[0],
                OutputStream::Stderr => &mut offsets[1],
            };
            ensure!(*expected == *offset, "output at {offset}, expected {expected}");
            *expected += u64::try_from(bytes.len())?;
        }
    }
    ensure!(records.is_sorted_by_key(|record| record.at), "time runs backwards");
    Ok(())
}

/// What the records hold of one output.
pub(crate) fn output(records: &[Record], wanted: OutputStream) -> Vec<u8> {
    let pieces = records.iter().filter_map(|record| match &record.event {
        Event::Output { stream, bytes, .. } if *stream == wanted => Some(bytes.as_ref()),
        _ => None,
    });
    pieces.collect::<Vec<_>>().concat()
}

/// The names of the records' events, without outputs and their pauses.
pub(crate) fn story(records: &[Record]) -> Vec<&'static str> {
    let names = records.iter().map(|record| record.event.name());
    names.filter(|&name| name != "output" && name != "pause").collect()
}
