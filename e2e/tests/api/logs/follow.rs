//! As they come.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Logs, numbered};
use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(30);

/// A reader of server-sent events.
struct Events {
    response: reqwest::Response,
    buffer: String,
    last_id: String,
}

impl Events {
    /// A follower that has begun.
    async fn open(logs: &Logs<'_>, query: &str, last: Option<&str>) -> Result<Self> {
        let response = logs.world.events("auditor", &logs.path(query), last).await?;
        ensure!(response.status() == 200, "{}", response.text().await?);
        ensure!(response.headers()["content-type"] == "text/event-stream");
        let mut events = Self { response, buffer: String::new(), last_id: String::new() };
        ensure!(events.event().await?.is_none(), "it begins with where it is");
        Ok(events)
    }

    /// The next event's line; None for one without.
    async fn event(&mut self) -> Result<Option<Value>> {
        let event = loop {
            if let Some((event, rest)) = self.buffer.split_once("\n\n") {
                let (event, end) = (event.to_owned(), self.buffer.len() - rest.len());
                self.buffer.drain(..end);
                break event;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await??;
            self.buffer.push_str(std::str::from_utf8(&chunk.context("it ended")?)?);
        };
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
        field("id: ").context("an id")?.clone_into(&mut self.last_id);
        Ok(field("data: ").map(serde_json::from_str).transpose()?)
    }

    /// The messages of the next lines.
    async fn messages(&mut self, count: usize) -> Result<Vec<String>> {
        let mut messages = Vec::new();
        while messages.len() < count {
            if let Some(line) = self.event().await? {
                messages.push(line["message"].as_str().context("a message")?.to_owned());
            }
        }
        Ok(messages)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_goes_on_from_any_event_without_gap_or_repeat() -> Result<()> {
    let world = World::new().await?;
    let logs = Logs::new(&world).await?;
    let (mut web, mut noise) = (logs.app("web"), logs.app("noise"));
    logs.lines(&mut web, &["before".to_owned()]).await?;
    let mut events = Events::open(&logs, "app=web", None).await?;
    let expected = numbered(0..40);
    for lines in expected.chunks(5) {
        logs.lines(&mut noise, &numbered(0..3)).await?;
        logs.lines(&mut web, lines).await?;
    }
    // In the middle of a block, again and again.
    let mut seen = events.messages(3).await?;
    while seen.len() < expected.len() {
        let last = events.last_id.clone();
        drop(events);
        events = Events::open(&logs, "app=web", Some(&last)).await?;
        seen.extend(events.messages(3.min(expected.len() - seen.len())).await?);
    }
    assert_eq!(seen, expected);

    // A page's cursor joins what was and what comes.
    let after = logs.page("auditor", "limit=1").await?["after"].clone();
    let after = after.as_str().context("a cursor")?;
    logs.lines(&mut web, &["between".to_owned()]).await?;
    let query = format!("app=web&after={after}");
    let mut joined = Events::open(&logs, &query, None).await?;
    assert_eq!(joined.messages(1).await?, ["between"]);
    assert_eq!(events.messages(1).await?, ["between"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_goes_on_behind_what_cannot_be_read() -> Result<()> {
    let world = World::new().await?;
    let logs = Logs::new(&world).await?;
    let mut web = logs.app("web");
    let begin = logs.page("auditor", "").await?["after"].clone();
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
    let mut events = Events::open(&logs, "", begin.as_str()).await?;
    assert_eq!(events.messages(2).await?, ["line 0", "line 3"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_come_soon_and_in_order_however_they_are_appended() -> Result<()> {
    let world = World::new().await?;
    let logs = Logs::new(&world).await?;
    let mut web = logs.app("web");
    let mut events = Events::open(&logs, "", None).await?;
    let mut took = Vec::new();
    for number in 0..100 {
        let began = Instant::now();
        logs.lines(&mut web, &[number.to_string()]).await?;
        assert_eq!(events.messages(1).await?, [number.to_string()]);
        took.push(began.elapsed());
    }
    took.sort_unstable();
    println!("append to event: p50 {:?}, p99 {:?}", took[50], took[98]);
    // One that waits for a transaction that is open comes when that ends.
    let mut admin = world.database.connect().await?;
    let open = admin.transaction().await?;
    let block = log_stream::Block::encode(logs.environment.id, &[web.line("late")])?;
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
    logs.lines(&mut web, &["after it".to_owned()]).await?;
    open.commit().await?;
    assert_eq!(events.messages(2).await?, ["late", "after it"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_are_so_many_and_end_when_they_may_see_no_more() -> Result<()> {
    let world = World::new().await?;
    let logs = Logs::new(&world).await?;
    let mut web = logs.app("web");
    let mut followers = Vec::new();
    let refused = loop {
        let response = world.events("engineer", &logs.path(""), None).await?;
        if response.status() != 200 {
            break response;
        }
        followers.push(response);
        ensure!(followers.len() <= 40, "more than one user may have");
    };
    assert_eq!((followers.len(), refused.status().as_u16()), (40, 503));
    assert!(refused.headers().contains_key("retry-after"));
    // Others are served, and those that are there still are.
    let mut events = Events::open(&logs, "", None).await?;
    logs.lines(&mut web, &["still here".to_owned()]).await?;
    assert_eq!(events.messages(1).await?, ["still here"]);
    // One that goes makes room.
    followers.truncate(39);
    let mut tries = 0;
    while world.events("engineer", &logs.path(""), None).await?.status() != 200 {
        tries += 1;
        ensure!(tries < 200, "no room");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Who is no member any more is told nothing further.
    let admin = world.database.connect().await?;
    admin
        .execute(
            "delete from memberships where user_id =
                 (select id from users where email = 'auditor@example.com')",
            &[],
        )
        .await?;
    let ended = async {
        loop {
            match events.response.chunk().await {
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(25), ended).await.context("it went on")?;
    Ok(())
}
