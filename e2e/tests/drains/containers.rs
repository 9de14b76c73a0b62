//! What happened to containers, and what was lost of their lines.

use anyhow::Result;
use e2e::https_receiver::HttpsReceiver;
use e2e::rsyslog::{Rsyslog, TlsDriver};
use e2e::wait;
use model::{ContainerAction, ContainerEvent, Event, Id, LogLine, Origin, Source};

use crate::content::received;
use crate::{DEADLINE, Delivered, World};

fn container(action: ContainerAction) -> Event {
    Event::Container(Box::new(ContainerEvent {
        action,
        id: "4f6c0b4bdf02".to_owned(),
        name: "web-1".to_owned(),
        image: "registry.example/web:7".to_owned(),
    }))
}

#[tokio::test]
async fn life_of_a_container_and_its_lost_lines_are_told_in_order() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    let rsyslog = Rsyslog::start(TlsDriver::Openssl).await?;
    world.https(&receiver).await?;
    world.syslog(rsyslog.port(), rsyslog.authority()).await?;
    let _worker = world.worker()?;
    let mut writer = world.session();
    let producer = Id::generate();
    writer.origin =
        Origin { producer, source: Source::App, session: None, ..(*writer.origin).clone() }.into();
    let begun = LogLine { continued: true, ..LogLine::plain("a line without an end") };
    let reason = "the log file was \"rotated\"]".to_owned();
    let records = [
        container(ContainerAction::Started),
        Event::Line(Box::new(begun)),
        Event::Gap { lines: 12, reason },
        Event::Line(Box::new(LogLine::plain("after it"))),
        container(ContainerAction::OutOfMemory),
        container(ContainerAction::Exited { code: 137 }),
    ]
    .map(|event| writer.event(event));
    world.append(&records).await?;

    let syslog = || -> Result<Vec<Delivered>> {
        rsyslog.messages().iter().map(|message| Delivered::of_syslog(message)).collect()
    };
    let expected = [
        ("container", "container web-1 started (image registry.example/web:7)"),
        ("line", "a line without an end"),
        ("gap", "12 lines were lost: the log file was \"rotated\"]"),
        ("line", "after it"),
        ("container", "container web-1 ran out of memory (image registry.example/web:7)"),
        ("container", "container web-1 ended with exit status 137 (image registry.example/web:7)"),
    ];
    wait::until_true("all at both", DEADLINE, async || {
        Ok(received(&receiver)?.len() >= expected.len() && syslog()?.len() >= expected.len())
    })
    .await?;
    for lines in [received(&receiver)?, syslog()?] {
        let told: Vec<_> = lines.iter().map(|line| (line.field("event"), line.text())).collect();
        let expected = expected.map(|(event, text)| (event, text.to_owned()));
        assert_eq!(told, expected);
        for (line, seq) in lines.iter().zip(0..) {
            assert_eq!((line.field("source"), line.field("app")), ("app", "web"));
            assert_eq!(line.field("seq"), seq.to_string());
        }
    }
    Ok(())
}
