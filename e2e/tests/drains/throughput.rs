//! How fast one drain is; run by hand: `cargo nextest run --release -p e2e --run-ignored only`.
//!
//! The receiver only decrypts, so that it is not what is measured.

use std::time::Instant;

use anyhow::Result;
use e2e::certificates::ServerCertificate;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::World;

fn cpu_seconds(pid: i32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
    // utime and stime (proc(5)), after the name and its parenthesis.
    Ok((ticks(12).unwrap_or_default() + ticks(13).unwrap_or_default()) / 100.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure_syslog_over_tls() -> Result<()> {
    let world = World::new().await?;
    let certificate = ServerCertificate::for_localhost()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let acceptor = TlsAcceptor::from(certificate.server_config()?);
    let mut sink = JoinSet::new();
    sink.spawn(async move {
        let mut forgotten = vec![0; 1 << 16];
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            while matches!(stream.read(&mut forgotten).await, Ok(1..)) {}
        }
    });
    let drain = world.syslog(port, &certificate.authority).await?;
    let mut session = world.session();
    let blocks = 500;
    for block in 0..blocks {
        world.append(&[session.numbered(block * 2000..block * 2000 + 2000)]).await?;
    }
    let started = Instant::now();
    let worker = world.worker()?;
    world.state_until(drain, "all", |state| state.delivered >= 1_000_000).await?;
    let elapsed = started.elapsed().as_secs_f64();
    let cpu = cpu_seconds(worker.pid()?.as_raw_nonzero().get())?;
    println!("{:.0} lines/s, {cpu:.2} CPU s per million", 1e6 / elapsed);
    Ok(())
}
