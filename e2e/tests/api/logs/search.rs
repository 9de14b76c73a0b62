//! Back in time.

use anyhow::{Context as _, Result};
use log_stream::Block;
use model::{Event, LogLine, OutputStream, Severity, Source, Timestamp};

use super::{Logs, messages, numbered};
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn pages_together_are_all_lines_without_gap_or_repeat() -> Result<()> {
    let world = World::new().await?;
    let logs = Logs::new(&world).await?;
    let mut web = logs.app("web");
    let expected = numbered(0..100);
    // Blocks of 1 to 13 lines.
    let (mut at, mut size) = (0, 1);
    while at < expected.len() {
        let end = (at + size).min(expected.len());
        logs.lines(&mut web, &expected[at..end]).await?;
        (at, size) = (end, size % 13 + 4);
    }
    for limit in [1, 3, 7, 50, 100, 1000] {
        assert_eq!(logs.all("engineer", &format!("limit={limit}")).await?, expected, "{limit}");
    }
    // What comes meanwhile is on no page back, and on those forwards.
    let (mut seen, mut page) = (Vec::new(), logs.page("engineer", "limit=9").await?);
    let mut after = page["after"].as_str().context("a cursor")?.to_owned();
    loop {
        let mut found = messages(&page)?;
        found.append(&mut seen);
        seen = found;
        logs.lines(&mut web, &["meanwhile".to_owned()]).await?;
        let Some(before) = page["before"].as_str() else { break };
        page = logs.page("engineer", &format!("limit=9&before={before}")).await?;
    }
    assert_eq!(seen, expected);
    let mut later = Vec::new();
    loop {
        let page = logs.page("engineer", &format!("limit=2&after={after}")).await?;
        let found = messages(&page)?;
        after = page["after"].as_str().context("a cursor")?.to_owned();
        if found.is_empty() {
            break;
        }
        later.extend(found);
    }
    assert_eq!(later, vec!["meanwhile"; 12]);
    // From the very beginning, forwards.
    let beginning = logs.page("engineer", "limit=1000").await?;
    assert_eq!(beginning["before"], serde_json::Value::Null);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_filter_leaves_out_what_does_not_fit() -> Result<()> {
    let world = World::new().await?;
    let logs = Logs::new(&world).await?;
    let (mut web, mut api, mut main) = (logs.app("web"), logs.app("api"), logs.database("main"));
    let mut session = logs.session(&web);
    let id = |writer: &super::Writer| {
        writer.origin.app.as_ref().map(|app| app.id.to_string()).expect("an app")
    };
    logs.append(&[web.line("GET /Orders"), api.severe("disk is full", Severity::Critical)]).await?;
    logs.append(&[main.severe("slow statement", Severity::Warning)]).await?;
    let begin = Timestamp::now();
    logs.append(&[session.record(Event::Shell)]).await?;
    let end = Timestamp::now();
    logs.append(&[web.line("\u{dc}BUNG"), api.severe("noise", Severity::Debug)]).await?;
    for (query, expected) in [
        ("app=web".to_owned(), &["GET /Orders", "shell started", "\u{dc}BUNG"][..]),
        (format!("app={}", id(&api)), &["disk is full", "noise"]),
        ("app=api&database=main".to_owned(), &["disk is full", "slow statement", "noise"]),
        ("source=database".to_owned(), &["slow statement"]),
        (
            "source=database&source=ephemeral_session".to_owned(),
            &["slow statement", "shell started"],
        ),
        ("app=web&source=app".to_owned(), &["GET /Orders", "\u{dc}BUNG"]),
        ("app=nothing".to_owned(), &[]),
        ("app=%00&database=Not%20a%20handle".to_owned(), &[]),
        ("until=9999-12-31T23:59:59Z&source=database".to_owned(), &["slow statement"]),
        ("text=get+/ORDERS".to_owned(), &["GET /Orders"]),
        ("text=%C3%BCbung".to_owned(), &["\u{dc}BUNG"]),
        // It is a text and no pattern.
        ("text=.*".to_owned(), &[]),
        ("severity=warning".to_owned(), &["disk is full", "slow statement"]),
        ("severity=critical&text=disk".to_owned(), &["disk is full"]),
        (
            "severity=info".to_owned(),
            &["GET /Orders", "disk is full", "slow statement", "shell started", "\u{dc}BUNG"],
        ),
        (format!("since={begin}"), &["shell started", "\u{dc}BUNG", "noise"]),
        (format!("until={begin}"), &["GET /Orders", "disk is full", "slow statement"]),
        (format!("since={begin}&until={end}"), &["shell started"]),
        ("since=1h&app=web&limit=1".to_owned(), &["GET /Orders", "shell started", "\u{dc}BUNG"]),
        ("until=1h".to_owned(), &[]),
    ] {
        assert_eq!(logs.all("auditor", &query).await?, expected, "{query}");
    }
    for query in ["text=", &format!("text={}", "a".repeat(201))] {
        assert_eq!(world.get("auditor", &logs.path(query)).await?.status, 422, "{query}");
    }
    for query in ["colour=red", "limit=0", "before=x", "source=x", "severity=x", "since=x"] {
        assert_eq!(world.get("auditor", &logs.path(query)).await?.status, 400, "{query}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_has_all_that_is_known_of_it() -> Result<()> {
    let world = World::new().await?;
    let logs = Logs::new(&world).await?;
    let mut web = logs.app("web");
    let line = LogLine {
        severity: Some(Severity::Notice),
        stream: Some(OutputStream::Stderr),
        sent_at: Some(Timestamp::from_nanos(1_000_000_000)),
        fields: [("request", "7"), ("empty", "")].into_iter().collect(),
        ..LogLine::plain(b"caf\xe9 \x1b[31m\n".as_slice())
    };
    let mut session = logs.session(&web);
    let shown =
        Event::Output { stream: OutputStream::Stdout, offset: 5, bytes: b"$ ".as_slice().into() };
    let pause = Event::Pause { stream: OutputStream::Stdout };
    logs.append(&[
        web.record(Event::Line(Box::new(line))),
        session.record(shown),
        session.record(pause),
    ])
    .await?;
    let page = logs.page("owner", "").await?;
    let [line, shown] = page["items"].as_array().context("items")?.as_slice() else {
        anyhow::bail!("two items: {page}");
    };
    let producer = web.origin.producer;
    assert_eq!(line["id"], format!("{producer}:0"));
    assert_eq!((&line["source"], &line["event"]), (&"app".into(), &"line".into()));
    assert_eq!((&line["app"], &line["environment"]), (&"web".into(), &"production".into()));
    assert_eq!(line["message"], "caf\u{fffd} \u{1b}[31m\n");
    assert_eq!(line["message_base64"], "Y2Fm6SAbWzMxbQo=");
    assert_eq!((&line["severity"], &line["stream"]), (&"notice".into(), &"stderr".into()));
    assert_eq!(line["sent_at"], "1970-01-01T00:00:01Z");
    assert_eq!(line["fields"], serde_json::json!({"request": "7", "empty": ""}));
    assert_eq!(shown["id"], format!("{}:stdout:5-7", session.origin.producer));
    assert_eq!((&shown["offset"], &shown["length"]), (&5.into(), &2.into()));
    assert_eq!(
        (&shown["user_email"], &shown["event"]),
        (&"ada@example.com".into(), &"output".into())
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_needle_is_found_behind_more_than_one_request_may_unpack() -> Result<()> {
    let world = World::new().await?;
    let logs = Logs::new(&world).await?;
    let mut web = logs.app("web");
    logs.append(&[web.line("the needle")]).await?;
    let hay = "hay ".repeat(3 << 19);
    for _ in 0..4 {
        logs.append(&[web.line(&hay), web.line(&hay)]).await?;
    }
    let first = logs.page("owner", "text=needle").await?;
    assert_eq!((messages(&first)?.len(), first["before"].is_string()), (0, true));
    assert_eq!(logs.all("owner", "text=needle").await?, ["the needle"]);
    // A page has as many lines as it takes bytes, and one more.
    let page = logs.page("owner", "limit=1000&after=AAAAAAAAAAAAAAAAAAAAAAAAAAA").await?;
    assert_eq!(messages(&page)?.len(), 2);
    assert_eq!(page["items"][1]["message"].as_str().map(str::len), Some(hay.len()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_left_out() -> Result<()> {
    let world = World::new().await?;
    let logs = Logs::new(&world).await?;
    let mut web = logs.app("web");
    for line in numbered(0..4) {
        logs.lines(&mut web, &[line]).await?;
    }
    let admin = world.database.connect().await?;
    for (column, line) in [("header", 1), ("payload", 2)] {
        let statement = format!(
            "update stream.blocks set {column} = '\\x00' where seq =
                 (select seq from stream.blocks order by seq offset {line} limit 1)"
        );
        admin.execute(&statement, &[]).await?;
    }
    assert_eq!(logs.all("engineer", "limit=1").await?, ["line 0", "line 3"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_settled_or_not_kept_is_not_shown() -> Result<()> {
    let world = World::new().await?;
    let logs = Logs::new(&world).await?;
    let mut writer = logs.writer(Source::Activity);
    logs.lines(&mut writer, &numbered(0..2)).await?;
    let mut admin = world.database.connect().await?;
    let open = admin.transaction().await?;
    let block = Block::encode(logs.environment.id, &[writer.line("late")])?;
    open.execute(
        "insert into stream.blocks (id, made_at, environment_id, header, payload)
         values ($1, $2, $3, $4, $5)",
        &[
            &block.id(),
            &block.made_at(),
            &logs.environment.id.uuid(),
            &block.header_bytes(),
            &block.payload_bytes(),
        ],
    )
    .await?;
    logs.lines(&mut writer, &numbered(2..4)).await?;
    let page = logs.page("engineer", "").await?;
    assert_eq!(messages(&page)?, numbered(0..2));
    let after = page["after"].as_str().context("a cursor")?;
    open.commit().await?;
    let later = logs.page("engineer", &format!("after={after}")).await?;
    assert_eq!(messages(&later)?, ["late", "line 2", "line 3"]);

    // A transaction that writes something else keeps nothing back.
    let mut admin = world.database.connect().await?;
    let open = admin.transaction().await?;
    open.execute("update environments set pids_limit = pids_limit", &[]).await?;
    logs.lines(&mut writer, &numbered(4..5)).await?;
    let page = logs.page("engineer", "limit=1").await?;
    assert_eq!(messages(&page)?, ["line 4"]);
    open.commit().await?;

    let admin = world.database.connect().await?;
    admin
        .execute(
            "insert into stream.horizons (environment_id, xid, seq)
             select environment_id, xid, seq from stream.blocks where id = $1",
            &[&block.id()],
        )
        .await?;
    assert_eq!(logs.all("engineer", "limit=2").await?, numbered(2..5));
    Ok(())
}
