//! What is delivered: tags, whole lines, exact bytes.

use anyhow::Result;
use e2e::https_receiver::HttpsReceiver;
use e2e::rsyslog::{Rsyslog, TlsDriver};
use e2e::wait;
use model::{Event, ExitStatus, OutputStream, TerminalSize};

use crate::{DEADLINE, Delivered, World};

pub(crate) fn received(receiver: &HttpsReceiver) -> Result<Vec<Delivered>> {
    receiver.accepted_lines()?.iter().map(Delivered::of_json).collect()
}

#[tokio::test]
async fn rsyslog_gets_every_line_with_its_tags() -> Result<()> {
    for driver in [TlsDriver::Gnutls, TlsDriver::Openssl] {
        let world = World::new().await?;
        let rsyslog = Rsyslog::start(driver).await?;
        world.syslog(rsyslog.port(), rsyslog.authority()).await?;
        let _worker = world.worker()?;
        let mut session = world.session();
        world.append(&[session.started(), session.numbered(0..3)]).await?;
        world.append(&[session.output("a prompt $ "), session.ended()]).await?;

        let delivered = || -> Result<Vec<Delivered>> {
            rsyslog.messages().iter().map(|message| Delivered::of_syslog(message)).collect()
        };
        wait::until_true("all messages", DEADLINE, async || Ok(delivered()?.len() >= 6)).await?;
        let lines = delivered()?;
        session.check(&lines)?;
        assert_eq!(lines[0].field("event"), "session_started");
        assert!(lines[0].text().contains("ada@example.com opened web from 10.0.0.1"));
        assert_eq!(lines[5].field("event"), "session_ended");
        for line in &lines {
            assert_eq!(line.field("environment"), "production");
            assert_eq!(line.field("source"), "ephemeral_session");
            assert_eq!(line.field("app"), "web");
            assert_eq!(line.field("user_email"), "ada@example.com");
            assert_eq!(line.field("user_name"), "Ada \"the first\" Lovelace]");
            assert_eq!(line.field("header.hostname"), "production");
            assert_eq!(line.field("header.app_name"), "web");
            assert_eq!(line.field("header.procid"), line.field("session_id"));
        }
        assert_eq!(lines[1].text(), "line 0 of the session");
        assert_eq!(lines[1].field("stream"), "stdout");
    }
    Ok(())
}

#[tokio::test]
async fn https_gets_gzipped_json_lines_with_the_drains_headers() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    let drain = world.https(&receiver).await?;
    let _worker = world.worker()?;
    let mut session = world.session();
    let size = TerminalSize { columns: 80, rows: 24 };
    world
        .append(&[
            session.started(),
            session.event(Event::Pty { term: "xterm".to_owned(), size }),
            session.event(Event::Exec { command: b"ls -la".to_vec() }),
            session.output("\x1b[1mbold\x1b[0m\r\n\r\n"),
            session.event(Event::Exit(ExitStatus::Code(3))),
            session.ended(),
        ])
        .await?;
    let state =
        world.state_until(drain, "all lines to count", |state| state.delivered == 7).await?;
    assert!(!state.failing);
    let lines = received(&receiver)?;
    let said: Vec<_> = lines.iter().map(Delivered::text).collect();
    assert!(said[0].starts_with("session started: ada@example.com opened web from 10.0.0.1"));
    assert_eq!(
        said[1..6],
        ["terminal: xterm 80x24", "exec: ls -la", "bold", "", "exit: exit status 3"]
    );
    assert_eq!((lines[3].field("offset"), lines[3].field("length")), ("0", "14"));
    assert_eq!((lines[4].field("offset"), lines[4].field("length")), ("14", "2"));
    let request = &receiver.requests()[0];
    assert_eq!(request.header("authorization"), "Bearer token-of-the-test");
    assert_eq!(request.header("content-encoding"), "gzip");
    assert_eq!(request.header("content-type"), "application/x-ndjson");
    assert_eq!(request.header("spillway-batch-id").len(), 32);
    assert_eq!(request.path, "/logs");
    Ok(())
}

#[tokio::test]
async fn output_without_a_line_end_is_delivered_at_a_pause() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    world.https(&receiver).await?;
    let _worker = world.worker()?;
    let mut session = world.session();
    let prompt = session.output("$ ");
    let pause = session.event(Event::Pause { stream: OutputStream::Stdout });
    world.append(&[prompt, pause]).await?;
    wait::until_true("the prompt", DEADLINE, async || {
        Ok(session.is_complete_in(&received(&receiver)?))
    })
    .await?;
    world.append(&[session.output("ls\r\n")]).await?;
    wait::until_true("the line", DEADLINE, async || {
        Ok(session.is_complete_in(&received(&receiver)?))
    })
    .await?;
    let lines = received(&receiver)?;
    session.check(&lines)?;
    assert_eq!(lines.iter().map(Delivered::text).collect::<Vec<_>>(), ["$ ", "ls"]);
    Ok(())
}

#[tokio::test]
async fn a_line_of_1_mib_and_invalid_utf8_arrive_byte_for_byte() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    let rsyslog = Rsyslog::start(TlsDriver::Openssl).await?;
    world.https(&receiver).await?;
    world.syslog(rsyslog.port(), rsyslog.authority()).await?;
    let _worker = world.worker()?;
    let mut session = world.session();
    let long = "0123456789abcdef".repeat(64 * 1024);
    for part in long.as_bytes().chunks(40_000) {
        world.append(&[session.output(part)]).await?;
    }
    let record = session.output(b"\nnot \xff\xfe UTF-8\n\xe2\x82");
    let rest = session.output(b"\xac cut in two\n");
    world.append(&[record]).await?;
    world.append(&[rest, session.ended()]).await?;

    let syslog = || -> Result<Vec<Delivered>> {
        rsyslog.messages().iter().map(|message| Delivered::of_syslog(message)).collect()
    };
    wait::until_true("both to have all", DEADLINE, async || {
        Ok(session.is_complete_in(&received(&receiver)?) && session.is_complete_in(&syslog()?))
    })
    .await?;
    session.check(&received(&receiver)?)?;
    session.check(&syslog()?)?;
    let json = receiver.accepted_lines()?;
    let odd = json.iter().find(|line| line.get("message_base64").is_some()).unwrap();
    assert_eq!(odd["message"], "not \u{fffd}\u{fffd} UTF-8");
    assert_eq!(json.iter().filter(|line| line["continued"] == true).count(), 15);
    assert!(json.iter().any(|line| line["message"] == "\u{20ac} cut in two"));
    Ok(())
}
