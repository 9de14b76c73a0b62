//! OpenSSH's server, and a container for it like those of sessions.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::docker::docker;
use e2e::openssh::{KeyPair, OpenSsh};
use e2e::process::{self, Process};
use e2e::wait;
use tokio::net::TcpSocket;
use tokio::process::Command;

const DEADLINE: Duration = Duration::from_secs(30);

/// A running sshd on a free port of 127.0.0.1.
#[derive(Debug)]
pub(crate) struct Sshd {
    process: Process,
    client: OpenSsh,
}

impl Sshd {
    /// Starts it with its files in `folder`, and `forced` as the command of every session.
    pub(crate) async fn start(folder: &Path, forced: Option<&Path>) -> Result<Self> {
        std::fs::create_dir(folder)?;
        // Where sshd's unprivileged half lives; Debian's service makes it.
        std::fs::create_dir_all("/run/sshd")?;
        let path = |name: &str| folder.join(name);
        let host = KeyPair::generate(&path("host"), "ed25519").await?;
        let authority = KeyPair::generate(&path("host-ca"), "ed25519").await?;
        let mut sign = Command::new("ssh-keygen");
        sign.args(["-q", "-h", "-I", "host", "-n", "sshd", "-V", "-1h:+1d", "-s"]);
        sign.arg(&authority.private).arg(host.private.with_extension("pub"));
        process::succeed(sign, DEADLINE).await?;
        let user = KeyPair::generate(&path("user"), "ed25519").await?;
        std::fs::write(path("authorized_keys"), format!("{}\n", user.public))?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let folder = folder.display();
        let forced = forced
            .map(|program| format!("ForceCommand {}\n", program.display()))
            .unwrap_or_default();
        let settings = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\n\
             HostCertificate {folder}/host-cert.pub\nAuthorizedKeysFile {folder}/authorized_keys\n\
             PidFile none\nStrictModes no\nUsePAM no\nUseDNS no\nPrintMotd no\nPrintLastLog no\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\nMaxStartups 1000\n{forced}"
        );
        std::fs::write(path("sshd_config"), settings)?;
        let mut sshd = Command::new("/usr/sbin/sshd");
        sshd.args(["-D", "-e", "-f"]).arg(path("sshd_config"));
        let mut process = Process::start(sshd, &path("log"))?;
        wait::until_true("sshd to listen", DEADLINE, async || {
            process.check_running()?;
            Ok(TcpSocket::new_v4()?.connect(([127, 0, 0, 1], port).into()).await.is_ok())
        })
        .await?;
        let client = OpenSsh::new(port, &user.private, &authority.public, "sshd", &path(""))?;
        Ok(Self { process, client })
    }

    /// The client that can sign in.
    pub(crate) fn client(&self) -> OpenSsh {
        self.client.clone()
    }

    /// The listening process.
    pub(crate) fn pid(&self) -> Result<i32> {
        Ok(self.process.pid()?.as_raw_pid())
    }
}

/// What Docker is told so that a container is like a session's: the limits that an environment has
/// when nothing else is said, and the same rights.
pub(crate) const LIKE_A_SESSION: &[&str] = &[
    "--network=none",
    "--log-driver=none",
    "--memory=1g",
    "--memory-swap=1g",
    "--cpus=2",
    "--pids-limit=1024",
    "--security-opt=no-new-privileges",
    "--cap-drop=ALL",
    "--cap-add=CHOWN",
    "--cap-add=DAC_OVERRIDE",
    "--cap-add=FOWNER",
    "--cap-add=FSETID",
    "--cap-add=KILL",
    "--cap-add=SETGID",
    "--cap-add=SETUID",
];

/// A container that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Container {
    id: String,
    /// Of its containerd-shim.
    shim: i32,
}

impl Container {
    /// Starts it from this image.
    pub(crate) async fn start(image: &str) -> Result<Self> {
        let mut run = docker(&["run", "--detach"]);
        run.args(LIKE_A_SESSION).args([image, "sleep", "86400"]);
        let id = process::succeed(run, DEADLINE).await?.text().trim().to_owned();
        let mut container = Self { id, shim: 0 };
        let inspect = docker(&["inspect", "--format", "{{.State.Pid}}", &container.id]);
        let pid = process::succeed(inspect, DEADLINE).await?.text();
        container.shim = crate::cpu::parent(pid.trim().parse().context("a process id")?)?;
        Ok(container)
    }

    /// Writes the program that enters the container and runs there what the client asked for.
    pub(crate) fn entrance(&self, file: &Path) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let id = &self.id;
        // With sessions' arguments: a shell, or one that runs the command.
        let script = format!(
            "#!/bin/sh\n[ -n \"$SSH_TTY\" ] && terminal=t\n\
             [ -n \"$SSH_ORIGINAL_COMMAND\" ] || exec docker exec -i$terminal {id} sh\n\
             exec docker exec -i$terminal {id} sh -c \"$SSH_ORIGINAL_COMMAND\"\n"
        );
        std::fs::write(file, script)?;
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// The process that holds the container and carries its output to Docker's daemon.
    pub(crate) const fn shim(&self) -> i32 {
        self.shim
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let remove = ["rm", "--force", "--volumes", &self.id];
        drop(std::process::Command::new("docker").args(remove).output());
    }
}

/// An image with a file of log text in it, gone when dropped.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) name: String,
}

impl Image {
    /// Puts `file` at `/log` in a copy of the image `base`.
    pub(crate) async fn with_file(base: &str, file: &Path) -> Result<Self> {
        let create = docker(&["create", base]);
        let container = process::succeed(create, DEADLINE).await?.text().trim().to_owned();
        let name = format!("spillway-bench:{}", std::process::id());
        let copy = docker(&["cp", &file.display().to_string(), &format!("{container}:/log")]);
        let copied = process::succeed(copy, DEADLINE).await;
        let commit = docker(&["commit", &container, &name]);
        let committed = process::succeed(commit, DEADLINE).await;
        process::succeed(docker(&["rm", &container]), DEADLINE).await?;
        copied?;
        committed?;
        Ok(Self { name })
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let remove = ["rmi", "--force", &self.name];
        drop(std::process::Command::new("docker").args(remove).output());
    }
}
