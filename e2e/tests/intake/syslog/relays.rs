//! rsyslog and syslog-ng.

use std::net::TcpListener;
use std::path::Path;

use anyhow::Result;
use e2e::process::Process;
use e2e::{syslog_ng, wait};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;
use tokio::process::Command;

use super::{Syslog, field, numbered};
use crate::{DEADLINE, Source, text};

const MESSAGES: u16 = 2000;

/// Starts the relay of this command, feeds it with messages, and checks that all came from both sources.
async fn check(
    syslog: &Syslog,
    sources: [&Source; 2],
    command: Command,
    folder: &Path,
    port: u16,
) -> Result<()> {
    let mut relay = Process::start(command, &folder.join("relay.log"))?;
    let mut connection = wait::until("the relay to listen", DEADLINE, async || {
        relay.check_running()?;
        Ok(TcpSocket::new_v4()?.connect(([127, 0, 0, 1], port).into()).await.ok())
    })
    .await?;
    let texts = numbered(MESSAGES.into());
    for text in &texts {
        let message = format!("<131>Nov 28 15:39:51 web-1 shop[77]: {text}\n");
        connection.write_all(message.as_bytes()).await?;
    }
    connection.shutdown().await?;
    for source in sources {
        let counted = syslog.counts_until(source, |[lines, ..]| lines >= MESSAGES.into()).await;
        counted.map_err(|error| error.context(relay.log()))?;
    }
    let producers = syslog.by_producer().await?;
    assert_eq!(producers.len(), 2);
    for (_, lines) in producers {
        assert_eq!(lines.iter().map(text).collect::<Vec<_>>(), texts);
        for line in &lines {
            assert_eq!(line.severity, Some(model::Severity::Error));
            assert_eq!(field(line, "hostname"), Some("web-1"));
            assert_eq!(field(line, "facility"), Some("local0"));
            let said = format!("{:?}", line.fields);
            assert!(!sources.iter().any(|source| said.contains(&source.token)), "{said}");
        }
    }
    Ok(())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

async fn rsyslog(driver: &str) -> Result<()> {
    let syslog = Syslog::start().await?;
    let other = syslog.another().await?;
    let (temporary, port) = (TempDir::new()?, free_port()?);
    let folder = temporary.path();
    let (authority, tls, tcp) = (syslog.world.folder.path().join("ca.pem"), syslog.tls, syslog.tcp);
    let (one, two) = (syslog.token(), &other.token);
    let configuration = format!(
        r#"global(workDirectory="{work}" defaultNetstreamDriverCAFile="{authority}")
module(load="imtcp")
input(type="imtcp" address="127.0.0.1" port="{port}")
template(name="structured" type="string" string="<%PRI%>1 %TIMESTAMP:::date-rfc3339% %HOSTNAME% %APP-NAME% %PROCID% %MSGID% [spillway@32473 token=\"{one}\"] %msg:2:$%")
template(name="tagged" type="string" string="<%PRI%>%TIMESTAMP:::date-rfc3339% %HOSTNAME% {two}:%msg%")
action(type="omfwd" target="127.0.0.1" port="{tls}" protocol="tcp" TCP_Framing="octet-counted"
    template="structured" StreamDriver="{driver}" StreamDriverMode="1" StreamDriverAuthMode="x509/name"
    StreamDriverPermittedPeers="localhost" action.resumeRetryCount="-1" action.resumeInterval="1")
action(type="omfwd" target="127.0.0.1" port="{tcp}" protocol="tcp" template="tagged"
    action.resumeRetryCount="-1" action.resumeInterval="1")
"#,
        work = folder.display(),
        authority = authority.display(),
    );
    std::fs::write(folder.join("conf"), configuration)?;
    let mut command = Command::new("rsyslogd");
    command.args(["-n", "-i"]).arg(folder.join("pid")).arg("-f").arg(folder.join("conf"));
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    check(&syslog, [&syslog.source, &other], command, folder, port).await
}

#[tokio::test]
async fn rsyslog_with_openssl_forwards_in_both_framings() -> Result<()> {
    rsyslog("ossl").await
}

#[tokio::test]
async fn rsyslog_with_gnutls_forwards_in_both_framings() -> Result<()> {
    rsyslog("gtls").await
}

#[tokio::test]
async fn syslog_ng_forwards_over_tls_and_tcp() -> Result<()> {
    let syslog = Syslog::start().await?;
    let other = syslog.another().await?;
    let (temporary, port) = (TempDir::new()?, free_port()?);
    let folder = temporary.path();
    let packages = syslog_ng::folder()?;
    syslog_ng::fetch(&packages).await?;
    let (authority, tls, tcp) = (syslog.world.folder.path().join("ca.pem"), syslog.tls, syslog.tcp);
    let (one, two) = (syslog.token(), &other.token);
    let configuration = format!(
        r#"@version: 3.35
options {{ stats-freq(0); time-reopen(1); use-dns(no); keep-hostname(yes); }};
source in {{ network(ip("127.0.0.1") port({port}) transport("tcp")); }};
rewrite token {{ set("{one}" value(".SDATA.spillway@32473.token")); }};
destination structured {{
    syslog("127.0.0.1" port({tls}) transport("tls") tls(ca-file("{authority}") peer-verify(required-trusted)));
}};
destination tagged {{
    network("127.0.0.1" port({tcp}) transport("tcp") template("<$PRI>$DATE $HOST {two}: $MSG\n"));
}};
log {{ source(in); destination(tagged); flags(flow-control); }};
log {{ source(in); rewrite(token); destination(structured); flags(flow-control); }};
"#,
        authority = authority.display(),
    );
    std::fs::write(folder.join("conf"), configuration)?;
    let command = syslog_ng::command(folder, &packages);
    check(&syslog, [&syslog.source, &other], command, folder, port).await
}
