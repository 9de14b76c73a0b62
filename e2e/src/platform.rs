//! The built programs of this workspace, running.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::openssh::{KeyPair, OpenSsh};
use crate::process::{self, Finished, Process};
use crate::wait;

const DEADLINE: Duration = Duration::from_mins(1);

/// A program that `cargo build --workspace` has made, found beside the running one.
pub fn binary(name: &str) -> Result<PathBuf> {
    let running = std::env::current_exe()?;
    // A test runs in `target/<profile>/deps`, a program in `target/<profile>`.
    let folder = running.parent().context("the running program is in a folder")?;
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let path = folder.join(name);
    ensure!(path.exists(), "{} is missing; run: cargo build --workspace", path.display());
    Ok(path)
}

/// The `platform` command of one user, whose sign-in is kept apart from everybody else's.
#[derive(Debug, Clone)]
pub struct Cli {
    home: PathBuf,
}

impl Cli {
    /// A user without a sign-in, whose files are in `home`.
    #[must_use]
    pub fn new(home: &Path) -> Self {
        Self { home: home.to_owned() }
    }

    /// `platform` with these arguments.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary("platform")?);
        command.args(arguments).env("XDG_CONFIG_HOME", &self.home).env("TERM", "xterm");
        for name in ["SPILLWAY_TOKEN", "SPILLWAY_API_URL", "SPILLWAY_DATA_DIR", "SPILLWAY_APP"] {
            command.env_remove(name);
        }
        Ok(command)
    }

    /// Runs it to its end, whatever its status.
    pub async fn finish(&self, arguments: &[&str]) -> Result<Finished> {
        process::finish(self.command(arguments)?, DEADLINE).await
    }

    /// Runs it, and fails if it fails.
    pub async fn run(&self, arguments: &[&str]) -> Result<Finished> {
        process::succeed(self.command(arguments)?, DEADLINE)
            .await
            .with_context(|| format!("platform {}", arguments.join(" ")))
    }

    /// Runs it with `--json`, and gives what it printed.
    pub async fn json(&self, arguments: &[&str]) -> Result<Value> {
        let printed = self.run(&[arguments, &["--json"]].concat()).await?.text();
        serde_json::from_str(&printed).with_context(|| format!("no JSON: {printed}"))
    }

    /// Makes the organization `acme` and its owner Ada Lovelace, and signs her in. `place` is the
    /// flag that tells operators' commands where the database is, and its value.
    pub async fn sign_in_as_owner(&self, place: [&str; 2], api: &str) -> Result<()> {
        let organization = ["admin", "organization", "create", "--handle", "acme"];
        self.run(&[&organization[..], &place].concat()).await?;
        let user = ["admin", "user", "create", "--organization", "acme", "--role", "owner"];
        let who = ["--email", EMAIL, "--name", NAME, "--generate-password"];
        let user = self.json(&[&user[..], &who, &place].concat()).await?;
        let password =
            user.get("password").and_then(Value::as_str).context("a password was made")?;
        let login = ["login", "--api", api, "--email", EMAIL, "--password-stdin"];
        let login = self.command(&login)?;
        let input = format!("{password}\n").into_bytes();
        let login = process::finish_with_input(login, input, DEADLINE).await?;
        ensure!(login.status.success(), "sign-in failed: {}", login.error_text());
        Ok(())
    }

    /// Makes the environment `production` and in it the app `web` with this image.
    pub async fn create_app(&self, image: &str) -> Result<()> {
        self.run(&["env", "create", "production"]).await?;
        self.run(&["app", "create", "web", "--environment", "production", "--image", image])
            .await?;
        Ok(())
    }
}

/// The e-mail address of the tests' engineer.
pub const EMAIL: &str = "ada@example.com";
/// The name of the tests' engineer.
pub const NAME: &str = "Ada Lovelace";

/// `platform up` in a data folder of its own, which goes with it.
#[derive(Debug)]
pub struct Platform {
    up: Option<Process>,
    settings: Vec<String>,
    api: String,
    ssh_port: u16,
    intake: String,
    folder: TempDir,
}

impl Platform {
    /// Starts it on free ports, and waits until it is ready. Drains may send to this machine.
    pub async fn start(settings: &[&str]) -> Result<Self> {
        let folder = public_folder()?;
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let (api, intake) = (String::new(), String::new());
        let mut platform = Self { up: None, settings, api, ssh_port: 0, intake, folder };
        platform.start_again().await?;
        Ok(platform)
    }

    /// Starts it, then makes an organization, an owner who is signed in, the environment
    /// `production` and the app `web` with this image.
    pub async fn with_app(image: &str, settings: &[&str]) -> Result<Self> {
        let platform = Self::start(settings).await?;
        let data = platform.data().display().to_string();
        platform.cli().sign_in_as_owner(["--data-dir", &data], &platform.api).await?;
        platform.cli().create_app(image).await?;
        Ok(platform)
    }

    /// Starts the stopped platform again, on the same ports, and waits until it is ready.
    pub async fn start_again(&mut self) -> Result<()> {
        let log = self.folder.path().join("platform.log");
        // What an earlier start said would be taken for what this one says.
        std::fs::write(&log, "")?;
        let mut process = Process::start(self.up_command()?, &log)?;
        let ready = wait::until("platform up to be ready", DEADLINE, async || {
            process.check_running()?;
            let log = process.log();
            Ok(log.lines().find_map(|line| {
                serde_json::from_str::<Value>(line)
                    .ok()
                    .filter(|told| told.get("ready") == Some(&Value::Bool(true)))
            }))
        })
        .await
        .with_context(|| format!("it said:\n{}", process.log()))?;
        let text = |name: &str| ready.get(name).and_then(Value::as_str).map(str::to_owned);
        self.api = text("api").context("it tells where the API is")?;
        let ssh = text("ssh").context("it tells where the edge is")?;
        self.ssh_port = ssh.rsplit(':').next().unwrap_or_default().parse()?;
        self.intake = text("intake").context("it tells where the intake is")?;
        self.up = Some(process);
        Ok(())
    }

    /// The `platform up` command of this data folder.
    pub fn up_command(&self) -> Result<Command> {
        let mut up = self.cli().command(&["up", "--json", "--data-dir"])?;
        up.arg(self.data());
        // Free ports at the first start, and the same ones at the next.
        let port = |url: &str| match url.rsplit(':').next() {
            Some(port) if !port.is_empty() => format!("127.0.0.1:{port}"),
            _ => "127.0.0.1:0".to_owned(),
        };
        up.args(["--api-listen", &port(&self.api), "--intake-http-listen", &port(&self.intake)]);
        up.args(["--ssh-listen", &format!("127.0.0.1:{}", self.ssh_port)]);
        up.args(["--ssh-session-network", "none"]);
        up.args(["--drain-allow-network", "127.0.0.0/8,::1/128"]).args(&self.settings);
        Ok(up)
    }

    /// Where it takes lines over HTTP.
    #[must_use]
    pub fn intake(&self) -> &str {
        &self.intake
    }

    /// The process.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.up.as_mut().context("the platform is not running")
    }

    /// Sends it a signal and waits for its end.
    pub async fn stop(&mut self, signal: Signal) -> Result<std::process::ExitStatus> {
        let mut up = self.up.take().context("the platform is not running")?;
        up.stop(signal, DEADLINE).await
    }

    /// The command of its signed-in engineer.
    #[must_use]
    pub fn cli(&self) -> Cli {
        Cli::new(&self.folder.path().join("home"))
    }

    /// A folder for files that go with the platform.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The API's address.
    #[must_use]
    pub fn api(&self) -> &str {
        &self.api
    }

    /// The SSH edge's port.
    #[must_use]
    pub const fn ssh_port(&self) -> u16 {
        self.ssh_port
    }

    /// Plain OpenSSH with a new key that is registered for the engineer.
    pub async fn openssh(&self) -> Result<OpenSsh> {
        let keys = self.data().join("keys");
        registered_openssh(&self.cli(), self.ssh_port, &keys, self.folder.path()).await
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        // In order, so that containers go with it; the kill that follows is for one that hangs.
        if let Some(up) = &self.up
            && up.signal(Signal::INT).is_ok()
        {
            up.wait_for_end_blocking(Duration::from_secs(20));
        }
    }
}

/// Registers a new key for the engineer, and prepares OpenSSH's client for an edge. `keys` is the
/// deployment's folder of keys.
pub async fn registered_openssh(
    cli: &Cli,
    ssh_port: u16,
    keys: &Path,
    folder: &Path,
) -> Result<OpenSsh> {
    let key = KeyPair::generate(&folder.join(format!("key-{ssh_port}")), "ed25519").await?;
    let public = key.private.with_extension("pub").display().to_string();
    cli.run(&["key", "add", &public]).await?;
    let host_authority = std::fs::read_to_string(keys.join("host_ca.pub"))?;
    OpenSsh::new(ssh_port, &key.private, &host_authority, "spillway-edge", folder)
}

/// A temporary folder that other accounts may pass through: as root, PostgreSQL has one of its own.
pub fn public_folder() -> Result<TempDir> {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::Builder::new().prefix("spillway-").tempdir()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}
