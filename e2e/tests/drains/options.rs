//! Which lines a drain takes and what becomes of them, by its options.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use e2e::https_receiver::HttpsReceiver;
use e2e::process::Process;
use e2e::wait;
use model::{AppTag, DatabaseTag, Event, Id, LogLine, Origin, OutputStream, Severity, Source};
use serde_json::{Value, json};

use crate::{DEADLINE, World};

/// Output that a drain with these options has delivered of a session, when its end has come; and the worker.
async fn delivered(world: &World, options: Value, lines: &[&str]) -> Result<(Vec<Value>, Process)> {
    let receiver = HttpsReceiver::start().await?;
    let drain = world.https(&receiver).await?;
    world.change(drain, &format!("options = '{options}'")).await?;
    let worker = world.worker()?;
    let mut session = world.session();
    let mut records = vec![session.started()];
    records.extend(lines.iter().map(|line| session.output(line)));
    records.push(session.event(Event::Pause { stream: OutputStream::Stdout }));
    records.push(session.ended());
    world.append(&records).await?;
    let all = wait::until("the session's end", DEADLINE, async || {
        let all: Vec<Value> = receiver.accepted_lines()?;
        Ok(all.iter().any(|line| line["event"] == "session_ended").then_some(all))
    })
    .await?;
    Ok((all.into_iter().filter(|line| line["event"] == "output").collect(), worker))
}

fn messages(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter_map(|line| line["message"].as_str()).collect()
}

#[tokio::test]
async fn lines_are_masked_and_counted_parsed_and_tagged() -> Result<()> {
    let world = World::new().await?;
    let options = json!({
        "minimum_severity": "warning", "parse_json": true, "static_fields": {"team": "payments"},
        "redactions": [{"pattern": r"\d{4}-\d{4}", "replacement": "[card]"}],
    });
    let lines = [
        "pay 1111-2222 now\n",
        "{\"level\":\"debug\",\"a\":1}\n",
        "{\"level\":\"error\",\"card\":\"3333-4444\",\"n\":{\"x\":[1]}}\n",
        "plain\n",
    ];
    let (lines, _worker) = delivered(&world, options, &lines).await?;
    assert_eq!(
        messages(&lines),
        ["pay [card] now", "{\"level\":\"error\",\"card\":\"[card]\",\"n\":{\"x\":[1]}}", "plain"]
    );
    assert!(lines.iter().all(|line| line["team"] == "payments"));
    let redacted: Vec<bool> = lines.iter().map(|line| line["redacted"] == true).collect();
    assert_eq!(redacted, [true, true, false]);
    let parsed = json!({"level": "error", "card": "[card]", "n": {"x": [1]}});
    assert_eq!((&lines[1]["json"], &lines[0]["json"]), (&parsed, &Value::Null));
    // What it stands for is still told in full.
    assert_eq!((&lines[0]["offset"], &lines[0]["length"]), (&json!(0), &json!(18)));
    let redacted = "select redacted_lines from drain_positions where redacted_lines = 2";
    wait::until("the count", DEADLINE, async || Ok(world.admin.query_opt(redacted, &[]).await?))
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_stack_trace_is_one_line() -> Result<()> {
    let world = World::new().await?;
    let options = json!({ "multiline_start": r"^\S" });
    let pieces = ["first\nError: x\r\n", "  at a\n  a", "t b\n", "last\n  tail\n"];
    let (lines, _worker) = delivered(&world, options, &pieces).await?;
    assert_eq!(messages(&lines), ["first", "Error: x\n  at a\n  at b", "last\n  tail"]);
    let spans: Vec<_> = lines.iter().map(|line| (&line["offset"], &line["length"])).collect();
    assert_eq!(
        json!(spans),
        json!([[0, 6], [6, 24], [30, 12]]),
        "every byte of the stream is in one of them"
    );
    Ok(())
}

#[tokio::test]
async fn a_drain_takes_the_apps_that_are_chosen() -> Result<()> {
    let mut world = World::new().await?;
    let (web, other) = (world.app.clone(), AppTag { id: Id::generate(), handle: "other".parse()? });
    let mut drains = Vec::new();
    for options in [
        json!({ "apps": { "include": [web.id] } }),
        json!({ "apps": { "exclude": [web.id] } }),
        json!({}),
    ] {
        let receiver = HttpsReceiver::start().await?;
        let drain = world.https(&receiver).await?;
        world.change(drain, &format!("options = '{options}'")).await?;
        drains.push(receiver);
    }
    let _worker = world.worker()?;
    for app in [web, other] {
        world.app = app;
        let mut session = world.session();
        let records = [session.output("a line\n"), session.ended()];
        world.append(&records).await?;
    }
    let expected = [vec!["web"; 2], vec!["other"; 2], vec!["web", "web", "other", "other"]];
    for (receiver, expected) in drains.iter().zip(expected) {
        let lines = wait::until("the lines", DEADLINE, async || {
            let lines = receiver.accepted_lines()?;
            Ok((lines.len() >= expected.len()).then_some(lines))
        })
        .await?;
        let apps: Vec<_> = lines.iter().filter_map(|line| line["app"].as_str()).collect();
        assert_eq!(apps, expected);
    }
    Ok(())
}

#[tokio::test]
async fn a_drain_takes_the_databases_that_are_chosen_or_none() -> Result<()> {
    let world = World::new().await?;
    let [main, other] = ["main", "other"]
        .map(|handle| DatabaseTag { id: Id::generate(), handle: handle.parse().unwrap() });
    let mut drains = Vec::new();
    for (set, expected) in [
        (format!("options = '{}'", json!({ "databases": { "include": [main.id] } })), "main web"),
        (format!("options = '{}'", json!({ "databases": { "exclude": [main.id] } })), "other web"),
        ("drain_apps = false".to_owned(), "main other"),
        ("drain_databases = false".to_owned(), "web"),
        ("drain_ephemeral_sessions = false".to_owned(), "main other web"),
    ] {
        let receiver = HttpsReceiver::start().await?;
        let drain = world.https(&receiver).await?;
        world.change(drain, &set).await?;
        drains.push((receiver, expected));
    }
    let _worker = world.worker()?;
    let write = async |source, app, database, line: &str| {
        let mut writer = world.session();
        let (producer, session) = (Id::generate(), None);
        let origin =
            Origin { producer, source, app, database, session, ..(*writer.origin).clone() };
        writer.origin = origin.into();
        let bytes = Bytes::from(line.to_owned());
        let record = writer.event(Event::Line(Box::new(LogLine::plain(bytes))));
        world.append(&[record]).await
    };
    for database in [main, other] {
        let line = database.handle.to_string();
        write(Source::Database, None, Some(database), &line).await?;
    }
    write(Source::App, Some(world.app.clone()), None, "web").await?;
    for (receiver, expected) in drains {
        let lines = wait::until("the lines", DEADLINE, async || {
            let lines = receiver.accepted_lines()?;
            Ok((lines.len() >= expected.split(' ').count()).then_some(lines))
        })
        .await?;
        assert_eq!(messages(&lines).join(" "), expected);
        let named =
            |line: &Value| line["app"] == line["message"] || line["database"] == line["message"];
        assert!(lines.iter().all(named), "{lines:?}");
    }
    Ok(())
}

/// A stack trace is one line; its end is told by the clock, for nothing follows.
#[tokio::test]
async fn lines_of_apps_are_joined_and_those_that_are_less_severe_left_out() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    let drain = world.https(&receiver).await?;
    let options = json!({ "multiline_start": r"^\S", "minimum_severity": "warning" });
    world.change(drain, &format!("options = '{options}'")).await?;
    let worker = world.worker()?;
    let mut writer = world.session();
    let (source, session) = (Source::App, None);
    let origin = Origin { source, session, ..(*writer.origin).clone() };
    writer.origin = origin.into();
    let mut line = |severity, text: &'static str| {
        let fields = [("pod", "web-1")].into_iter().collect();
        let line = LogLine { severity: Some(severity), fields, ..LogLine::plain(text) };
        writer.event(Event::Line(Box::new(line)))
    };
    let records = [
        line(Severity::Info, "started"),
        line(Severity::Error, "panic: a"),
        line(Severity::Error, "\tat b"),
    ];
    world.append(&records).await?;
    world.append(&[line(Severity::Error, "\tat c")]).await?;
    let lines = wait::until("the line", DEADLINE, async || {
        let lines = receiver.accepted_lines()?;
        Ok((!lines.is_empty()).then_some(lines))
    })
    .await
    .with_context(|| worker.log())?;
    assert_eq!(messages(&lines), ["panic: a\n\tat b\n\tat c"]);
    let [delivered] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(delivered["severity"], "error");
    assert_eq!(delivered["fields"], json!({ "pod": "web-1" }));
    assert_eq!(delivered["hop"], drain.hop());
    assert!(delivered["id"].as_str().is_some_and(|id| id.ends_with(":1-3")), "{delivered}");
    // Its position does not wait for lines that went before.
    let until = async || Ok(world.state(drain).await?.lag_records == 0);
    wait::until_true("an end of the lag", DEADLINE, until).await
}
