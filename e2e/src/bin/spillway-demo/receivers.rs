//! The customer's log endpoints.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use e2e::certificates::CertificateAuthority;
use e2e::https_receiver::{HttpsReceiver, Received};
use e2e::rsyslog::{Rsyslog, TlsDriver};
use tokio::signal::unix::{SignalKind, signal};

const PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
pub(crate) struct Receive {
    /// Gets `ca.pem`, `syslog/messages` (as sent, one a line), `https/lines` (JSON, one a line),
    /// and, once both listen, `receivers` with the ports.
    folder: PathBuf,
}

impl Receive {
    pub(crate) async fn run(self) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let [syslog, https] = ["syslog", "https"].map(|name| self.folder.join(name));
        std::fs::create_dir_all(&syslog)?;
        std::fs::create_dir_all(&https)?;
        let authority = CertificateAuthority::new()?;
        std::fs::write(self.folder.join("ca.pem"), authority.pem())?;
        let certificate = authority.issue(&["localhost", "127.0.0.1"])?;
        let mut rsyslog = Rsyslog::start_in(&syslog, &certificate, TlsDriver::Openssl).await?;
        let receiver = HttpsReceiver::start_with(&certificate, 0).await?;
        let mut lines = File::create(https.join("lines"))?;

        let [syslog_port, https_port] = [rsyslog.port(), receiver.address().port()];
        let ports = format!("SYSLOG_PORT={syslog_port}\nHTTPS_PORT={https_port}\n");
        // Renamed, so that whoever waits for the file finds it whole.
        let draft = self.folder.join("receivers.new");
        std::fs::write(&draft, ports)?;
        std::fs::rename(draft, self.folder.join("receivers"))?;

        loop {
            // Losing an arm is safe: none has taken anything before it is chosen.
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                () = tokio::time::sleep(PAUSE) => keep(&receiver.take_requests(), &mut lines)?,
            }
        }
        keep(&receiver.take_requests(), &mut lines)?;
        rsyslog.stop().await
    }
}

fn keep(requests: &[Received], lines: &mut File) -> Result<()> {
    for request in requests {
        let received = request.lines().context("a batch came without JSON lines in it")?;
        for line in received {
            writeln!(lines, "{line}")?;
        }
    }
    Ok(())
}
