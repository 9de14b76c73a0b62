//! What was answered with 2xx is in the stream, whatever fails.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::postgres::{TestCluster, TestDatabase};
use e2e::wait;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::Http;
use crate::{DEADLINE, World, text, token};

#[tokio::test]
async fn without_postgresql_nothing_is_acknowledged() -> Result<()> {
    let database = TestDatabase::of_own_cluster(TestCluster::start().await?).await?;
    let mut world = World::over(database).await?;
    let source = world.app_source().await?;
    let mut http = Http::start(&world, &[]).await?;
    http.post("/logs", &source, &[], "before").await?.is(200)?;
    world.database.cluster().context("its own")?.stop().await?;
    let began = Instant::now();
    let key = [("idempotency-key", "1")];
    // Nor is it said that a token is wrong, which shippers give up at.
    let unknown = format!("Bearer {}", token());
    let unknown = [("authorization", unknown.as_str()), ("content-type", "application/json")];
    let (plain, keyed, splunk, unknown, otlp) = tokio::try_join!(
        http.post("/logs", &source, &[], "during"),
        http.post("/logs", &source, &key, "with a key"),
        http.post("/services/collector/raw", &source, &[], "as splunk"),
        http.post_as("/services/collector/raw", &unknown, "x"),
        http.post_as("/v1/logs", &unknown, "x"),
    )?;
    ensure!(began.elapsed() < Duration::from_secs(20));
    for answer in [plain, keyed, splunk, unknown, otlp] {
        let answer = answer.is(503)?;
        ensure!(answer.retry_after.is_some_and(|wait| wait > 0), "{answer:?}");
    }
    world.database.cluster().context("its own")?.start_again().await?;
    http.process.check_running()?;
    // The connection to the old server is gone.
    world.admin = world.database.connect().await?;
    http.post("/logs", &source, &[], "after").await?.is(200)?;
    http.post("/logs", &source, &key, "with a key").await?.is(200)?;
    let texts: Vec<_> = world.lines().await?.iter().map(text).collect();
    ensure!(texts.first().is_some_and(|text| text == "before"), "{texts:?}");
    let once = |wanted: &str| texts.iter().filter(|text| *text == wanted).count() == 1;
    ensure!(once("after") && once("with a key"), "{texts:?}");
    Ok(())
}

#[tokio::test]
async fn a_database_that_hangs_keeps_no_sender_waiting_for_ever() -> Result<()> {
    let database = TestDatabase::of_own_cluster(TestCluster::start().await?).await?;
    let mut world = World::over(database).await?;
    let source = world.app_source().await?;
    let http = Http::start(&world, &[]).await?;
    world.database.cluster().context("its own")?.freeze()?;
    let began = Instant::now();
    let unknown = format!("Bearer {}", token());
    let unknown = [("authorization", unknown.as_str())];
    let (plain, keyed, unknown) = tokio::try_join!(
        http.post("/logs", &source, &[], "x"),
        http.post("/logs", &source, &[("idempotency-key", "1")], "x"),
        http.post_as("/logs", &unknown, "x"),
    )?;
    let took = began.elapsed();
    world.database.cluster().context("its own")?.unfreeze()?;
    ensure!(took < Duration::from_secs(20), "{took:?}");
    for answer in [plain, keyed, unknown] {
        ensure!(answer.is(503)?.retry_after.is_some());
    }
    http.post("/logs", &source, &[], "x").await?.is(200)?;
    Ok(())
}

#[tokio::test]
async fn lines_that_wait_for_a_database_that_hangs_hold_their_bodies_room() -> Result<()> {
    let database = TestDatabase::of_own_cluster(TestCluster::start().await?).await?;
    let mut world = World::over(database).await?;
    let source = world.app_source().await?;
    let http = Http::start(&world, &[]).await?;
    world.database.cluster().context("its own")?.freeze()?;
    // One short line, and nothing else in all of the body.
    let mut body = vec![b'\n'; 8 << 20];
    body[0] = b'a';
    let send = async || {
        let answers = (0..8).map(|_| http.post("/logs", &source, &[], body.clone()));
        let answers = futures_util::future::try_join_all(answers).await?;
        let kinds = answers.into_iter().map(|answer| {
            let kind = answer.is(503)?.json()?["type"].as_str().unwrap_or_default().to_owned();
            anyhow::Ok(kind)
        });
        kinds.collect::<Result<Vec<_>>>()
    };
    let first = send().await?;
    let waited = first.iter().filter(|kind| kind.ends_with("not-durable")).count();
    // Nobody waits for those any more, and the lane still has them.
    let again = send().await?;
    world.database.cluster().context("its own")?.unfreeze()?;
    ensure!((1..8).contains(&waited), "{first:?}");
    let taken = waited + again.iter().filter(|kind| !kind.ends_with("busy")).count();
    // A source has 48 MiB.
    ensure!(taken <= 6, "{first:?}, then {again:?}");
    wait::until_true("room for a body", DEADLINE, async || {
        Ok(http.post("/logs", &source, &[], body.clone()).await?.status == 200)
    })
    .await
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_and_a_stop_is_orderly() -> Result<()> {
    let world = World::new().await?;
    let source = world.app_source().await?;
    let mut acknowledged = BTreeSet::new();
    for round in 0..4 {
        let mut http = Http::start(&world, &[]).await?;
        let began = Instant::now();
        let senders = (0..8).map(|sender| {
            let (http, source) = (&http, &source);
            async move {
                let mut taken = Vec::new();
                for n in 0.. {
                    let line = format!("{round}-{sender}-{n}");
                    match http.post("/logs", source, &[], line.clone()).await {
                        Ok(answer) if answer.status == 200 => taken.push(line),
                        Ok(answer) if answer.status != 503 => anyhow::bail!("{answer:?}"),
                        _ => break,
                    }
                }
                Ok(taken)
            }
        });
        let end = async {
            sleep(Duration::from_millis(400)).await;
            let signal = if round % 2 == 0 { Signal::KILL } else { Signal::TERM };
            http.process.signal(signal)
        };
        let (taken, ended) = tokio::join!(futures_util::future::join_all(senders), end);
        ended?;
        let status = http.process.ended(DEADLINE).await?;
        if round % 2 == 1 {
            ensure!(status.success(), "{status}");
            ensure!(
                began.elapsed() < Duration::from_secs(8),
                "its stop took {:?}",
                began.elapsed()
            );
        }
        for taken in taken {
            acknowledged.extend(taken?);
        }
    }
    let found: BTreeSet<_> = world.lines().await?.iter().map(text).collect();
    let lost: Vec<_> = acknowledged.difference(&found).collect();
    ensure!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), acknowledged.len());
    ensure!(acknowledged.len() > 50, "only {}", acknowledged.len());
    Ok(())
}
