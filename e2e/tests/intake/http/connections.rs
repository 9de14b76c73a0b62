//! TLS, slow clients, many clients.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::certificates::ServerCertificate;
use e2e::{process, wait};
use reqwest::Client;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use super::Http;
use crate::{DEADLINE, World, text};

#[tokio::test]
async fn lines_come_over_tls() -> Result<()> {
    let world = World::new().await?;
    let source = world.app_source().await?;
    let certificate = ServerCertificate::for_localhost()?;
    let [authority, chain, key] = certificate.write_to(world.folder.path())?;
    let paths = [chain.display().to_string(), key.display().to_string()];
    service::install_crypto_provider();
    let authority = std::fs::read(authority)?;
    let client = Client::builder()
        .timeout(DEADLINE)
        .no_proxy()
        .tls_certs_only([reqwest::Certificate::from_pem(&authority)?])
        .build()?;
    let tls = ["--intake-http-tls-certificate", &paths[0], "--intake-http-tls-key", &paths[1]];
    let http = Http::start_with(&world, &tls, client, "https://localhost").await?;
    http.post("/logs", &source, &[], "over TLS").await?.is(200)?;
    ensure!(text(&world.lines().await?[0]) == "over TLS");
    // And curl, as people try it.
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--fail", "--cacert"]).arg(world.folder.path().join("ca.pem"));
    curl.args(["--header", &format!("Authorization: Bearer {}", source.token)]);
    curl.args(["--header", "Content-Type: text/plain", "--data-binary", "from curl"]);
    curl.arg(format!("{}/logs", http.url));
    let said = process::succeed(curl, DEADLINE).await?.text();
    ensure!(said.contains("\"accepted\":1"), "{said}");
    Ok(())
}

#[tokio::test]
async fn plain_http_is_refused_where_others_can_listen() -> Result<()> {
    let world = World::new().await?;
    let anywhere = ["--intake-http-listen", "0.0.0.0:0"];
    let mut refused = world.intake(&anywhere)?;
    ensure!(!refused.ended(DEADLINE).await?.success());
    ensure!(refused.log().contains("--intake-allow-plain-http"), "{}", refused.log());
    let allowed = [anywhere[0], anywhere[1], "--intake-allow-plain-http"];
    let source = world.app_source().await?;
    let http = Http::start(&world, &allowed).await?;
    http.post("/logs", &source, &[], "x").await?.is(200)?;
    Ok(())
}

#[tokio::test]
async fn slow_clients_do_not_stay_and_do_not_keep_others_out() -> Result<()> {
    let world = World::new().await?;
    let source = world.app_source().await?;
    let mut http = Http::start(&world, &[]).await?;
    let address = http.url.trim_start_matches("http://").parse()?;
    let mut slow = Vec::new();
    for n in 0..400 {
        let mut stream = TcpSocket::new_v4()?.connect(address).await?;
        let head = if n % 2 == 0 {
            "POST /logs HTTP/1.1\r\nHost: x\r\n".to_owned()
        } else {
            let token = &source.token;
            format!(
                "POST /logs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 9\r\n\r\nx"
            )
        };
        stream.write_all(head.as_bytes()).await?;
        slow.push(stream);
    }
    let began = Instant::now();
    http.post("/logs", &source, &[], "quick").await?.is(200)?;
    ensure!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    for (n, stream) in slow.iter_mut().enumerate() {
        let mut answer = Vec::new();
        let read = timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
        read.with_context(|| format!("connection {n} stays"))??;
        let answer = String::from_utf8_lossy(&answer);
        ensure!(answer.starts_with("HTTP/1.1 408"), "{n}: {answer}");
    }
    ensure!(world.lines().await?.len() == 1);
    // The client keeps its connection; a stop does not wait for it.
    let began = Instant::now();
    ensure!(http.process.stop(Signal::TERM, DEADLINE).await?.success());
    ensure!(began.elapsed() < Duration::from_secs(5), "its stop took {:?}", began.elapsed());
    Ok(())
}

#[tokio::test]
async fn one_source_s_large_bodies_leave_room_for_others() -> Result<()> {
    let world = World::new().await?;
    let (greedy, other) = (world.app_source().await?, world.app_source().await?);
    let http = Http::start(&world, &[]).await?;
    let address = http.url.trim_start_matches("http://").parse()?;
    let head = format!(
        "POST /logs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 8388608\r\n\r\n",
        greedy.token
    );
    // Each stops short of its body's end.
    let piece = vec![b'x'; 7 << 20];
    let mut slow = Vec::new();
    for _ in 0..12 {
        let mut stream = TcpSocket::new_v4()?.connect(address).await?;
        stream.write_all(head.as_bytes()).await?;
        // What is refused need not be read to its end.
        drop(stream.write_all(&piece).await);
        slow.push(stream);
    }
    http.post("/logs", &other, &[], vec![b'y'; 8 << 20]).await?.is(200)?;
    let busy = http.post("/logs", &greedy, &[], vec![b'z'; 8 << 20]).await?.is(503)?;
    ensure!(busy.retry_after.is_some());
    let mut refused = 0;
    for stream in &mut slow {
        let mut status = [0; 12];
        let read = timeout(Duration::from_millis(300), stream.read_exact(&mut status)).await;
        refused += u32::from(read.is_ok() && &status == b"HTTP/1.1 503");
    }
    ensure!((4..=8).contains(&refused), "{refused} of 12 were refused");
    drop(slow);
    wait::until_true("room for the source", DEADLINE, async || {
        Ok(http.post("/logs", &greedy, &[], vec![b'z'; 8 << 20]).await?.status == 200)
    })
    .await
}
