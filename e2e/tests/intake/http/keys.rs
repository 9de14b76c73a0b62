//! Requests with a key of their own: tried again, they are in the stream once.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::{Http, count_until};
use crate::{DEADLINE, World, text};

/// Several blocks of lines that tell where they are from.
fn body(name: usize) -> String {
    let rest = "x".repeat(200);
    let lines: Vec<_> = (0..20_000).map(|n| format!("{name}-{n} {rest}")).collect();
    lines.join("\n")
}

#[tokio::test]
async fn a_request_that_is_tried_again_is_in_the_stream_once() -> Result<()> {
    let world = World::new().await?;
    let (source, other) = (world.app_source().await?, world.app_source().await?);
    let http = Http::start(&world, &[]).await?;
    let key = [("idempotency-key", "one")];
    let json = [("content-type", "application/x-ndjson"), key[0]];
    let first = http.post("/logs", &source, &json, "\"a\"\n7").await?.is(200)?;
    let again = http.post("/logs", &source, &json, "\"a\"\n7").await?.is(200)?;
    ensure!(first.body == again.body, "{first:?} {again:?}");
    let used = http.post("/logs", &source, &json, "\"b\"").await?.is(422)?;
    ensure!(used.json()?["type"] == "urn:spillway:problem:key-used", "{used:?}");
    // Another source's keys are its own, and many at once are one.
    let many = (0..8).map(|_| http.post("/logs", &other, &key, "many"));
    for answer in futures_util::future::try_join_all(many).await? {
        answer.is(200)?;
    }
    // Logplex's frame ids; one that comes with another body is another.
    let frame = |text: &str| {
        let message = format!("<14>1 2024-01-01T00:00:00Z host app web.1 - {text}\n");
        format!("{} {message}", message.len())
    };
    let heroku = [
        ("content-type", "application/logplex-1"),
        ("logplex-msg-count", "1"),
        ("logplex-frame-id", "09C557EAFCFB6CF2740EE62F62971098"),
    ];
    for text in ["frame", "frame", "another"] {
        http.post("/logs", &source, &heroku, frame(text)).await?.is(200)?;
    }
    for batch in ["1", "1", "2"] {
        let loki = [("content-type", "application/json"), ("spillway-batch-id", batch)];
        let push = r#"{"streams":[{"stream":{},"values":[["1","loki"]]}]}"#;
        http.post("/loki/api/v1/push", &source, &loki, push).await?.is(204)?;
    }
    let texts: Vec<_> = world.lines().await?.iter().map(text).collect();
    ensure!(texts == ["a", "many", "frame", "another", "loki", "loki"], "{texts:?}");
    count_until(&world, &source, "lines", 5).await?;
    count_until(&world, &other, "lines", 1).await
}

#[tokio::test]
async fn a_retry_across_a_kill_adds_what_is_missing_and_nothing_else() -> Result<()> {
    let world = World::new().await?;
    let source = world.app_source().await?;
    let mut http = Http::start(&world, &[]).await?;
    let began = Instant::now();
    http.post("/logs", &source, &[("idempotency-key", "0")], body(0)).await?.is(200)?;
    let took = began.elapsed();
    let (rounds, mut cut) = (6, 0);
    for round in 1..=rounds {
        let key = round.to_string();
        let headers = [("idempotency-key", key.as_str())];
        let kill = async {
            // Before, between and after its blocks.
            sleep(took * u32::try_from(round)? / u32::try_from(rounds)?).await;
            http.process.signal(Signal::KILL)
        };
        let (sent, killed) = tokio::join!(http.post("/logs", &source, &headers, body(round)), kill);
        killed?;
        cut += u32::from(sent.is_err());
        http.process.ended(DEADLINE).await?;
        http = Http::start(&world, &[]).await?;
        http.post("/logs", &source, &headers, body(round)).await?.is(200)?;
    }
    ensure!(cut > 0, "no request was cut");
    let records = world.records().await?;
    let lines = world.lines().await?;
    for round in 0..=rounds {
        let prefix = format!("{round}-");
        let texts: Vec<_> = lines.iter().map(text).filter(|it| it.starts_with(&prefix)).collect();
        ensure!(texts.len() == 20_000, "round {round} has {} lines", texts.len());
        let of = |n: usize| texts[n].starts_with(&format!("{round}-{n} "));
        ensure!((0..20_000).all(of), "round {round} is out of order");
    }
    let producer = records[0].origin.producer;
    let of_first: Vec<_> = records.iter().filter(|it| it.origin.producer == producer).collect();
    ensure!((0..20_000).zip(&of_first).all(|(seq, record)| record.seq == seq));
    Ok(())
}
