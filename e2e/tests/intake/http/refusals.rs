//! Who and what is not taken.

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{Http, count, count_until};
use crate::{World, token};

#[tokio::test]
async fn a_sender_without_a_good_token_is_refused_and_counted() -> Result<()> {
    let world = World::new().await?;
    let (source, disabled) = (world.app_source().await?, world.app_source().await?);
    let statement = "update log_sources set disabled_at = now() where id = $1";
    world.admin.execute(statement, &[&disabled.id.uuid()]).await?;
    let http = Http::start(&world, &[]).await?;
    let paths = ["/logs", "/v1/logs", "/loki/api/v1/push"];
    let json = ("content-type", "application/json");
    let rotated = format!("{}{}", source.token.split_at(7).0, token().split_at(7).1);
    for path in paths {
        let unknown = format!("Bearer {}", token());
        let answer = http.post_as(path, &[json], "x").await?.is(401)?;
        if path != "/v1/logs" {
            ensure!(answer.json()?["type"] == "urn:spillway:problem:no-token", "{answer:?}");
        }
        http.post_as(path, &[json, ("authorization", &unknown)], "x").await?.is(401)?;
        let wrong = format!("Bearer {rotated}");
        http.post_as(path, &[json, ("authorization", &wrong)], "x").await?.is(401)?;
        http.post(path, &disabled, &[json], "x").await?.is(403)?;
    }
    // Splunk's own words.
    let hec = "/services/collector/event";
    let splunk = async |authorization: &str| {
        http.post_as(hec, &[("authorization", authorization)], r#"{"event":"x"}"#).await
    };
    let said = http.post_as(hec, &[], "x").await?.is(401)?.json()?;
    ensure!(said == json!({"text": "Token is required", "code": 2}), "{said}");
    let said = splunk(&format!("Splunk {rotated}")).await?.is(403)?.json()?;
    ensure!(said == json!({"text": "Invalid token", "code": 4}), "{said}");
    let said = splunk(&format!("Splunk {}", disabled.token)).await?.is(403)?.json()?;
    ensure!(said == json!({"text": "Token disabled", "code": 1}), "{said}");
    ensure!(world.lines().await?.is_empty());
    count_until(&world, &source, "refused", 4).await?;
    count_until(&world, &disabled, "refused", 4).await?;
    let row = world
        .admin
        .query_one(
            "select last_refusal from log_source_counts where source_id = $1",
            &[&disabled.id.uuid()],
        )
        .await?;
    ensure!(row.get::<_, String>(0).contains("disabled"));
    // Every scheme with a good token.
    splunk(&format!("Splunk {}", source.token)).await?.is(200)?;
    for basic in [format!("user:{}", source.token), format!("{}:", source.token)] {
        let basic = format!("Basic {}", STANDARD.encode(basic));
        http.post_as("/logs", &[("authorization", &basic)], "x").await?.is(200)?;
    }
    ensure!(world.lines().await?.len() == 3);
    Ok(())
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_a_bomb_is_not_inflated() -> Result<()> {
    let world = World::new().await?;
    let source = world.app_source().await?;
    let http = Http::start(&world, &["--intake-http-body-bytes", "1048576"]).await?;
    http.post("/logs", &source, &[], vec![b'x'; 1 << 20]).await?.is(200)?;
    http.post("/logs", &source, &[], vec![b'x'; (1 << 20) + 1]).await?.is(413)?;
    // Far more than waits in the network's buffers.
    http.post("/logs", &source, &[], vec![b'x'; 64 << 20]).await?.is(413)?;
    let splunk = http.post("/services/collector/raw", &source, &[], vec![b'x'; 2 << 20]).await?;
    splunk.is(413)?;
    let before = memory(&http)?;
    let gib = std::io::repeat(b'x');
    let bomb = zstd::encode_all(std::io::Read::take(gib, 1 << 30), 3)?;
    ensure!(bomb.len() < 200_000);
    for _ in 0..10 {
        let answer = http.post("/logs", &source, &[("content-encoding", "zstd")], bomb.clone());
        let answer = answer.await?.is(413)?;
        ensure!(answer.json()?["type"] == "urn:spillway:problem:too-large", "{answer:?}");
    }
    let grown = memory(&http)?.saturating_sub(before);
    ensure!(grown < 32 << 10, "the intake has grown by {grown} KiB");
    // A length that it does not have.
    let snappy = [("content-type", "application/x-protobuf")];
    let claim = b"\xff\xff\xff\xff\x0f".to_vec();
    http.post("/loki/api/v1/push", &source, &snappy, claim).await?.is(413)?;
    let tiny = "a\n".repeat(500_000);
    http.post("/logs", &source, &[], tiny).await?.is(413)?;
    ensure!(world.lines().await?.len() == 1);
    Ok(())
}

/// KiB of memory that the process uses.
fn memory(http: &Http) -> Result<u64> {
    let pid = http.process.pid()?.as_raw_pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[tokio::test]
async fn what_cannot_be_understood_is_refused_in_words() -> Result<()> {
    let world = World::new().await?;
    let source = world.app_source().await?;
    let http = Http::start(&world, &[]).await?;
    let is = async |path: &str, header: (&str, &str), status: u16| {
        let answer = http.post(path, &source, &[header], "x").await?.is(status)?;
        ensure!(answer.body.len() > 20, "{answer:?}");
        anyhow::Ok(())
    };
    is("/logs", ("content-encoding", "br"), 415).await?;
    is("/logs", ("content-encoding", "gzip"), 400).await?;
    is("/logs", ("content-encoding", "zstd"), 400).await?;
    is("/logs", ("content-type", "application/x-www-form-urlencoded"), 415).await?;
    is("/logs", ("content-type", "application/json"), 400).await?;
    is("/logs", ("content-type", "application/logplex-1"), 400).await?;
    is("/logs", ("idempotency-key", "with space"), 400).await?;
    is("/v1/logs", ("content-type", "text/plain"), 415).await?;
    is("/v1/logs", ("content-type", "application/json"), 400).await?;
    is("/v1/logs", ("content-type", "application/x-protobuf"), 400).await?;
    is("/loki/api/v1/push", ("content-type", "text/plain"), 415).await?;
    is("/loki/api/v1/push", ("content-type", "application/json"), 400).await?;
    is("/loki/api/v1/push", ("content-type", "application/x-protobuf"), 400).await?;
    let said = http.post("/services/collector", &source, &[], " ").await?.is(400)?.json()?;
    ensure!(said == json!({"text": "No data", "code": 5}), "{said}");
    let said = http.post("/services/collector", &source, &[], "x").await?.is(400)?.json()?;
    let wanted = json!({"text": "Invalid data format", "code": 6, "invalid-event-number": 0});
    ensure!(said == wanted, "{said}");
    ensure!(http.post("/logs", &source, &[], "").await?.is(200)?.json()?["accepted"] == 0);
    http.post("/nowhere", &source, &[], "x").await?.is(404)?;
    for (path, status) in [("/logs", 405), ("/nowhere", 404), ("/livez", 204), ("/ready", 200)] {
        let answer = http.client.get(format!("{}{path}", http.url)).send().await?;
        ensure!(answer.status().as_u16() == status, "{path}");
    }
    let health = format!("{}/services/collector/health", http.url);
    let said = http.client.get(health).send().await?.json::<serde_json::Value>().await?;
    ensure!(said["code"] == 17, "{said}");
    ensure!(world.lines().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn who_sends_too_much_is_told_when_to_come_again() -> Result<()> {
    let world = World::new().await?;
    let source = world.app_source().await?;
    let quota = ["--intake-source-bytes-per-second", "1000", "--intake-source-burst-bytes", "5000"];
    let http = Http::start(&world, &quota).await?;
    http.post("/logs", &source, &[], "x".repeat(5000)).await?.is(200)?;
    let answer = http.post("/logs", &source, &[], "y".repeat(2500)).await?.is(429)?;
    let wait = answer.retry_after.context("no Retry-After")?;
    ensure!((1..=3).contains(&wait), "{wait}");
    let splunk = http.post("/services/collector/raw", &source, &[], "y".repeat(2500)).await?;
    ensure!(splunk.is(429)?.json()?["code"] == 9);
    tokio::time::sleep(std::time::Duration::from_secs(wait)).await;
    http.post("/logs", &source, &[], "y".repeat(2500)).await?.is(200)?;
    ensure!(world.lines().await?.len() == 2);
    count_until(&world, &source, "throttled", 2).await?;
    ensure!(count(&world, &source, "refused").await? == 0);
    Ok(())
}
