//! The platform under attack: its services as processes of their own, two edges, two workers and two intakes,
//! over a PostgreSQL, a Docker daemon, a disk and a network that are the run's own.
//!
//! Invariant: what is started or mounted here goes when this is dropped, whatever state the attack
//! has left it in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex as StdMutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::certificates::{CertificateAuthority, ServerCertificate};
use e2e::clock::{self, FakeClock};
use e2e::docker::daemon::{IMAGE, TestDocker};
use e2e::openssh::OpenSsh;
use e2e::platform::{Cli, public_folder, registered_openssh};
use e2e::postgres::{TestCluster, TestDatabase};
use e2e::process::Process;
use e2e::services::{Service, free_port};
use e2e::tmpfs::Tmpfs;
use e2e::wait;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::process::Command;
use tokio::sync::Mutex;

use crate::evidence::Evidence;
use crate::receivers::https::Https;
use crate::receivers::syslog::Syslog;

mod intakes;
mod member;
pub(crate) mod network;
mod supervisor;

pub(crate) use member::Member;

use intakes::Intakes;
use network::Network;

const DEADLINE: Duration = Duration::from_mins(1);
/// PostgreSQL's disk, which takes only as much memory as is written.
const DISK: u64 = 8 << 30;
/// How many edges there are, how many workers, and how many intakes.
pub(crate) const PAIRS: usize = 2;
pub(crate) const SYSLOG: &str = "syslog";
pub(crate) const HTTPS: &str = "https";

/// Everything that is attacked.
#[derive(Debug)]
pub(crate) struct World {
    members: Vec<(Member, Mutex<Option<Process>>)>,
    pub(crate) syslog: Syslog,
    pub(crate) https: Https,
    /// Accepts nothing, so its connections stall once the kernel has taken what it takes.
    stalled: std::net::TcpListener,
    pub(crate) database: Mutex<TestDatabase>,
    pub(crate) docker: Mutex<TestDocker>,
    pub(crate) disk: Result<Tmpfs, String>,
    pub(crate) network: Network,
    clock: Result<FakeClock, String>,
    ports: [u16; 1 + PAIRS],
    intakes: Intakes,
    docker_host: String,
    admin_url: String,
    ssh: Vec<OpenSsh>,
    peaks: StdMutex<BTreeMap<String, u64>>,
    folder: TempDir,
}

impl World {
    /// Builds everything, with four drains: syslog, HTTPS, one to a port where nobody listens and
    /// one to a receiver that never reads.
    pub(crate) async fn build(evidence: &Evidence) -> Result<Self> {
        let folder = public_folder()?;
        let network = Network::create().await;
        let authority = CertificateAuthority::new()?;
        let address = network.address().to_string();
        let certificate = authority.issue(&["localhost", &address])?;
        let syslog = network.listen()?;
        let syslog_port = syslog.local_addr()?.port();
        let syslog = Syslog::start(syslog, &certificate, &evidence.arrived(SYSLOG))?;
        let https = Https::start(network.listen()?, &certificate, &evidence.arrived(HTTPS))?;
        let stalled = network.listen()?;

        let disk = Tmpfs::mount(DISK).await;
        let disk = disk.map_err(|error| format!("{error:#}"));
        let on = disk.as_ref().map_or(folder.path(), Tmpfs::path);
        // The write-ahead log would otherwise keep a gigabyte.
        let cluster = TestCluster::start_in(on, &["max_wal_size=128MB", "min_wal_size=32MB"]);
        let database = TestDatabase::of_own_cluster(cluster.await?).await?;
        let docker = TestDocker::start(&folder.path().join("docker")).await?;
        let mut intakes = Intakes::new(&certificate, &folder.path().join("intakes"))?;
        if !docker.is_own() {
            intakes.no_container = Some("only root can start a Docker daemon".to_owned());
        }

        let mut world = Self {
            members: Member::all().map(|member| (member, Mutex::default())).collect(),
            syslog,
            https,
            stalled,
            admin_url: database.admin_url().to_owned(),
            database: Mutex::new(database),
            docker_host: docker.host().to_owned(),
            docker: Mutex::new(docker),
            disk,
            network,
            clock: FakeClock::find().map_err(|error| format!("{error:#}")),
            ports: [free_port()?, free_port()?, free_port()?],
            intakes,
            ssh: Vec::new(),
            peaks: StdMutex::default(),
            folder,
        };
        world.deploy().await?;
        world.create_drains(&certificate, syslog_port).await?;
        world.create_sources().await?;
        Ok(world)
    }

    async fn deploy(&mut self) -> Result<()> {
        let keys = self.keys().display().to_string();
        let cli = self.cli();
        cli.run(&["keys", "create", "--dir", &keys]).await?;
        let place = ["--database-url", self.admin_url.as_str()];
        cli.run(&["migrate", place[0], place[1], "--keys-dir", &keys]).await?;
        for member in Member::all() {
            self.set_clock(member, 0)?;
            self.start(member).await?;
        }
        let api = format!("http://127.0.0.1:{}", self.ports[0]);
        cli.sign_in_as_owner(place, &api).await?;
        cli.create_app(IMAGE).await?;
        for port in &self.ports[1..] {
            let ssh = registered_openssh(&cli, *port, &self.keys(), self.folder.path()).await?;
            self.ssh.push(ssh);
        }
        Ok(())
    }

    async fn create_drains(&self, certificate: &ServerCertificate, syslog: u16) -> Result<()> {
        let cli = self.cli();
        let ca = self.folder.path().join("receivers-ca.pem");
        std::fs::write(&ca, &certificate.authority)?;
        let address = self.network.address().to_string();
        let url = |port: u16| format!("https://{address}:{port}/logs");
        let (syslog, ca) = (syslog.to_string(), ca.display().to_string());
        let stalled = self.stalled.local_addr()?.port().to_string();
        let (https, dead) = (url(self.https.port()), url(1));
        // What users and the platform do is no session's, and not checked.
        let place = ["--environment", "production", "--activity=false"];
        let options = [&place[..], &["--control-sequences", "keep", "--ca-file"]].concat();
        for to in [
            ["syslog", SYSLOG, "--host", &address, "--port", &syslog].as_slice(),
            &["https", HTTPS, "--url", &https],
            &["https", "dead", "--url", &dead],
            &["syslog", "stalled", "--host", &address, "--port", &stalled],
        ] {
            cli.run(&[&["drain", "create"], to, &options, &[&ca]].concat()).await?;
        }
        Ok(())
    }

    /// The command of the signed-in engineer.
    pub(crate) fn cli(&self) -> Cli {
        Cli::new(&self.folder.path().join("home"))
    }

    /// The id of the environment that all sessions are of.
    pub(crate) async fn environment(&self) -> Result<String> {
        let environments = self.cli().json(&["env", "list"]).await?;
        let id = environments.get(0).and_then(|environment| environment.get("id"));
        let id = id.and_then(serde_json::Value::as_str).context("the environment is listed")?;
        Ok(id.to_owned())
    }

    /// The URL of the database's owner.
    pub(crate) fn admin_url(&self) -> &str {
        &self.admin_url
    }

    /// OpenSSH's client for one of the edges.
    pub(crate) fn ssh(&self, edge: usize) -> Result<&OpenSsh> {
        self.ssh.get(edge).context("there is such an edge")
    }

    /// Starts a process that does not run, and waits until it answers.
    pub(crate) async fn start(&self, member: Member) -> Result<()> {
        let mut slot = self.slot(member)?.lock().await;
        let log = self.log(member);
        let mut process = Process::start(self.command(member)?, &log)?;
        if let Some(port) = self.port(member) {
            let address = ([127, 0, 0, 1], port).into();
            wait::until_true(&format!("{member} to listen"), DEADLINE, async || {
                if process.check_running().is_err() && supervisor::lacked_the_database(&log) {
                    process = Process::start(self.command(member)?, &log)?;
                }
                process.check_running()?;
                Ok(TcpSocket::new_v4()?.connect(address).await.is_ok())
            })
            .await?;
        }
        *slot = Some(process);
        Ok(())
    }

    /// Ends a process by SIGKILL.
    pub(crate) async fn kill(&self, member: Member) -> Result<()> {
        let taken = self.slot(member)?.lock().await.take();
        let mut process = taken.with_context(|| format!("{member} is not running"))?;
        self.note_peak(&member.to_string(), process.pid()?.as_raw_pid());
        process.stop(Signal::KILL, DEADLINE).await?;
        Ok(())
    }

    /// Starts a process again if it has ended by itself; tells whether it had.
    pub(crate) async fn revive(&self, member: Member) -> Result<bool> {
        let runs = {
            let mut slot = self.slot(member)?.lock().await;
            slot.as_mut().is_some_and(|process| process.check_running().is_ok())
        };
        if !runs {
            self.start(member).await?;
        }
        Ok(!runs)
    }

    /// Sends a process a signal.
    pub(crate) async fn signal(&self, member: Member, signal: Signal) -> Result<()> {
        let slot = self.slot(member)?.lock().await;
        slot.as_ref().with_context(|| format!("{member} is not running"))?.signal(signal)
    }

    /// Steps a process's clock to this many seconds beside the machine's.
    pub(crate) fn set_clock(&self, member: Member, seconds: i32) -> Result<()> {
        clock::step(&self.clock_file(member), seconds)
    }

    /// Why clocks cannot be stepped, if they cannot.
    pub(crate) fn clock_missing(&self) -> Option<&str> {
        self.clock.as_ref().err().map(String::as_str)
    }

    /// Notes how much memory the processes have had at most.
    pub(crate) fn note_peaks(&self) {
        for (member, slot) in &self.members {
            // One that is being started or killed is noted the next time.
            let pid = slot.try_lock().ok().and_then(|slot| slot.as_ref()?.pid().ok());
            if let Some(pid) = pid {
                self.note_peak(&member.to_string(), pid.as_raw_pid());
            }
        }
    }

    /// The processes' peaks so far, in KiB.
    pub(crate) fn peaks(&self) -> BTreeMap<String, u64> {
        self.peaks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_peak(&self, name: &str, pid: i32) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|peak| peak.split_whitespace().next()?.parse().ok());
        let mut peaks = self.peaks.lock().unwrap_or_else(PoisonError::into_inner);
        let known = peaks.entry(name.to_owned()).or_default();
        *known = (*known).max(peak.unwrap_or_default());
    }

    fn slot(&self, member: Member) -> Result<&Mutex<Option<Process>>> {
        let slot = self.members.iter().find(|(known, _)| *known == member);
        Ok(&slot.context("it is a member")?.1)
    }

    fn port(&self, member: Member) -> Option<u16> {
        let [api, first, second] = self.ports;
        match member {
            Member::Api => Some(api),
            Member::Edge(0) => Some(first),
            Member::Edge(_) => Some(second),
            Member::Worker(_) => None,
            Member::Intake(intake) => self.intakes.http_port(intake),
        }
    }

    fn keys(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    /// Where a process logs.
    pub(crate) fn log(&self, member: Member) -> PathBuf {
        self.folder.path().join(format!("{member}.log"))
    }

    fn clock_file(&self, member: Member) -> PathBuf {
        self.folder.path().join(format!("{member}.clock"))
    }

    fn command(&self, member: Member) -> Result<Command> {
        let service = match member {
            Member::Api => Service::Api,
            Member::Edge(_) => Service::Edge,
            Member::Worker(_) => Service::Worker,
            Member::Intake(_) => Service::Intake,
        };
        let mut command = service.command(&self.keys(), &self.admin_url)?;
        let listen = format!("127.0.0.1:{}", self.port(member).unwrap_or_default());
        match member {
            Member::Api => {
                command.args(["--api-listen", &listen]);
            }
            Member::Edge(_) => {
                command.args(["--ssh-listen", &listen, "--ssh-session-network", "none"]);
                command.args(["--ssh-docker-host", &self.docker_host, "--ssh-runtime-dir"]);
                command.arg(self.folder.path().join(format!("{member}.run")));
            }
            Member::Worker(_) => {
                let networks = "127.0.0.0/8,198.18.0.0/15";
                command.args(["--drain-allow-network", networks, "--drain-lease-seconds", "3"]);
            }
            Member::Intake(intake) => self.intakes.give(&mut command, intake, &self.docker_host),
        }
        if let Ok(clock) = &self.clock {
            clock.give(&mut command, &self.clock_file(member));
        }
        Ok(command)
    }
}
