//! Logs as people look at them: back in time, as they come, and only those that they may see.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use log_stream::{Block, LogStream as _, PostgresSettings, PostgresStream};
use model::{
    AppTag, DatabaseTag, EnvironmentTag, Event, Id, LogLine, Origin, OutputStream, Record, Secret,
    SessionTag, Severity, Source, Timestamp,
};
use serde_json::Value;

use crate::world::World;

mod follow;
mod search;

/// An environment whose records the test writes.
struct Logs<'a> {
    world: &'a World,
    stream: PostgresStream,
    environment: EnvironmentTag,
}

/// Records of one producer.
struct Writer {
    origin: Arc<Origin>,
    next_seq: u64,
}

impl<'a> Logs<'a> {
    async fn new(world: &'a World) -> Result<Self> {
        let url = Secret::new(world.database.admin_url().to_owned());
        let stream = PostgresStream::connect(PostgresSettings::new(url)).await?;
        let environment = EnvironmentTag {
            id: world.environment().await?.parse()?,
            handle: "production".parse()?,
            organization: Id::from_uuid(world.organization),
        };
        Ok(Self { world, stream, environment })
    }

    fn writer(&self, source: Source) -> Writer {
        let origin = Origin {
            producer: Id::generate(),
            source,
            environment: self.environment.clone(),
            app: None,
            database: None,
            session: None,
        };
        Writer { origin: Arc::new(origin), next_seq: 0 }
    }

    fn app(&self, handle: &str) -> Writer {
        let mut writer = self.writer(Source::App);
        let app = AppTag { id: Id::generate(), handle: handle.parse().expect("a handle") };
        Arc::make_mut(&mut writer.origin).app = Some(app);
        writer
    }

    fn database(&self, handle: &str) -> Writer {
        let mut writer = self.writer(Source::Database);
        let database =
            DatabaseTag { id: Id::generate(), handle: handle.parse().expect("a handle") };
        Arc::make_mut(&mut writer.origin).database = Some(database);
        writer
    }

    fn session(&self, app: &Writer) -> Writer {
        let mut writer = self.writer(Source::EphemeralSession);
        let origin = Arc::make_mut(&mut writer.origin);
        origin.app.clone_from(&app.origin.app);
        origin.session = Some(SessionTag {
            id: Id::generate(),
            user: Id::generate(),
            user_email: "ada@example.com".to_owned(),
            user_name: "Ada".to_owned(),
        });
        writer
    }

    async fn append(&self, records: &[Record]) -> Result<()> {
        let block = Block::encode(self.environment.id, records)?;
        Ok(self.stream.append(Arc::new(block)).await?)
    }

    /// A block of plain lines.
    async fn lines(&self, writer: &mut Writer, texts: &[String]) -> Result<()> {
        let records: Vec<Record> = texts.iter().map(|text| writer.line(text)).collect();
        self.append(&records).await
    }

    fn path(&self, query: &str) -> String {
        format!("/v1/environments/{}/logs?{query}", self.environment.id)
    }

    async fn page(&self, name: &str, query: &str) -> Result<Value> {
        let answer = self.world.get(name, &self.path(query)).await?;
        ensure!(answer.status == 200, "{query}: {}", answer.text);
        Ok(answer.json)
    }

    /// Everything that fits, read back page by page; oldest first.
    async fn all(&self, name: &str, query: &str) -> Result<Vec<String>> {
        let (mut pages, mut before) = (Vec::new(), String::new());
        loop {
            let page = self.page(name, &format!("{query}{before}")).await?;
            pages.push(messages(&page)?);
            match page["before"].as_str() {
                Some(cursor) => before = format!("&before={cursor}"),
                None => return Ok(pages.into_iter().rev().flatten().collect()),
            }
            ensure!(pages.len() < 2000, "it goes on and on");
        }
    }
}

impl Writer {
    fn record(&mut self, event: Event) -> Record {
        let seq = self.next_seq;
        self.next_seq += 1;
        Record { origin: Arc::clone(&self.origin), seq, at: Timestamp::now(), event }
    }

    fn line(&mut self, text: &str) -> Record {
        self.record(Event::Line(Box::new(LogLine::plain(text.as_bytes().to_vec()))))
    }

    fn severe(&mut self, text: &str, severity: Severity) -> Record {
        let line = LogLine { severity: Some(severity), ..LogLine::plain(text.as_bytes().to_vec()) };
        self.record(Event::Line(Box::new(line)))
    }
}

fn messages(page: &Value) -> Result<Vec<String>> {
    let items = page["items"].as_array().context("items")?;
    let message = |item: &Value| item["message"].as_str().map(str::to_owned);
    items.iter().map(|item| message(item).context("a message")).collect()
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("line {number}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_sees_what_it_may_and_strangers_nothing() -> Result<()> {
    let world = World::new().await?;
    let (logs, other) = (Logs::new(&world).await?, Logs::new(&world).await?);
    let (mut web, mut main) = (logs.app("web"), logs.database("main"));
    let mut session = logs.session(&web);
    let shown = Event::Output {
        stream: OutputStream::Stdout,
        offset: 0,
        bytes: b"of the session".as_slice().into(),
    };
    logs.append(&[web.line("of the app"), session.record(shown)]).await?;
    logs.append(&[main.line("of the database")]).await?;
    other.append(&[other.app("web").line("elsewhere")]).await?;

    for (name, seen) in [
        ("owner", &["of the app", "of the session", "of the database"][..]),
        ("admin", &["of the app", "of the session", "of the database"]),
        ("auditor", &["of the app", "of the session", "of the database"]),
        ("engineer", &["of the app", "of the database"]),
    ] {
        assert_eq!(logs.all(name, "").await?, seen, "{name}");
    }
    let id = session.origin.session.as_ref().map(|session| session.id).context("a session")?;
    for query in ["source=ephemeral_session".to_owned(), format!("session={id}")] {
        assert_eq!(logs.all("auditor", &query).await?, ["of the session"]);
        for query in [query.clone(), format!("{query}&follow=true")] {
            let refused = world.get("engineer", &logs.path(&query)).await?;
            assert_eq!((refused.status, refused.problem()), (403, "forbidden"), "{query}");
        }
    }
    for follow in ["", "follow=true"] {
        for (name, status) in [("viewer", 403), ("stranger", 404), ("anonymous", 401)] {
            assert_eq!(world.get(name, &logs.path(follow)).await?.status, status, "{name}");
        }
    }
    // A cursor of one environment opens no other.
    let before = logs.page("owner", "limit=1").await?["before"].clone();
    let query = format!("before={}", before.as_str().context("a cursor")?);
    let found: BTreeSet<String> =
        messages(&other.page("owner", &query).await?)?.into_iter().collect();
    assert!(found.is_subset(&["elsewhere".to_owned()].into()), "{found:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn command_line_prints_what_was_and_what_comes() -> Result<()> {
    let world = World::new().await?;
    let logs = Logs::new(&world).await?;
    let mut web = logs.app("web");
    logs.lines(&mut web, &numbered(0..5)).await?;
    logs.append(&[web.severe("a \u{1b}[2Jtrick", Severity::Error)]).await?;
    let place = ["--environment", &world.handle(&logs.environment.id.to_string()).await?]
        .map(str::to_owned);
    let run = async |arguments: &[&str]| -> Result<String> {
        let arguments = [&["logs", &place[0], &place[1]], arguments].concat();
        let command = world.cli("engineer", &arguments)?;
        let began = Instant::now();
        let printed = e2e::process::succeed(command, Duration::from_secs(30)).await?.text();
        println!("platform {}: {:?}", arguments.join(" "), began.elapsed());
        Ok(printed)
    };
    let printed = run(&["--lines", "3"]).await?;
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.len(), 3, "{printed}");
    assert!(lines[0].ends_with("app/web line 3"), "{printed}");
    assert!(lines[2].ends_with("app/web a \u{fffd}[2Jtrick"), "{printed}");
    let printed = run(&["--severity", "error", "--app", "web", "--json"]).await?;
    let item: Value = serde_json::from_str(&printed)?;
    assert_eq!(item["severity"], "error");

    let mut command =
        world.cli("engineer", &["logs", &place[0], &place[1], "-n", "2", "--follow"])?;
    let mut child = command.stdout(std::process::Stdio::piped()).kill_on_drop(true).spawn()?;
    let output = child.stdout.take().context("its output")?;
    let mut output = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(output));
    let mut next = async || -> Result<String> {
        let line = tokio::time::timeout(Duration::from_secs(20), output.next_line()).await??;
        line.context("it ended")
    };
    assert!(next().await?.ends_with("line 4"));
    assert!(next().await?.contains("trick"));
    logs.lines(&mut web, &numbered(5..7)).await?;
    assert!(next().await?.ends_with("line 5"));
    assert!(next().await?.ends_with("line 6"));
    child.kill().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn command_line_leaves_out_what_does_not_fit() -> Result<()> {
    let world = World::new().await?;
    let logs = Logs::new(&world).await?;
    let (mut web, mut main) = (logs.app("web"), logs.database("main"));
    let mut session = logs.session(&web);
    let id = session.origin.session.as_ref().map(|session| session.id.to_string());
    let id = id.context("a session")?;
    logs.append(&[web.line("GET /Orders"), main.line("checkpoint")]).await?;
    let begin = Timestamp::now().to_string();
    logs.append(&[session.record(Event::Shell), web.line("GET /login")]).await?;
    let handle = world.handle(&logs.environment.id.to_string()).await?;
    let (login, orders) = ("app/web GET /login", "app/web GET /Orders");
    let shell = "session/ada@example.com[shell] shell started";
    for (filter, expected) in [
        (["--database", "main"], &["database/main checkpoint"][..]),
        (["--session", &id], &[shell]),
        (["--text", "get /ORD"], &[orders]),
        (["--until", &begin], &[orders, "database/main checkpoint"]),
        (["--since", &begin], &[shell, login]),
    ] {
        let arguments = [&["logs", "--environment", &handle][..], &filter].concat();
        let command = world.cli("auditor", &arguments)?;
        let printed = e2e::process::succeed(command, Duration::from_secs(30)).await?.text();
        // Without the time.
        let lines: Vec<_> =
            printed.lines().filter_map(|line| Some(line.split_once(' ')?.1)).collect();
        assert_eq!(lines, expected, "{filter:?}");
    }
    Ok(())
}
