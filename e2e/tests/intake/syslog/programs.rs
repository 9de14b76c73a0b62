//! `logger`, PostgreSQL, nginx.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::process::{self, Process};
use e2e::{postgres, wait};
use rustix::process::{Signal, getegid, geteuid};
use tokio::net::UnixStream;
use tokio::process::Command;

use super::{Syslog, field};
use crate::{DEADLINE, text};

#[tokio::test]
async fn logger_in_all_its_ways() -> Result<()> {
    let syslog = Syslog::start().await?;
    let token = syslog.token();
    let (tcp, udp) = (syslog.tcp.to_string(), syslog.udp.to_string());
    let unix = syslog.unix().display().to_string();
    let parameter = format!("token=\"{token}\"");
    let over_tcp = ["-n", "127.0.0.1", "-T", "-P", &tcp];
    let over_udp = ["-n", "127.0.0.1", "-d", "-P", &udp];
    let structured = ["--sd-id", "spillway@32473", "--sd-param", &parameter, "-t", "app"];
    let tagged = ["-t", token];
    let ways: [(&[&str], &[&str]); 8] = [
        (&over_tcp, &structured),
        (&over_tcp, &tagged),
        (&over_tcp, &["--rfc3164", "-t", token]),
        (&over_tcp, &["--octet-count", "-t", token, "-i"]),
        (&over_udp, &structured),
        (&over_udp, &["--rfc3164", "-t", token, "--id=77"]),
        (&["-u", &unix], &tagged),
        (&["-u", &unix], &["-t", token, "-i"]),
    ];
    for (number, (transport, who)) in ways.iter().enumerate() {
        let mut logger = Command::new("logger");
        logger.args(*transport).args(*who).args(["-p", "local3.warning"]);
        logger.arg(format!("message {number}"));
        process::succeed(logger, DEADLINE).await?;
        let lines = syslog.world.lines_until(number + 1).await?;
        let line = lines.last().context("a line")?;
        assert_eq!(text(line), format!("message {number}"), "{transport:?} {who:?}");
        assert_eq!(line.severity, Some(model::Severity::Warning));
        assert_eq!(field(line, "facility"), Some("local3"));
        assert!(line.sent_at.is_some());
        let is_structured = who.contains(&"app");
        assert_eq!(field(line, "app_name"), is_structured.then_some("app"));
        assert!(!line.fields.iter().any(|(_, value)| value.contains(token)), "{:?}", line.fields);
    }
    assert_eq!(
        syslog.counts_until(&syslog.source, |[lines, ..]| lines == 8).await?,
        [8, 0, 0, 0, 0]
    );
    Ok(())
}

/// A `/dev` of its own, in which `/dev/log` is the intake's socket.
const OWN_DEV: &str = r#"set -e
mount -t tmpfs tmpfs "$1"
for file in null zero full random urandom tty; do
    touch "$1/$file"
    mount --bind "/dev/$file" "$1/$file"
done
mkdir -m 1777 "$1/shm"
ln -s "$2" "$1/log"
mount --rbind "$1" /dev
shift 2
exec "$@""#;

#[tokio::test]
async fn postgresql_logs_to_the_machines_socket() -> Result<()> {
    let syslog = Syslog::start().await?;
    let source = syslog.world.database_source().await?;
    let folder = tempfile::Builder::new().prefix("spillway-syslog-pg-").tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    for open in [folder.path(), syslog.world.folder.path()] {
        std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o755))?;
    }
    std::fs::create_dir(folder.path().join("dev"))?;
    std::fs::create_dir(folder.path().join("run"))?;
    let (user, group) = account()?;
    std::os::unix::fs::chown(folder.path().join("run"), Some(user), Some(group))?;
    let (user, group) = (format!("--reuid={user}"), format!("--regid={group}"));
    let postgres = |program: &str, arguments: &[&str]| -> Result<Vec<String>> {
        let versions = std::fs::read_dir("/usr/lib/postgresql")?;
        let newest = versions.filter_map(|entry| Some(entry.ok()?.path())).max();
        let program = newest.context("PostgreSQL")?.join("bin").join(program);
        let user = ["setpriv", &user, &group, "--clear-groups"];
        let program = program.display().to_string();
        Ok([&user[..], &[program.as_str()], arguments]
            .concat()
            .iter()
            .map(|&a| a.to_owned())
            .collect())
    };
    let (data, run) = (path("run/data"), path("run"));
    let as_root = if geteuid().is_root() { &[][..] } else { &["sudo", "-n"][..] };
    let initdb = postgres("initdb", &["-D", &data, "--auth=trust", "--no-sync", "-U", "postgres"])?;
    let mut command = Command::new("env");
    command.args(as_root).args(&initdb).current_dir(folder.path());
    process::succeed(command, DEADLINE).await?;
    let ident = format!("syslog_ident={}", source.token);
    let sockets = format!("unix_socket_directories={run}");
    let settings = ["log_destination=syslog", &ident, &sockets, "listen_addresses=", "fsync=off"];
    let more = ["log_statement=all", "dynamic_shared_memory_type=mmap"];
    let settings = settings.iter().chain(&more).flat_map(|setting| ["-c", setting]);
    let arguments: Vec<&str> = ["-D", &data].into_iter().chain(settings).collect();
    let mut command = Command::new("env");
    command.args(as_root).args(["unshare", "--mount", "sh", "-c", OWN_DEV, "sh", &path("dev")]);
    command.arg(syslog.unix()).args(postgres("postgres", &arguments)?).current_dir(folder.path());
    let mut server = Process::start(command, &folder.path().join("server.log"))?;
    let socket = folder.path().join("run/.s.PGSQL.5432");
    wait::until_true("PostgreSQL to listen", DEADLINE, async || {
        server.check_running()?;
        Ok(UnixStream::connect(&socket).await.is_ok())
    })
    .await?;
    let url = format!("postgres://postgres@{}/postgres", run.replace('/', "%2F"));
    let client =
        wait::until("PostgreSQL", DEADLINE, async || Ok(postgres::connect(&url).await.ok()))
            .await?;
    client.batch_execute("select 'a statement',\n\t'of two lines'").await?;
    wait::until_true("the statement in the stream", DEADLINE, async || {
        let all: String = syslog.world.lines().await?.iter().map(|l| text(l) + "\n").collect();
        Ok(all.contains("select 'a statement',") && all.contains("'of two lines'"))
    })
    .await?;
    server.stop(Signal::INT, DEADLINE).await?;
    wait::until_true("the shutdown in the stream", DEADLINE, async || {
        let lines = syslog.world.lines().await?;
        Ok(lines.iter().any(|line| text(line).contains("database system is shut down")))
    })
    .await?;
    let lines = syslog.world.lines().await?;
    assert!(!lines.iter().any(|line| text(line).contains(&source.token)));
    let [_, refused, malformed, dropped, _] = syslog.counts(&source).await?;
    assert_eq!((refused, malformed, dropped), (0, 0, 0));
    Ok(())
}

/// PostgreSQL does not run as root.
fn account() -> Result<(u32, u32)> {
    if !geteuid().is_root() {
        return Ok((geteuid().as_raw(), getegid().as_raw()));
    }
    let users = std::fs::read_to_string("/etc/passwd")?;
    let user = users.lines().find_map(|line| line.strip_prefix("postgres:"));
    let mut ids = user.context("the user postgres")?.split(':').skip(1).map(str::parse);
    Ok((ids.next().context("a user id")??, ids.next().context("a group id")??))
}

#[tokio::test]
async fn nginx_logs_requests_and_errors() -> Result<()> {
    let syslog = Syslog::start().await?;
    let folder = tempfile::Builder::new().prefix("spillway-nginx-").tempdir()?;
    let path = folder.path().display();
    let (token, udp, unix) = (syslog.token(), syslog.udp, syslog.unix());
    let configuration = format!(
        "daemon off;
         pid {path}/pid;
         error_log syslog:server=unix:{unix},facility=local5,tag={token} info;
         events {{}}
         http {{
             access_log syslog:server=127.0.0.1:{udp},severity=notice,tag={token};
             client_body_temp_path {path}/body;
             proxy_temp_path {path}/proxy;
             fastcgi_temp_path {path}/fastcgi;
             uwsgi_temp_path {path}/uwsgi;
             scgi_temp_path {path}/scgi;
             server {{ listen unix:{path}/http; location / {{ root {path}/none; }} }}
         }}",
        unix = unix.display(),
    );
    std::fs::write(folder.path().join("conf"), configuration)?;
    let mut command = Command::new("nginx");
    command.args(["-e", "stderr", "-c"]).arg(folder.path().join("conf"));
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let mut nginx = Process::start(command, &folder.path().join("log"))?;
    let socket = folder.path().join("http");
    let mut connection = wait::until("nginx to listen", DEADLINE, async || {
        nginx.check_running()?;
        Ok(UnixStream::connect(&socket).await.ok())
    })
    .await?;
    tokio::io::AsyncWriteExt::write_all(
        &mut connection,
        b"GET /what HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    )
    .await?;
    wait::until_true("both lines in the stream", DEADLINE, async || {
        let lines = syslog.world.lines().await?;
        let has = |severity, facility, part: &str| {
            lines.iter().any(|line| {
                line.severity == Some(severity)
                    && field(line, "facility") == Some(facility)
                    && text(line).contains(part)
            })
        };
        Ok(has(model::Severity::Notice, "local7", "\"GET /what HTTP/1.1\" 404")
            && has(model::Severity::Error, "local5", "open()"))
    })
    .await
    .with_context(|| nginx.log())?;
    nginx.stop(Signal::TERM, Duration::from_secs(20)).await?;
    let lines = syslog.world.lines().await?;
    assert!(!lines.iter().any(|line| format!("{line:?}").contains(token)));
    Ok(())
}
