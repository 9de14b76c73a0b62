//! What one tenant sends and uses up is its own.

use anyhow::{Context as _, Result, ensure};
use e2e::wait;

use super::{Http, count_until};
use crate::{DEADLINE, World, text};

#[tokio::test]
async fn a_source_writes_to_its_own_environment_only_whatever_the_handles() -> Result<()> {
    let world = World::new().await?;
    let other = world.other_tenant().await?;
    let ours = world.app_source().await?;
    let theirs = world.source_in(&other.environment, "app_id", other.app).await?;
    let http = Http::start(&world, &[]).await?;
    // What a line says of itself moves it nowhere.
    let line = |whose: &str, claimed: &crate::OtherTenant| {
        let (environment, organization) =
            (claimed.environment.id, claimed.environment.organization);
        format!(
            r#"{{"message":"{whose}","environment_id":"{environment}","organization":"{organization}"}}"#
        )
    };
    let json = [("content-type", "application/x-ndjson")];
    for _ in 0..20 {
        http.post("/logs", &ours, &json, line("ours", &other)).await?.is(200)?;
        http.post("/logs", &theirs, &json, line("theirs", &other)).await?.is(200)?;
    }
    for (environment, app, wanted) in
        [(&world.environment, world.app, "ours"), (&other.environment, other.app, "theirs")]
    {
        let records = world.records_of(environment).await?;
        ensure!(records.len() == 20, "{} records are {wanted}", records.len());
        for record in records {
            ensure!(record.origin.environment == *environment, "{record:?}");
            ensure!(
                record.origin.app.as_ref().is_some_and(|tag| tag.id.uuid() == app),
                "{record:?}"
            );
            let model::Event::Line(line) = &record.event else { continue };
            ensure!(text(line) == wanted, "{record:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_environments_quota_holds_for_all_its_sources_and_for_nobody_else() -> Result<()> {
    let world = World::new().await?;
    let other = world.other_tenant().await?;
    let (greedy, modest) = (world.app_source().await?, world.database_source().await?);
    let theirs = world.source_in(&other.environment, "app_id", other.app).await?;
    let set = "update environments set intake_bytes_per_second = 1, intake_burst_bytes = 8192
         where id = $1";
    world.admin.execute(set, &[&world.environment.id.uuid()]).await?;
    // Their own quotas have room for all of it.
    let http = Http::start(&world, &["--intake-source-burst-bytes", "1000000"]).await?;
    http.post("/logs", &greedy, &[], vec![b'x'; 8192]).await?.is(200)?;
    for source in [&greedy, &modest] {
        // Each has a little for itself, whatever others take.
        http.post("/logs", source, &[], vec![b'x'; 4096]).await?.is(200)?;
        let answer = http.post("/logs", source, &[], vec![b'x'; 4096]).await?.is(429)?;
        let wait = answer.retry_after.context("no Retry-After")?;
        ensure!(wait > 60, "a byte a second, and {wait} seconds");
        count_until(&world, source, "throttled", 1).await?;
    }
    http.post("/logs", &theirs, &[], vec![b'x'; 8192]).await?.is(200)?;
    ensure!(world.lines().await?.len() == 3);
    // Whoever sets it does not have to start anything again.
    let set = "update environments set intake_bytes_per_second = null, intake_burst_bytes = null";
    world.admin.execute(set, &[]).await?;
    wait::until_true("the quota to be gone", DEADLINE, async || {
        Ok(http.post("/logs", &modest, &[], vec![b'x'; 4096]).await?.status == 200)
    })
    .await
}
