//! Receivers of syslog that close, stall and fall silent: nothing is lost, and little repeated.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use e2e::certificates::ServerCertificate;
use e2e::rsyslog::{Rsyslog, TlsDriver};
use e2e::tls_sink::{Ending, Plan, TlsSink};
use e2e::wait;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;

use crate::silence::FarNetwork;
use crate::{DEADLINE, Delivered, Session, World};

/// Bytes for each end of a connection, half of the redelivery window: until a receiver's buffer is
/// known, which takes a connection's first megabytes, all of the window may be repeated.
const MOST_REPEATED: usize = 4 << 20;
/// Enough that each of nine connections carries far more than the redelivery window holds.
const MESSAGES: usize = if cfg!(debug_assertions) { 250_000 } else { 500_000 };

/// Messages in order of arrival, looked at without the cost of parsing each.
#[derive(Debug, Default)]
struct Tally {
    distinct: usize,
    repeated: usize,
    repeated_bytes: usize,
}

fn tally(messages: &[Bytes]) -> Tally {
    let mut seen = HashSet::new();
    let mut tally = Tally::default();
    for message in messages {
        let text = String::from_utf8_lossy(message);
        let id = text.split_once("id=\"").and_then(|(_, rest)| rest.split_once('"'));
        if seen.insert(id.map(|(id, _)| id.to_owned())) {
            tally.distinct += 1;
        } else {
            tally.repeated += 1;
            tally.repeated_bytes += message.len();
        }
    }
    tally
}

async fn append_lines(world: &World, session: &mut Session, lines: usize) -> Result<()> {
    for from in (0..lines).step_by(2000) {
        world.append(&[session.numbered(from..(from + 2000).min(lines))]).await?;
    }
    Ok(())
}

async fn all_distinct(world: &World, sink: &TlsSink, wanted: usize) -> Result<Tally> {
    let mut last = 0;
    let done = wait::until("every line", Duration::from_secs(100), async || {
        // Looking through all of them while more come would starve the sink.
        sleep(Duration::from_millis(300)).await;
        let count = sink.count();
        if std::mem::replace(&mut last, count) != count || count < wanted {
            return Ok(None);
        }
        let tally = tally(&sink.messages());
        Ok((tally.distinct >= wanted).then_some(tally))
    });
    done.await.with_context(|| {
        format!("{:?} of {wanted}; worker:\n{}", tally(&sink.messages()), world.worker_log())
    })
}

/// A receiver that ends a connection eight times gets every line.
async fn closes(ending: Ending, rest: Duration, receive_buffer: Option<u32>) -> Result<Tally> {
    let world = World::new().await?;
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let sink = TlsSink::start_on(&ServerCertificate::for_localhost()?, socket.listen(16)?)?;
    sink.rest(rest);
    sink.plan(&[Plan { messages: MESSAGES / 9, ending }; 8]);
    let mut session = world.session();
    let drain = world.syslog(sink.address().port(), sink.authority()).await?;
    append_lines(&world, &mut session, MESSAGES).await?;
    let _worker = world.worker()?;
    let tally = all_distinct(&world, &sink, MESSAGES).await?;
    eprintln!("{ending:?}, rest {rest:?}, buffer {receive_buffer:?}: {tally:?}");
    ensure!(tally.distinct == MESSAGES, "{tally:?}");
    // Whatever was repeated, the lines came in order.
    let mut reached = 0;
    for message in sink.messages() {
        let line = Delivered::of_syslog(&message)?;
        let (offset, length): (u64, u64) =
            (line.field("offset").parse()?, line.field("length").parse()?);
        ensure!(offset <= reached, "a gap before {offset}, after {reached}");
        reached = reached.max(offset + length);
    }
    world.state_until(drain, "every line to count once", |state| state.delivered >= 1).await?;
    Ok(tally)
}

#[tokio::test]
async fn eight_closes_with_close_notify_lose_nothing_and_repeat_little() -> Result<()> {
    let tally = closes(Ending::CloseNotify, Duration::ZERO, None).await?;
    ensure!(tally.repeated_bytes <= 8 * MOST_REPEATED, "{tally:?}");
    Ok(())
}

#[tokio::test]
async fn eight_closes_with_fin_lose_nothing_and_repeat_little() -> Result<()> {
    let tally = closes(Ending::Fin, Duration::ZERO, None).await?;
    ensure!(tally.repeated_bytes <= 8 * MOST_REPEATED, "{tally:?}");
    Ok(())
}

#[tokio::test]
async fn eight_resets_lose_nothing_and_repeat_little() -> Result<()> {
    let tally = closes(Ending::Reset, Duration::ZERO, None).await?;
    ensure!(tally.repeated_bytes <= 8 * MOST_REPEATED, "{tally:?}");
    Ok(())
}

/// Its kernel holds megabytes that it has acknowledged and the program never reads.
#[tokio::test]
async fn resets_of_a_slow_reader_with_a_large_buffer_lose_nothing() -> Result<()> {
    closes(Ending::Reset, Duration::from_millis(2), Some(4 << 20)).await?;
    Ok(())
}

#[tokio::test]
async fn a_receiver_that_closes_after_every_5_messages_gets_60_of_60() -> Result<()> {
    async fn sixty(ending: Ending, slow: bool) -> Result<()> {
        let world = World::new().await?;
        let sink = TlsSink::start().await?;
        sink.plan(&[Plan { messages: 5, ending }; 1000]);
        world.syslog(sink.address().port(), sink.authority()).await?;
        let _worker = world.worker()?;
        let mut session = world.session();
        if slow {
            for n in 0..60 {
                world.append(&[session.numbered(n..n + 1)]).await?;
                sleep(Duration::from_millis(150)).await;
            }
        } else {
            world.append(&[session.numbered(0..60)]).await?;
        }
        let tally = all_distinct(&world, &sink, 60).await?;
        println!("{ending:?}, slow {slow}: {tally:?}, {} connections", sink.connections());
        let lines: Result<Vec<_>> =
            sink.messages().iter().map(|message| Delivered::of_syslog(message)).collect();
        session.check(&lines?)
    }
    tokio::try_join!(
        sixty(Ending::CloseNotify, true),
        sixty(Ending::Fin, true),
        sixty(Ending::Reset, true),
        sixty(Ending::CloseNotify, false),
        sixty(Ending::Fin, false),
        sixty(Ending::Reset, false),
    )?;
    Ok(())
}

#[tokio::test]
async fn an_rsyslog_that_is_restarted_in_mid_stream_gets_every_line() -> Result<()> {
    let world = World::new().await?;
    let mut rsyslog = Rsyslog::start(TlsDriver::Openssl).await?;
    world.syslog(rsyslog.port(), rsyslog.authority()).await?;
    let mut session = world.session();
    let _worker = world.worker()?;
    for round in 0..3 {
        for block in 0..10 {
            let from = (round * 10 + block) * 1000;
            world.append(&[session.numbered(from..from + 1000)]).await?;
        }
        let some = round * 10_000 + 2000;
        wait::until_true("some lines", DEADLINE, async || Ok(rsyslog.messages().len() > some))
            .await?;
        rsyslog.stop().await?;
        rsyslog.start_again().await?;
    }
    let read = || -> Result<Vec<Delivered>> {
        rsyslog.messages().iter().map(|message| Delivered::of_syslog(message)).collect()
    };
    let lines = session.all_delivered(|| rsyslog.messages().len(), read).await?;
    session.check(&lines)
}

#[tokio::test]
async fn a_receiver_that_returns_gets_its_first_line_within_5_s() -> Result<()> {
    let world = World::new().await?;
    let certificate = ServerCertificate::for_localhost()?;
    let port = TlsSink::start_with(&certificate, 0).await?.address().port();
    let drain = world.syslog(port, &certificate.authority).await?;
    let _worker = world.worker()?;
    let mut session = world.session();
    world.append(&[session.numbered(0..100)]).await?;
    world.state_until(drain, "the drain to fail", |state| state.failing).await?;
    // Long enough for the back-off to have grown as far as it grows.
    sleep(Duration::from_secs(15)).await;
    let sink = TlsSink::start_with(&certificate, port).await?;
    let returned = Instant::now();
    wait::until_true("a line", DEADLINE, async || Ok(sink.count() > 0)).await?;
    println!("first line after {:?}", returned.elapsed());
    ensure!(returned.elapsed() < Duration::from_secs(5), "{:?}", returned.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_receiver_that_falls_silent_is_noticed_and_its_lines_go_over_a_new_connection()
-> Result<()> {
    let network = FarNetwork::new().await?;
    let world = World::new().await?;
    let certificate =
        e2e::certificates::CertificateAuthority::new()?.issue(&[&network.address().to_string()])?;
    let sink = TlsSink::start_on(&certificate, network.listen()?)?;
    let destination = serde_json::json!({
        "host": network.address().to_string(), "port": sink.address().port(),
        "ca_certificates": sink.authority(),
    });
    let drain = world.drain("syslog_tls_tcp", destination, serde_json::json!({})).await?;
    let _worker = world.worker_with(&["--drain-allow-network", "10.0.0.0/8"])?;
    let mut session = world.session();
    world.append(&[session.numbered(0..10)]).await?;
    world.state_until(drain, "the first lines", |state| state.delivered == 10).await?;

    network.drop_from(sink.peers()[0].port()).await?;
    let silent = Instant::now();
    world.append(&[session.numbered(10..20)]).await?;
    wait::until_true("the lines after them", DEADLINE, async || Ok(sink.count() >= 20)).await?;
    println!("noticed, and delivered, after {:?}", silent.elapsed());
    ensure!(silent.elapsed() < Duration::from_secs(30), "{:?}", silent.elapsed());
    ensure!(sink.connections() == 2);
    let lines: Result<Vec<_>> =
        sink.messages().iter().map(|message| Delivered::of_syslog(message)).collect();
    session.check(&lines?)
}

#[tokio::test]
async fn a_receiver_that_never_stops_talking_is_not_listened_to_for_ever() -> Result<()> {
    let world = World::new().await?;
    let certificate = ServerCertificate::for_localhost()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let acceptor = TlsAcceptor::from(certificate.server_config()?);
    let talking = async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            while stream.write_all(&[b'x'; 16 * 1024]).await.is_ok() {}
        }
    };
    let drain = world.syslog(port, &certificate.authority).await?;
    let _worker = world.worker()?;
    let mut session = world.session();
    world.append(&[session.numbered(0..10)]).await?;
    let failing = world.state_until(drain, "the failure", |state| state.failing);
    tokio::select! {
        () = talking => anyhow::bail!("nobody connects any more"),
        state = failing => assert!(state?.error.contains("sends data all the time")),
    }
    Ok(())
}
