//! What `platform source create` prints to send lines with, run as it stands but for names of this machine.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::certificates::ServerCertificate;
use e2e::platform::{Platform, public_folder};
use e2e::process::{self, Process};
use e2e::wait;
use serde_json::Value;
use tokio::process::Command;

const DEADLINE: Duration = Duration::from_secs(30);

/// The example that begins with this, up to an empty line.
fn example(printed: &str, begin: &str) -> Result<String> {
    let lines = printed.lines().skip_while(|line| !line.trim_start().starts_with(begin));
    let lines: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    ensure!(!lines.is_empty(), "no {begin} in:\n{printed}");
    Ok(lines.join("\n"))
}

/// The port that the platform says it takes syslog over TLS on.
fn syslog_port(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("intake-syslog-tls-listen"))?;
    let (_, port) = line.split_once("127.0.0.1:")?;
    Some(port.chars().take_while(char::is_ascii_digit).collect())
}

/// An rsyslog that passes on the lines of a file.
fn rsyslog(folder: &Path, example: &str) -> Result<Process> {
    let file = folder.join("app.log");
    std::fs::write(&file, "through rsyslog\n")?;
    let configuration = format!(
        "{example}\nglobal(workDirectory=\"{}\")\nmodule(load=\"imfile\" mode=\"inotify\")\n\
         input(type=\"imfile\" file=\"{}\" tag=\"shop\")\n",
        folder.display(),
        file.display()
    );
    std::fs::write(folder.join("rsyslog.conf"), configuration)?;
    let mut command = Command::new("rsyslogd");
    command.args(["-n", "-i"]).arg(folder.join("pid")).arg("-f").arg(folder.join("rsyslog.conf"));
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    Process::start(command, &folder.join("rsyslog.log"))
}

#[tokio::test]
async fn what_a_new_source_prints_sends_lines() -> Result<()> {
    let folder = public_folder()?;
    ServerCertificate::for_localhost()?.write_to(folder.path())?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (certificate, key, authority) = (path("server.pem"), path("server.key"), path("ca.pem"));
    let settings = ["--intake-syslog-tls-listen", "127.0.0.1:0"];
    let identity =
        ["--intake-syslog-tls-certificate", &certificate, "--intake-syslog-tls-key", &key];
    let mut platform = Platform::with_app("none", &[&settings[..], &identity].concat()).await?;
    let cli = platform.cli();
    let place = ["--app", "web", "--environment", "production"];
    let create = [&["source", "create", "web-logs"][..], &place].concat();
    let printed = cli.run(&create).await?.text();

    let curl = example(&printed, "curl ")?.replace("https://INTAKE:4318", platform.intake());
    let mut shell = Command::new("sh");
    shell.args(["-c", &curl]);
    let answer = process::succeed(shell, DEADLINE).await?.text();
    let said: Value = serde_json::from_str(&answer).with_context(|| format!("{curl}: {answer}"))?;
    ensure!(said.get("accepted") == Some(&Value::from(1)), "{said}");

    let port = syslog_port(&platform.process()?.log()).context("a port for syslog")?;
    let configuration = example(&printed, "# rsyslog.conf")?
        .replace("INTAKE", "localhost")
        .replace("6514", &port)
        .replace("/etc/ssl/certs/ca-certificates.crt", &authority);
    let mut relay = rsyslog(folder.path(), &configuration)?;
    let read = wait::until("both lines", DEADLINE, async || {
        relay.check_running()?;
        let read = cli.run(&[&["logs"][..], &place].concat()).await?.text();
        Ok((read.lines().count() >= 2).then_some(read))
    });
    let read = read.await.with_context(|| relay.log())?;
    for line in ["app/web a line", "app/web through rsyslog"] {
        ensure!(read.lines().any(|one| one.ends_with(line)), "no {line} in:\n{read}");
    }
    Ok(())
}
