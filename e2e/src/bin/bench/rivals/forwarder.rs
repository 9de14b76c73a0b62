//! rsyslog and syslog-ng: lines in by TCP, messages out by TLS, tuned for throughput.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::certificates::ServerCertificate;
use e2e::process::Process;
use e2e::wait;
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::process::Command;

use crate::machine::SEARCH_PATH;

const DEADLINE: Duration = Duration::from_secs(20);
/// Room for everything that a run sends: a forwarder whose queue is full may drop.
const QUEUE: usize = 2_500_000;
/// syslog-ng drops what does not fit, although flow control is asked for: room for all.
const FIFO: usize = 4_000_000;

/// Which forwarder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// rsyslog with `GnuTLS`.
    RsyslogGnutls,
    /// rsyslog with OpenSSL.
    RsyslogOpenssl,
    /// syslog-ng.
    SyslogNg,
}

/// A running forwarder.
#[derive(Debug)]
pub(crate) struct Forwarder {
    process: Process,
    port: u16,
    _folder: TempDir,
}

impl Forwarder {
    /// Starts it, sending to this port of 127.0.0.1. `packages` is the folder of [`e2e::syslog_ng::fetch`].
    pub(crate) async fn start(
        kind: Kind,
        to: u16,
        certificate: &ServerCertificate,
        packages: &Path,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("spillway-bench-").tempdir()?;
        certificate.write_to(folder.path())?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let file = folder.path().join("conf");
        let command = if kind == Kind::SyslogNg {
            std::fs::write(&file, syslog_ng(port, to))?;
            e2e::syslog_ng::command(folder.path(), packages)
        } else {
            std::fs::write(&file, rsyslog(kind, folder.path(), port, to))?;
            let mut command = Command::new("rsyslogd");
            command.args(["-n", "-i"]).arg(folder.path().join("pid"));
            command.arg("-f").arg(&file).env("PATH", SEARCH_PATH);
            command
        };
        let mut process = Process::start(command, &folder.path().join("log"))?;
        wait::until_true("the forwarder to listen", DEADLINE, async || {
            process.check_running()?;
            ensure!(!process.log().contains("rror"), "{kind:?} said:\n{}", process.log());
            Ok(TcpSocket::new_v4()?.connect(([127, 0, 0, 1], port).into()).await.is_ok())
        })
        .await?;
        Ok(Self { process, port, _folder: folder })
    }

    /// Where it takes lines.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Result<i32> {
        Ok(self.process.pid()?.as_raw_pid())
    }
}

fn rsyslog(kind: Kind, folder: &Path, port: u16, to: u16) -> String {
    let folder = folder.display();
    let driver = if kind == Kind::RsyslogGnutls { "gtls" } else { "ossl" };
    format!(
        r#"global(
    workDirectory="{folder}"
    maxMessageSize="8k"
    defaultNetstreamDriverCAFile="{folder}/ca.pem"
)
main_queue(queue.type="FixedArray" queue.size="{QUEUE}" queue.dequeueBatchSize="4096" queue.workerThreads="1")
module(load="imtcp")
input(type="imtcp" address="127.0.0.1" port="{port}")
template(name="as-sent" type="string" string="%rawmsg%")
action(type="omfwd" target="127.0.0.1" port="{to}" protocol="tcp" TCP_Framing="octet-counted"
    template="as-sent" StreamDriver="{driver}" StreamDriverMode="1" StreamDriverAuthMode="anon"
    action.resumeRetryCount="-1" action.resumeInterval="1")
"#
    )
}

fn syslog_ng(port: u16, to: u16) -> String {
    format!(
        r#"@version: 3.35
options {{ stats-freq(0); time-reopen(1); use-dns(no); log-fifo-size({FIFO}); }};
source in {{
    network(ip("127.0.0.1") port({port}) transport("tcp") flags(no-parse)
        log-fetch-limit(1000) log-iw-size(100000));
}};
destination out {{
    syslog("127.0.0.1" port({to}) transport("tls") tls(peer-verify(optional-untrusted))
        template("${{MSG}}") flush-lines(1000));
}};
log {{ source(in); destination(out); flags(flow-control); }};
"#
    )
}
