//! The peers do what the other tests take for granted.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use e2e::certificates::ServerCertificate;
use e2e::docker::{TestImage, docker};
use e2e::postgres::{self, TestCluster, TestDatabase};
use e2e::rsyslog::{Rsyslog, TlsDriver};
use e2e::terminal::Terminal;
use e2e::tls_sink::{Ending, Plan, TlsSink};
use e2e::{process, wait};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const DEADLINE: Duration = Duration::from_secs(20);

async fn dial(port: u16, authority: &str) -> Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpSocket::new_v4()?.connect(([127, 0, 0, 1], port).into()).await?;
    let connector = TlsConnector::from(std::sync::Arc::new(config));
    Ok(connector.connect(ServerName::try_from("localhost")?, socket).await?)
}

fn framed(message: &[u8]) -> Vec<u8> {
    [format!("{} ", message.len()).as_bytes(), message].concat()
}

#[tokio::test]
async fn test_database_has_the_schema_and_goes_away() -> Result<()> {
    let database = TestDatabase::create().await?;
    for url in [database.api_url()?, database.edge_url()?, database.worker_url()?] {
        postgres::connect(&url).await?.batch_execute("select id from environments").await?;
    }
    let Some(maintenance) = process::environment_variable("SPILLWAY_TEST_DATABASE_URL") else {
        return Ok(());
    };
    let client = postgres::connect(&maintenance).await?;
    let name: String =
        database.connect().await?.query_one("select current_database()", &[]).await?.get(0);
    drop(database);
    let left = client.query("select from pg_database where datname = $1", &[&name]).await?;
    assert!(left.is_empty());
    Ok(())
}

#[tokio::test]
async fn cluster_survives_a_stop_a_crash_and_a_freeze() -> Result<()> {
    let mut database = TestDatabase::of_own_cluster(TestCluster::start().await?).await?;
    let client = database.connect().await?;
    client.batch_execute("create table kept (n int); insert into kept values (1)").await?;
    let cluster = database.cluster().context("it has its own")?;
    cluster.freeze()?;
    let query = client.query_one("select n from kept", &[]);
    assert!(tokio::time::timeout(Duration::from_millis(300), query).await.is_err());
    cluster.unfreeze()?;
    cluster.crash().await?;
    cluster.start_again().await?;
    cluster.stop().await?;
    cluster.start_again().await?;
    let row = database.connect().await?.query_one("select n from kept", &[]).await?;
    assert_eq!(row.get::<_, i32>(0), 1);
    Ok(())
}

#[tokio::test]
async fn rsyslog_keeps_messages_as_sent() -> Result<()> {
    for driver in [TlsDriver::Gnutls, TlsDriver::Openssl] {
        let rsyslog = Rsyslog::start(driver).await?;
        let head = b"<14>1 2026-01-02T03:04:05.678901234Z host app 7 id [s@1 user_email=\"a@b\"] ";
        let long = vec![b'x'; 1 << 20];
        let bodies: [&[u8]; 4] = [b"plain", b"tab\there", b"\xff\xfe not UTF-8 \x1b[31m", &long];
        let messages = bodies.map(|body| [head.as_slice(), body].concat());
        let mut connection = dial(rsyslog.port(), rsyslog.authority()).await?;
        connection.write_all(&messages.iter().flat_map(|m| framed(m)).collect::<Vec<u8>>()).await?;
        connection.shutdown().await?;
        wait::until_true("all messages", DEADLINE, async || Ok(rsyslog.messages().len() >= 4))
            .await?;
        for (kept, sent) in rsyslog.messages().iter().zip(&messages) {
            let escaped = |bytes: &[u8]| {
                bytes.iter().take(150).copied().collect::<Vec<_>>().escape_ascii().to_string()
            };
            assert!(kept == sent, "{driver:?} made {} of {}", escaped(kept), escaped(sent));
        }
    }
    Ok(())
}

#[tokio::test]
async fn stopped_rsyslog_comes_back_on_its_port() -> Result<()> {
    let mut rsyslog = Rsyslog::start(TlsDriver::Openssl).await?;
    rsyslog.stop().await?;
    assert!(dial(rsyslog.port(), rsyslog.authority()).await.is_err());
    rsyslog.start_again().await?;
    dial(rsyslog.port(), rsyslog.authority()).await?;
    Ok(())
}

#[tokio::test]
async fn sink_ends_connections_as_planned() -> Result<()> {
    let sink = TlsSink::start_with(&ServerCertificate::for_localhost()?, 0).await?;
    let endings = [Ending::CloseNotify, Ending::Fin, Ending::Reset];
    sink.plan(&endings.map(|ending| Plan { messages: 1, ending }));
    for ending in endings {
        let mut connection = dial(sink.address().port(), sink.authority()).await?;
        connection.write_all(&framed(b"read")).await?;
        let end = connection.read(&mut [0]).await.map_err(|error| error.kind());
        match ending {
            Ending::CloseNotify => assert_eq!(end, Ok(0)),
            Ending::Fin => assert_eq!(end, Err(std::io::ErrorKind::UnexpectedEof)),
            Ending::Reset => assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset)),
            Ending::Stall => {}
        }
    }
    let mut connection = dial(sink.address().port(), sink.authority()).await?;
    connection.write_all(&framed(b"later")).await?;
    wait::until_true("the last message", DEADLINE, async || Ok(sink.messages().len() == 4)).await?;
    let read = Bytes::from_static(b"read");
    assert_eq!(sink.messages(), [read.clone(), read.clone(), read, Bytes::from_static(b"later")]);
    assert_eq!(sink.connections(), 4);
    Ok(())
}

#[tokio::test]
async fn terminal_has_a_size_and_passes_keys() -> Result<()> {
    let mut command = Command::new("sh");
    command.args(["-c", "stty size; read word; trap 'stty size; exit 3' WINCH; echo got-$word; while :; do sleep 0.1; done"]);
    let mut terminal = Terminal::start(command, 100, 30)?;
    terminal.wait_for("30 100", 1, DEADLINE).await?;
    terminal.type_in("hello\n")?;
    terminal.wait_for("got-hello", 1, DEADLINE).await?;
    terminal.resize(90, 20)?;
    assert_eq!(terminal.ended(DEADLINE).await?.code(), Some(3));
    terminal.wait_for("20 90", 1, DEADLINE).await?;
    Ok(())
}

#[tokio::test]
async fn images_have_what_their_kind_says() -> Result<()> {
    let run = ["run", "--rm", "--network=none"];
    let busybox = TestImage::Busybox.ensure().await?;
    let shell = [&run[..], &[&busybox, "sh", "-c", "id -u; seq 2 | wc -l"]].concat();
    assert_eq!(process::succeed(docker(&shell), DEADLINE).await?.text(), "0\n2\n");
    let unprivileged = TestImage::Unprivileged.ensure().await?;
    let who =
        [&run[..], &[&unprivileged, "sh", "-c", "id -u; pwd; echo > here && echo wrote"]].concat();
    assert_eq!(process::succeed(docker(&who), DEADLINE).await?.text(), "1000\n/home/app\nwrote\n");
    let shellless = TestImage::Shellless.ensure().await?;
    let cat = [&run[..], &[&shellless, "cat", "/etc/group"]].concat();
    assert!(process::succeed(docker(&cat), DEADLINE).await?.text().contains("app:x:1000"));
    let shell = [&run[..], &[&shellless, "sh"]].concat();
    assert!(!process::finish(docker(&shell), DEADLINE).await?.status.success());
    Ok(())
}
