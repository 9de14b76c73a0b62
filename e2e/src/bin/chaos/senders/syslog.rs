//! Lines over syslog with TLS, written once each, on one connection after the other: now to one intake, now to
//! another.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::evidence::{Connection, End};
use crate::lines::Way;
use crate::load::Load;
use crate::world::PAIRS;

const CONNECT: Duration = Duration::from_secs(3);
/// How long writing may be held up: longer than any fault.
const WRITE: Duration = Duration::from_mins(2);
/// How long the other side may take to say that it has seen the end.
const GOODBYE: Duration = Duration::from_secs(10);
const BETWEEN: Duration = Duration::from_millis(100);
const AT_ONCE: u64 = 10;
/// Right before a connection is reset.
const AT_THE_LAST: u64 = 400;

pub(super) async fn send(load: Arc<Load>, stop: watch::Receiver<bool>) -> Result<()> {
    let mut random = StdRng::seed_from_u64(load.seed() ^ u64::from_be_bytes(*b"syslog.."));
    let connector = TlsConnector::from(load.world.syslog_client()?);
    let mut number = 0;
    for attempt in 0_usize.. {
        if *stop.borrow() {
            break;
        }
        let intake = attempt % PAIRS;
        let stream = timeout(CONNECT, connect(&load, &connector, intake)).await;
        let Ok(Ok(stream)) = stream else {
            sleep(BETWEEN).await;
            continue;
        };
        load.senders.lock().connected = Some(Instant::now());
        let lasts = Duration::from_millis(random.random_range(1000..8000));
        let connection = talk(&load, stream, intake, number, lasts, &stop).await?;
        number += connection.lines();
        load.senders.lock().connections.push(connection);
    }
    Ok(())
}

async fn connect(
    load: &Load,
    connector: &TlsConnector,
    intake: usize,
) -> Result<TlsStream<TcpStream>> {
    let stream = TcpSocket::new_v4()?.connect(load.world.syslog_address(intake)?).await?;
    Ok(connector.connect(ServerName::try_from("localhost")?, stream).await?)
}

/// One connection from its first line, which has this number, to its end.
async fn talk(
    load: &Load,
    mut stream: TlsStream<TcpStream>,
    intake: usize,
    first: u64,
    lasts: Duration,
    stop: &watch::Receiver<bool>,
) -> Result<Connection> {
    let mut cuts = load.senders.cuts.subscribe();
    let mut connection =
        Connection { intake, first, written: Vec::new(), ended: 0.0, end: End::Broken };
    let end = Instant::now() + lasts;
    while Instant::now() < end && !*stop.borrow() {
        // Losing an arm loses nothing: nothing is to be read, and a sleep is none the worse for it.
        tokio::select! {
            changed = cuts.changed() => {
                changed?;
                connection.end = End::Cut;
                write(load, &mut stream, &mut connection, AT_THE_LAST).await;
                stream.get_ref().0.set_zero_linger()?;
                connection.ended = load.now();
                return Ok(connection);
            }
            // It says nothing until it ends.
            _ = stream.read_u8() => {
                connection.ended = load.now();
                return Ok(connection);
            }
            () = sleep(BETWEEN) => {}
        }
        if !write(load, &mut stream, &mut connection, AT_ONCE).await {
            connection.ended = load.now();
            return Ok(connection);
        }
    }
    let closed = timeout(WRITE, stream.shutdown()).await;
    connection.ended = load.now();
    if closed.is_ok_and(|closed| closed.is_ok()) {
        connection.end = End::Closed;
        // An intake that has seen the end closes, too.
        timeout(GOODBYE, stream.read_u8()).await.ok();
    }
    Ok(connection)
}

/// Writes some lines; false if the connection has ended.
async fn write(
    load: &Load,
    stream: &mut TlsStream<TcpStream>,
    connection: &mut Connection,
    count: u64,
) -> bool {
    let next = connection.first + connection.lines();
    let token = load.world.syslog_token();
    let mut text = String::new();
    for number in next..next + count {
        let element = format!("[spillway@32473 token=\"{token}\"]");
        let message = format!("<134>1 - host-1 web - - {element} {}", Way::Syslog.line(number));
        // Writing to a string cannot fail.
        write!(text, "{} {message}", message.len()).ok();
    }
    // Before it is written: of what fails, some may have arrived.
    connection.written.push((load.now(), count));
    let written = timeout(WRITE, async {
        stream.write_all(text.as_bytes()).await?;
        stream.flush().await
    });
    written.await.is_ok_and(|written| written.is_ok())
}
