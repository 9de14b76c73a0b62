//! A customer's two log endpoints, and what they have.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::arrivals::{Arrival, in_order, without_a_gap};
use crate::https_receiver::HttpsReceiver;
use crate::platform::{Cli, EMAIL, NAME};
use crate::rsyslog::{Rsyslog, TlsDriver};
use crate::wait;

/// An rsyslog and an HTTPS receiver, to which the drains `syslog` and `https` send.
#[derive(Debug)]
pub struct Endpoints {
    /// Receives syslog over TLS.
    pub rsyslog: Rsyslog,
    /// Receives HTTPS.
    pub https: HttpsReceiver,
}

impl Endpoints {
    /// Starts both, and creates a drain to each in the environment `production`.
    pub async fn create(cli: &Cli, folder: &std::path::Path) -> Result<Self> {
        let rsyslog = Rsyslog::start(TlsDriver::Openssl).await?;
        let https = HttpsReceiver::start().await?;
        let [syslog_ca, https_ca] = ["syslog-ca.pem", "https-ca.pem"].map(|name| folder.join(name));
        std::fs::write(&syslog_ca, rsyslog.authority())?;
        std::fs::write(&https_ca, https.authority())?;
        let (port, ca) = (rsyslog.port().to_string(), syslog_ca.display().to_string());
        // Without what was done to the drains themselves: what comes is the sessions'.
        let place = ["--environment", "production", "--activity=false"];
        let create = ["drain", "create", "syslog", "syslog", "--host", "localhost"];
        cli.run(&[&create[..], &["--port", &port, "--ca-file", &ca], &place].concat()).await?;
        let (url, ca) = (https.url(), https_ca.display().to_string());
        let create = ["drain", "create", "https", "https", "--url", &url, "--ca-file", &ca];
        cli.run(&[&create[..], &place].concat()).await?;
        Ok(Self { rsyslog, https })
    }

    /// What each of them has: rsyslog, HTTPS.
    pub fn arrivals(&self) -> Result<[Vec<Arrival>; 2]> {
        let syslog = self.rsyslog.messages();
        let syslog = syslog.iter().map(|line| Arrival::from_syslog(&String::from_utf8_lossy(line)));
        let https: Result<_> =
            self.https.accepted_lines()?.iter().map(Arrival::from_json).collect();
        Ok([in_order(syslog.collect()), in_order(https?)])
    }

    /// Waits until both have the end of `count` sessions; gives the sessions' ids.
    pub async fn sessions_ended(&self, count: usize, deadline: Duration) -> Result<Vec<String>> {
        wait::until(
            &format!("the end of {count} sessions at both endpoints"),
            deadline,
            async || {
                let [syslog, https] = self.arrivals()?.map(|arrivals| ended(&arrivals));
                Ok((syslog.len() >= count && https.len() >= count).then_some(syslog))
            },
        )
        .await
        .with_context(|| self.summary())
    }

    /// Waits for the end of the only session, then checks at both endpoints that every byte of its
    /// standard output is there, in lines that all have the engineer's tags. Gives the lines, which
    /// are the same at both.
    pub async fn whole_session(&self, deadline: Duration) -> Result<Vec<String>> {
        let sessions = self.sessions_ended(1, deadline).await?;
        let session = sessions.first().context("a session has ended")?;
        let mut found = Vec::new();
        for arrivals in self.arrivals()? {
            // Test lines of a drain are nobody's session.
            for arrival in arrivals.iter().filter(|arrival| arrival.field("source") != "activity") {
                for (name, value) in [
                    ("user_email", EMAIL),
                    ("user_name", NAME),
                    ("environment", "production"),
                    ("app", "web"),
                    ("source", "ephemeral_session"),
                ] {
                    ensure!(arrival.field(name) == value, "{name} is wrong in {}", arrival.raw);
                }
            }
            found.push(without_a_gap(&arrivals, session, "stdout")?.1);
        }
        let lines = found.pop().unwrap_or_default();
        let other = found.concat();
        ensure!(other == lines, "rsyslog has {other:?}, HTTPS has {lines:?}");
        Ok(lines)
    }

    fn summary(&self) -> String {
        let count = |all: &[Arrival]| (all.len(), ended(all).len());
        match self.arrivals() {
            Ok(all) => {
                format!("lines and ended sessions at each: {:?}", all.map(|all| count(&all)))
            }
            Err(error) => format!("what they have cannot be read: {error:#}"),
        }
    }
}

fn ended(arrivals: &[Arrival]) -> Vec<String> {
    let ends = arrivals.iter().filter(|arrival| arrival.field("event") == "session_ended");
    ends.map(|arrival| arrival.field("session_id").to_owned()).collect()
}
