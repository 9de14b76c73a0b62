//! Debian's rsyslog as a receiver of syslog over TLS.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::process::Command;

use crate::certificates::ServerCertificate;
use crate::process::Process;
use crate::wait;

const DEADLINE: Duration = Duration::from_secs(20);

/// Which library does rsyslog's TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsDriver {
    /// `GnuTLS` (package `rsyslog-gnutls`).
    Gnutls,
    /// OpenSSL (package `rsyslog-openssl`).
    Openssl,
}

/// A running rsyslog that writes each message, as it was sent but for the octet count, to a file
/// with one line each. Control characters and bytes that are not UTF-8 stay as they are, only NUL
/// becomes `#000`; messages may have 2 MiB.
#[derive(Debug)]
pub struct Rsyslog {
    process: Option<Process>,
    folder: PathBuf,
    port: u16,
    authority: String,
    #[allow(dead_code, reason = "the folder goes with it")]
    temporary: Option<TempDir>,
}

impl Rsyslog {
    /// Starts in a temporary folder, on a free port of 127.0.0.1, with a certificate for
    /// `localhost` of an authority of its own.
    pub async fn start(driver: TlsDriver) -> Result<Self> {
        let temporary = tempfile::Builder::new().prefix("spillway-rsyslog-").tempdir()?;
        let certificate = ServerCertificate::for_localhost()?;
        let mut started = Self::start_in(temporary.path(), &certificate, driver).await?;
        started.temporary = Some(temporary);
        Ok(started)
    }

    /// Starts with its files in `folder`, which stays.
    pub async fn start_in(
        folder: &Path,
        certificate: &ServerCertificate,
        driver: TlsDriver,
    ) -> Result<Self> {
        certificate.write_to(folder)?;
        let mut failure = None;
        // rsyslog cannot choose its port; another process may take the one chosen here.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            std::fs::write(folder.join("rsyslog.conf"), configuration(folder, driver, port))?;
            let mut rsyslog = Self {
                process: None,
                folder: folder.to_owned(),
                port,
                authority: certificate.authority.clone(),
                temporary: None,
            };
            match rsyslog.start_again().await {
                Ok(()) => return Ok(rsyslog),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.context("five attempts were made")?)
    }

    /// Starts the stopped server again, on the same port, with the same file of messages.
    pub async fn start_again(&mut self) -> Result<()> {
        let mut command = Command::new("rsyslogd");
        command.arg("-n").arg("-i").arg(self.folder.join("rsyslog.pid"));
        command.arg("-f").arg(self.folder.join("rsyslog.conf"));
        // rsyslogd is not on the path of an ordinary user.
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let log = self.folder.join("rsyslog.log");
        // Of an earlier start, it would be taken for what this one says.
        std::fs::write(&log, "")?;
        let process = Process::start(command, &log)?;
        let process = self.process.insert(process);
        let port = self.port;
        wait::until_true("rsyslog to listen", DEADLINE, async || {
            process.check_running()?;
            ensure!(!process.log().contains("error"), "rsyslog said:\n{}", process.log());
            let socket = TcpSocket::new_v4()?;
            Ok(socket.connect(([127, 0, 0, 1], port).into()).await.is_ok())
        })
        .await
    }

    /// Stops it in order.
    pub async fn stop(&mut self) -> Result<()> {
        let mut process = self.process.take().context("rsyslog is not running")?;
        process.stop(Signal::TERM, DEADLINE).await?;
        Ok(())
    }

    /// Kills it at once.
    pub async fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("rsyslog is not running")?;
        process.stop(Signal::KILL, DEADLINE).await?;
        Ok(())
    }

    /// The port of 127.0.0.1 on which it listens.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of the authority to trust, as PEM.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The file of messages.
    #[must_use]
    pub fn messages_file(&self) -> PathBuf {
        self.folder.join("messages")
    }

    /// The messages written so far, in order of arrival.
    #[must_use]
    pub fn messages(&self) -> Vec<Vec<u8>> {
        let bytes = std::fs::read(self.messages_file()).unwrap_or_default();
        let mut messages: Vec<Vec<u8>> =
            bytes.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
        // After the last line end is nothing, or the beginning of a message.
        messages.pop();
        messages
    }
}

fn configuration(folder: &Path, driver: TlsDriver, port: u16) -> String {
    let folder = folder.display();
    let driver = match driver {
        TlsDriver::Gnutls => "gtls",
        TlsDriver::Openssl => "ossl",
    };
    format!(
        r#"global(
    workDirectory="{folder}"
    maxMessageSize="2m"
    parser.escapeControlCharactersOnReceive="off"
    defaultNetstreamDriverCAFile="{folder}/ca.pem"
    defaultNetstreamDriverCertFile="{folder}/server.pem"
    defaultNetstreamDriverKeyFile="{folder}/server.key"
)
module(load="imtcp" streamDriver.name="{driver}" streamDriver.mode="1" streamDriver.authMode="anon" maxFrameSize="2100000")
input(type="imtcp" address="127.0.0.1" port="{port}")
template(name="as-sent" type="string" string="%rawmsg%\n")
action(type="omfile" file="{folder}/messages" template="as-sent")
"#
    )
}
