//! Syslog.

mod docker;
mod flow;
mod programs;
mod refusals;
mod relays;
mod tenants;
mod tls;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::certificates::ServerCertificate;
use e2e::process::Process;
use e2e::wait;
use model::{Event, Id, LogLine, LogSource, Producer};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;

use crate::{DEADLINE, Source, World, text};

/// More than the intake lets pass between two looks for what it does not know.
const LOOKS_AGAIN: Duration = Duration::from_millis(300);

/// An intake that takes syslog in every way, and a source.
struct Syslog {
    world: World,
    source: Source,
    intake: Process,
    tls: u16,
    tcp: u16,
    udp: u16,
}

impl Syslog {
    async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    async fn start_with(more: &[&str]) -> Result<Self> {
        let world = World::new().await?;
        let source = world.app_source().await?;
        ServerCertificate::for_localhost()?.write_to(world.folder.path())?;
        let any = "127.0.0.1:0".to_owned();
        let (intake, [tls, tcp, udp]) = start(&world, [&any, &any, &any], more).await?;
        Ok(Self { world, source, intake, tls, tcp, udp })
    }

    /// Starts another intake at the same addresses, when the first one has ended.
    async fn start_again(&mut self) -> Result<()> {
        std::fs::remove_file(self.world.log())?;
        let addresses = [self.tls, self.tcp, self.udp].map(|port| format!("127.0.0.1:{port}"));
        let (intake, _) = start(&self.world, addresses.each_ref(), &[]).await?;
        self.intake = intake;
        Ok(())
    }

    fn unix(&self) -> PathBuf {
        self.world.folder.path().join("log")
    }

    fn token(&self) -> &str {
        &self.source.token
    }

    async fn connect(&self) -> Result<TcpStream> {
        Ok(TcpSocket::new_v4()?.connect(([127, 0, 0, 1], self.tcp).into()).await?)
    }

    /// What comes in one connection, which then ends.
    async fn send(&self, bytes: &[u8]) -> Result<()> {
        let mut connection = self.connect().await?;
        connection.write_all(bytes).await?;
        connection.shutdown().await?;
        Ok(())
    }

    /// An RFC 5424 message of the source.
    fn message(&self, text: &str) -> String {
        let token = self.token();
        format!("<134>1 2026-11-28T15:39:51.5Z h app 7 - [spillway@32473 token=\"{token}\"] {text}")
    }

    /// What was counted of a source: lines, refused, malformed, dropped, throttled.
    async fn counts(&self, source: &Source) -> Result<[i64; 5]> {
        let statement = "select lines, refused, malformed, dropped, throttled
             from log_source_counts where source_id = $1";
        let row = self.world.admin.query_opt(statement, &[&source.id.uuid()]).await?;
        Ok(row.map_or([0; 5], |row| [0, 1, 2, 3, 4].map(|column| row.get(column))))
    }

    async fn counts_until(
        &self,
        source: &Source,
        mut enough: impl FnMut([i64; 5]) -> bool,
    ) -> Result<[i64; 5]> {
        wait::until("the counts", DEADLINE, async || {
            let counts = self.counts(source).await?;
            Ok(enough(counts).then_some(counts))
        })
        .await
    }

    /// Waits until so many lines are there; gives their texts.
    async fn texts(&self, count: usize) -> Result<Vec<String>> {
        Ok(self.world.lines_until(count).await?.iter().map(text).collect())
    }

    /// The lines of each producer, in their order.
    async fn by_producer(&self) -> Result<Vec<(Id<Producer>, Vec<LogLine>)>> {
        let mut found: Vec<(Id<Producer>, Vec<LogLine>)> = Vec::new();
        for record in self.world.records().await? {
            let producer = record.origin.producer;
            let Event::Line(line) = record.event else { continue };
            match found.iter_mut().find(|(id, _)| *id == producer) {
                Some((_, lines)) => lines.push(*line),
                None => found.push((producer, vec![*line])),
            }
        }
        Ok(found)
    }

    /// Another source, when the intake may know it: what it does not know, it looks for again, but not right
    /// after it has looked.
    async fn another(&self) -> Result<Source> {
        let source = self.world.app_source().await?;
        sleep(LOOKS_AGAIN).await;
        Ok(source)
    }

    /// Changes a source's row.
    async fn change(&self, source: Id<LogSource>, set: &str) -> Result<()> {
        let statement = format!("update log_sources set {set} where id = '{source}'");
        Ok(self.world.admin.batch_execute(&statement).await?)
    }
}

async fn start(
    world: &World,
    [tls, tcp, udp]: [&String; 3],
    more: &[&str],
) -> Result<(Process, [u16; 3])> {
    let path = |name: &str| world.folder.path().join(name).display().to_string();
    let (certificate, key, unix) = (path("server.pem"), path("server.key"), path("log"));
    let mut arguments = vec!["--intake-syslog-tls-listen", tls, "--intake-syslog-tcp-listen", tcp];
    arguments.extend(["--intake-syslog-udp-listen", udp, "--intake-syslog-unix", &unix]);
    arguments.extend(["--intake-syslog-tls-certificate", &certificate]);
    arguments.extend(["--intake-syslog-tls-key", &key]);
    arguments.extend(more);
    let mut intake = world.intake(&arguments)?;
    wait::until_true("the intake to listen", DEADLINE, async || {
        intake.check_running()?;
        Ok(intake.log().contains("intake-syslog-unix"))
    })
    .await?;
    let log = intake.log();
    let port = |kind: &str| {
        let flag = format!("intake-syslog-{kind}-listen");
        let line = log.lines().find(|line| line.contains("listening") && line.contains(&flag));
        let port = line.and_then(|line| line.split("127.0.0.1:").nth(1));
        let port =
            port.map(|port| port.chars().take_while(char::is_ascii_digit).collect::<String>());
        port.with_context(|| format!("no port in:\n{log}"))?.parse::<u16>().context("a port")
    };
    Ok((intake, [port("tls")?, port("tcp")?, port("udp")?]))
}

/// The value of a line's field.
fn field<'a>(line: &'a LogLine, name: &str) -> Option<&'a str> {
    line.fields.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// `message 0`, `message 1`, ...
fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("message {number}")).collect()
}
