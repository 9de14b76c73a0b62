//! Sessions: Spillway's edge beside OpenSSH's server.
//!
//! The rivals keep no record. One runs each session by `docker exec` in a container with a session's
//! limits that is up already; the other, a harder one, runs it on the host itself.

use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::docker::TestImage;
use e2e::openssh::OpenSsh;
use e2e::process::Process;
use e2e::services::{Service, Services};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::Command;

use crate::cpu::Part;
use crate::report::{Table, Target};
use crate::rivals::sshd::{Container, Image, Sshd};
use crate::{Options, log_text, progress};

mod bulk;
mod connect;
mod echo;
mod memory;
mod prompt;
mod received;

const DEADLINE: Duration = Duration::from_mins(1);

/// The columns of the table.
const OURS: usize = 0;
const UNRECORDED: usize = 1;
const EXEC: usize = 2;
const HOST: usize = 3;
const DOCKER_RUN: usize = 4;
const COLUMNS: [&str; 5] = [
    "Spillway",
    "the same without records",
    "sshd + `docker exec`",
    "sshd, no container",
    "`docker run`",
];

/// Where a session's program runs, which says whose time is counted with the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Beside the guest, in a container of the session's own.
    Session,
    /// In a container, started by Docker.
    Container,
    /// Under the server.
    Host,
}

/// One contestant.
#[derive(Debug)]
struct Server {
    column: usize,
    client: OpenSsh,
    user: String,
    parts: Vec<Part>,
    place: Place,
    /// The file of log text, as its sessions see it.
    log: String,
}

impl Server {
    /// The client that all are measured with.
    fn ssh(&self, options: &[&str]) -> Command {
        let pinned =
            ["-o", "Ciphers=aes256-gcm@openssh.com", "-o", "KexAlgorithms=curve25519-sha256"];
        self.client.ssh(&self.user, &[&pinned[..], options].concat())
    }

    fn name(&self) -> &'static str {
        COLUMNS.get(self.column).copied().unwrap_or_default()
    }
}

/// Everything that runs; it ends when this is dropped.
struct World {
    services: Services,
    edge: i32,
    unrecorded: Process,
    sshd: [Sshd; 2],
    servers: Vec<Server>,
    image: Image,
    _container: Container,
    _folder: TempDir,
}

/// How much is measured in each round.
struct Sizes {
    bulk_pieces: u64,
    echoes: usize,
    lines: usize,
    connects: usize,
    prompts: usize,
    exits: usize,
    idle: Vec<usize>,
}

impl Sizes {
    fn new(options: &Options) -> Self {
        let idle = if options.quick { [1, 2, 4] } else { [1, 100, 500] };
        let idle = idle.into_iter().filter(|&count| count <= options.idle).collect();
        if options.quick {
            return Self {
                bulk_pieces: 160,
                echoes: 20,
                lines: 20,
                connects: 2,
                prompts: 1,
                exits: 8,
                idle,
            };
        }
        // 500 MB in pieces of 64 KiB; 1,000 exits in five rounds.
        Self {
            bulk_pieces: 7630,
            echoes: 500,
            lines: 200,
            connects: 20,
            prompts: 5,
            exits: 200,
            idle,
        }
    }
}

/// Runs all rounds.
pub(crate) async fn measure(options: &Options) -> Result<Table> {
    crate::machine::need(&[("sshd", "openssh-server"), ("ssh", "openssh-client")])?;
    anyhow::ensure!(rustix::process::geteuid().is_root(), "sshd is run as root: use sudo");
    let sizes = Sizes::new(options);
    let mut table = Table::new("Session", &COLUMNS);
    progress("session: starting Spillway, sshd and containers");
    let mut world = World::start().await?;
    // First: what bulk output leaves in the allocator would hide what sessions take.
    if !sizes.idle.is_empty() {
        memory::measure(&world, &sizes, &mut table).await.context("memory")?;
    }
    progress("session: warming up");
    for server in &world.servers {
        bulk::check(server).await.with_context(|| server.name())?;
    }
    let mut hung = 0;
    for round in 0..options.rounds {
        progress(&format!("session: round {} of {}", round + 1, options.rounds));
        // Not always in the same order.
        world.servers.rotate_left(1);
        bulk::measure(&world.servers, sizes.bulk_pieces, &mut table)
            .await
            .context("bulk output")?;
        echo::measure(&world.servers, sizes.echoes, &mut table).await.context("echo")?;
        received::measure(&world, sizes.lines, &mut table).await.context("a drain's lines")?;
        connect::measure(&world.servers, sizes.connects, &mut table).await.context("connecting")?;
        prompt::measure(&world, sizes.prompts, &mut table).await.context("prompt")?;
        hung += connect::hangs(&world, sizes.exits, &mut table).await.context("exits")?;
    }
    // A median would hide the only one.
    let exits = sizes.exits * options.rounds;
    let row = table.row(format!("hangs at exit, of {exits}"), "sessions", &[Target::AtMost(0.0)]);
    table.add(row, OURS, hung as f64);
    Ok(table)
}

impl World {
    async fn start() -> Result<Self> {
        let folder = e2e::platform::public_folder()?;
        let log = folder.path().join("log");
        // A tenth of what is measured, so that the image stays small; ten times it compresses no
        // better, as the compressor does not look back that far.
        std::fs::write(&log, log_text::log_text(bulk::LOG_BYTES))?;
        let image = Image::with_file(&TestImage::Busybox.ensure().await?, &log).await?;
        let mut services = Services::with_app(&image.name).await?;
        let edge = services.pid(Service::Edge)?.as_raw_pid();
        let postgres = services.database().cluster().context("a cluster of its own")?.pid()?;
        let container = Container::start(&image.name).await?;
        let entrance = folder.path().join("entrance");
        container.entrance(&entrance)?;
        let exec = Sshd::start(&folder.path().join("sshd-exec"), Some(&entrance)).await?;
        let host = Sshd::start(&folder.path().join("sshd-host"), None).await?;
        let (unrecorded, unrecorded_client) = services.start_edge_beside("unrecorded-edge").await?;
        let user = "root".to_owned();
        let unrecorded_pid = unrecorded.pid()?.as_raw_pid();
        let servers = vec![
            Server {
                column: OURS,
                client: services.openssh().await?,
                user: "web.production".to_owned(),
                parts: vec![Part::Alone(edge), Part::Tree(postgres.as_raw_pid()), Part::Docker],
                place: Place::Session,
                log: "/log".to_owned(),
            },
            Server {
                column: UNRECORDED,
                client: unrecorded_client,
                user: "web.production".to_owned(),
                parts: vec![Part::Alone(unrecorded_pid), Part::Docker],
                place: Place::Session,
                log: "/log".to_owned(),
            },
            Server {
                column: EXEC,
                client: exec.client(),
                user: user.clone(),
                parts: vec![Part::Tree(exec.pid()?), Part::Alone(container.shim()), Part::Docker],
                place: Place::Container,
                log: "/log".to_owned(),
            },
            Server {
                column: HOST,
                client: host.client(),
                user,
                parts: vec![Part::Tree(host.pid()?)],
                place: Place::Host,
                log: log.display().to_string(),
            },
        ];
        let sshd = [exec, host];
        Ok(Self {
            services,
            edge,
            unrecorded,
            sshd,
            servers,
            image,
            _container: container,
            _folder: folder,
        })
    }

    fn ours(&self) -> Result<&Server> {
        self.servers.iter().find(|server| server.column == OURS).context("Spillway is measured")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // In order, so that containers go with it.
        if self.unrecorded.signal(Signal::INT).is_ok() {
            self.unrecorded.wait_for_end_blocking(Duration::from_secs(15));
        }
    }
}
