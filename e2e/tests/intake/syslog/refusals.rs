use std::time::Duration;

use anyhow::Result;
use e2e::process;
use e2e::wait;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::{sleep, timeout};

use super::{Syslog, field};
use crate::{DEADLINE, World, text, token};

#[tokio::test]
async fn a_wrong_token_is_refused_and_counted() -> Result<()> {
    let syslog = Syslog::start().await?;
    let mut wrong = syslog.token().to_owned();
    let last = if wrong.pop() == Some('a') { 'b' } else { 'a' };
    wrong.push(last);
    let right = syslog.message("right");
    let messages = [
        "<13>1 - h app - - - no token".to_owned(),
        format!("<13>1 - h {wrong} - - - wrong"),
        format!("<13>1 - h {} - - - of nobody", token()),
        right.clone(),
        format!("<13>1 - h {wrong} - - - wrong again"),
        right,
    ];
    syslog.send(messages.join("\n").as_bytes()).await?;
    assert_eq!(syslog.texts(2).await?, ["right", "right"]);
    assert_eq!(syslog.counts_until(&syslog.source, |c| c[0] == 2).await?, [2, 2, 0, 0, 0]);
    wait::until_true("a word about the others", DEADLINE, async || {
        Ok(syslog.intake.log().contains("senders were refused"))
    })
    .await
}

#[tokio::test]
async fn a_connection_whose_messages_are_all_refused_is_closed() -> Result<()> {
    let syslog = Syslog::start().await?;
    let mut connection = syslog.connect().await?;
    connection.write_all("<13>1 - h app - - - no token\n".repeat(99).as_bytes()).await?;
    connection.write_all(format!("{}\n", syslog.message("right")).as_bytes()).await?;
    syslog.texts(1).await?;
    connection.write_all("<13>1 - h app - - - no token\n".repeat(100).as_bytes()).await?;
    let end = timeout(DEADLINE, connection.read(&mut [0; 1])).await?;
    assert!(matches!(end, Ok(0) | Err(_)));
    Ok(())
}

#[tokio::test]
async fn a_source_that_is_disabled_or_rotated_stops_within_seconds() -> Result<()> {
    let syslog = Syslog::start().await?;
    let mut connection = syslog.connect().await?;
    let other = syslog.another().await?;
    for (source, change) in [
        (&syslog.source, "disabled_at = now()"),
        (&other, "token_hash = sha256('x'), previous_token_key = null"),
    ] {
        let message = format!("<13>1 - h {} - - - x\n", source.token);
        let send = async |connection: &mut tokio::net::TcpStream| -> Result<()> {
            connection.write_all(message.as_bytes()).await?;
            sleep(Duration::from_millis(50)).await;
            Ok(())
        };
        send(&mut connection).await?;
        syslog.counts_until(source, |[lines, ..]| lines >= 1).await?;
        syslog.change(source.id, change).await?;
        let changed = std::time::Instant::now();
        wait::until_true("a refusal", Duration::from_secs(5), async || {
            send(&mut connection).await?;
            Ok(syslog.counts(source).await?[1] > 0)
        })
        .await?;
        println!("refused after {:?}", changed.elapsed());
        let lines = syslog.world.lines().await?.len();
        send(&mut connection).await?;
        sleep(Duration::from_millis(300)).await;
        assert_eq!(syslog.world.lines().await?.len(), lines);
    }
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_read_passes_as_it_is_and_is_counted() -> Result<()> {
    let syslog = Syslog::start().await?;
    let token = syslog.token();
    // Neither a time nor a host; and bytes that are no text.
    let mut bytes = format!("<11>{token}: - what is this\n").into_bytes();
    bytes.extend([b"<11>".as_slice(), token.as_bytes(), b": \xff\xfe\n"].concat());
    syslog.send(&bytes).await?;
    let lines = syslog.world.lines_until(2).await?;
    assert_eq!(text(&lines[0]), "- what is this");
    assert_eq!(lines[0].severity, Some(model::Severity::Error));
    assert_eq!(field(&lines[0], "facility"), Some("user"));
    assert_eq!(lines[1].text, b"\xff\xfe"[..]);
    assert_eq!(syslog.counts_until(&syslog.source, |c| c[0] == 2).await?, [2, 0, 2, 0, 0]);
    Ok(())
}

#[tokio::test]
async fn more_connections_than_are_allowed_are_closed() -> Result<()> {
    let limits =
        ["--intake-syslog-connections", "2", "--intake-syslog-connections-of-address", "2"];
    let mut syslog = Syslog::start_with(&limits).await?;
    let mut first = syslog.connect().await?;
    let second = syslog.connect().await?;
    let mut third = syslog.connect().await?;
    let end = timeout(DEADLINE, third.read(&mut [0; 1])).await?;
    assert!(matches!(end, Ok(0) | Err(_)));
    first.write_all(format!("{}\n", syslog.message("first")).as_bytes()).await?;
    syslog.texts(1).await?;
    drop(second);
    wait::until_true("room for another", DEADLINE, async || {
        let mut another = syslog.connect().await?;
        another.write_all(format!("{}\n", syslog.message("another")).as_bytes()).await.ok();
        sleep(Duration::from_millis(100)).await;
        Ok(syslog.world.lines().await?.len() > 1)
    })
    .await?;
    syslog.intake.stop(Signal::TERM, DEADLINE).await?;
    Ok(())
}

#[tokio::test]
async fn one_address_has_half_of_the_connections() -> Result<()> {
    let mut syslog = Syslog::start_with(&["--intake-syslog-connections", "4"]).await?;
    let _idle = [syslog.connect().await?, syslog.connect().await?];
    let mut third = syslog.connect().await?;
    let end = timeout(DEADLINE, third.read(&mut [0; 1])).await?;
    assert!(matches!(end, Ok(0) | Err(_)));
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 2], 0).into())?;
    let mut other = socket.connect(([127, 0, 0, 1], syslog.tcp).into()).await?;
    other.write_all(format!("{}\n", syslog.message("another's")).as_bytes()).await?;
    assert_eq!(syslog.texts(1).await?, ["another's"]);
    syslog.intake.stop(Signal::TERM, DEADLINE).await?;
    Ok(())
}

#[tokio::test]
async fn plain_tcp_for_other_machines_has_to_be_allowed() -> Result<()> {
    let world = World::new().await?;
    let address = ["--intake-syslog-tcp-listen", "0.0.0.0:0"];
    let mut intake = world.intake(&address)?;
    assert!(!intake.ended(DEADLINE).await?.success());
    assert!(intake.log().contains("--intake-syslog-allow-plain-tcp"), "{}", intake.log());
    let [flag, address] = address;
    let intake = world.intake(&[flag, address, "--intake-syslog-allow-plain-tcp"])?;
    wait::until_true("the intake to listen", DEADLINE, async || {
        Ok(intake.log().contains("listening"))
    })
    .await?;
    let mut help = tokio::process::Command::new(e2e::platform::binary("spillway-intake")?);
    help.arg("--help");
    let help = process::succeed(help, DEADLINE).await?.text();
    assert!(help.contains("SPILLWAY_INTAKE_SYSLOG_TLS_LISTEN"));
    Ok(())
}
