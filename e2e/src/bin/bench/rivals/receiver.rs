//! rsyslog and syslog-ng as receivers of syslog over TLS that keep what they took while its destination is down.
//!
//! rsyslog has one queue between its input and its action: disk-assisted, whose memory is emptied into files while
//! the action is suspended, and without checkpoints, so that a process that is killed may not find them again.
//! syslog-ng has the reliable disk buffer, which writes a message to its file before it takes the next. Neither
//! flushes its files to the disk, which is how both are run.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::certificates::ServerCertificate;
use e2e::process::{self, Process};
use e2e::wait;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::process::Command;

use super::forwarder::Kind;
use crate::machine::SEARCH_PATH;

const DEADLINE: Duration = Duration::from_secs(20);

/// A running receiver.
pub(crate) struct Receiver {
    kind: Kind,
    process: Process,
    port: u16,
    certificate: ServerCertificate,
    packages: std::path::PathBuf,
    folder: TempDir,
}

impl Receiver {
    /// Starts it. `packages` is the folder of [`e2e::syslog_ng::fetch`].
    pub(crate) async fn start(kind: Kind, packages: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("spillway-bench-").tempdir()?;
        let certificate = ServerCertificate::for_localhost()?;
        certificate.write_to(folder.path())?;
        // Nothing listens there.
        let [port, to] = [free_port()?, free_port()?];
        let file = folder.path().join("conf");
        let command = if kind == Kind::SyslogNg {
            std::fs::write(&file, syslog_ng(folder.path(), port, to))?;
            e2e::syslog_ng::command(folder.path(), packages)
        } else {
            std::fs::write(&file, rsyslog(kind, folder.path(), port, to))?;
            let mut command = Command::new("rsyslogd");
            command.args(["-n", "-i"]).arg(folder.path().join("pid"));
            command.arg("-f").arg(&file).env("PATH", SEARCH_PATH);
            command
        };
        let mut process = Process::start(command, &folder.path().join("log"))?;
        wait::until_true("the receiver to listen", DEADLINE, async || {
            process.check_running()?;
            Ok(TcpSocket::new_v4()?.connect(([127, 0, 0, 1], port).into()).await.is_ok())
        })
        .await?;
        let packages = packages.to_owned();
        Ok(Self { kind, process, port, certificate, packages, folder })
    }

    /// Where it takes messages.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Whom to trust there.
    pub(crate) const fn certificate(&self) -> &ServerCertificate {
        &self.certificate
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Result<i32> {
        Ok(self.process.pid()?.as_raw_pid())
    }

    /// How many messages its queue has taken, once it counts as many as were sent.
    pub(crate) async fn taken(&mut self, sent: usize) -> Result<usize> {
        let mut found = 0;
        let all = wait::until_true("the receiver to count", DEADLINE, async || {
            found = if self.kind == Kind::SyslogNg {
                self.count_syslog_ng().await?
            } else {
                self.count_rsyslog()?
            };
            Ok(found >= sent)
        });
        let all = all.await;
        all.with_context(|| format!("it counts {found}; it said:\n{}", self.process.log()))?;
        Ok(found)
    }

    fn count_rsyslog(&self) -> Result<usize> {
        // Its files are written every second; a last line may be cut off.
        let Ok(text) = std::fs::read_to_string(self.folder.path().join("stats")) else {
            return Ok(0);
        };
        let mut lines = text
            .lines()
            .rev()
            .filter_map(|line| serde_json::from_str::<Value>(line.get(line.find('{')?..)?).ok());
        let queue = lines.find(|line| line.get("name").is_some_and(|name| name == "keep"));
        let Some(queue) = queue else { return Ok(0) };
        let count = |name: &str| queue.get(name).and_then(Value::as_u64).context("a count");
        let discarded = count("discarded.full")? + count("discarded.nf")?;
        ensure!(discarded == 0, "rsyslog has discarded {discarded} messages");
        Ok(usize::try_from(count("enqueued")?)?)
    }

    async fn count_syslog_ng(&self) -> Result<usize> {
        let command = e2e::syslog_ng::control(self.folder.path(), &self.packages);
        let said = process::succeed(command, DEADLINE).await?.text();
        // SourceName;SourceId;SourceInstance;State;Type;Number
        let count = |kind: &str| {
            let lines = said.lines().filter(|line| line.starts_with("dst."));
            let mut counts = lines.filter_map(|line| {
                let (line, count) = line.rsplit_once(';')?;
                line.ends_with(&format!(";{kind}")).then(|| count.parse::<usize>().ok())?
            });
            counts.next()
        };
        let dropped = count("dropped").unwrap_or_default();
        ensure!(dropped == 0, "syslog-ng has dropped {dropped} messages");
        Ok(count("queued").unwrap_or_default())
    }
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn rsyslog(kind: Kind, folder: &Path, port: u16, to: u16) -> String {
    let folder = folder.display();
    let driver = if kind == Kind::RsyslogGnutls { "gtls" } else { "ossl" };
    format!(
        r#"global(
    workDirectory="{folder}"
    maxMessageSize="8k"
    defaultNetstreamDriverCAFile="{folder}/ca.pem"
    defaultNetstreamDriverCertFile="{folder}/server.pem"
    defaultNetstreamDriverKeyFile="{folder}/server.key"
)
module(load="impstats" interval="1" format="json" log.file="{folder}/stats" log.syslog="off")
module(load="imtcp" maxSessions="100" StreamDriver.Name="{driver}" StreamDriver.Mode="1"
    StreamDriver.AuthMode="anon")
template(name="as-sent" type="string" string="%rawmsg%")
ruleset(name="keep" queue.type="LinkedList" queue.filename="keep" queue.size="50000"
    queue.highWatermark="10000" queue.lowWatermark="2000" queue.dequeueBatchSize="4096"
    queue.maxFileSize="128m" queue.saveOnShutdown="on" queue.timeoutEnqueue="600000"
    queue.workerThreads="1") {{
    action(type="omfwd" target="127.0.0.1" port="{to}" protocol="tcp" TCP_Framing="octet-counted"
        template="as-sent" action.resumeRetryCount="-1" action.resumeInterval="30")
}}
input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="keep")
"#
    )
}

fn syslog_ng(folder: &Path, port: u16, to: u16) -> String {
    let folder = folder.display();
    format!(
        r#"@version: 3.38
options {{ stats-freq(0); stats-level(1); time-reopen(600); use-dns(no); keep-hostname(yes); }};
source in {{
    syslog(ip("127.0.0.1") port({port}) transport("tls")
        tls(key-file("{folder}/server.key") cert-file("{folder}/server.pem")
            peer-verify(optional-untrusted))
        max-connections(100) log-fetch-limit(1000) log-iw-size(100000));
}};
destination out {{
    syslog("127.0.0.1" port({to}) transport("tcp")
        disk-buffer(reliable(yes) disk-buf-size(8589934592) dir("{folder}")));
}};
log {{ source(in); destination(out); flags(flow-control); }};
"#
    )
}
