//! A line of an app's own log reaches the customer's log endpoints, and whoever reads it in a terminal.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::docker::TestImage;
use e2e::endpoints::Endpoints;
use e2e::platform::Platform;
use e2e::{process, wait};
use serde_json::Value;
use tokio::process::Command;

const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_line_of_an_app_reaches_both_endpoints_and_the_terminal() -> Result<()> {
    let image = TestImage::Busybox.ensure().await?;
    let platform = Platform::with_app(&image, &[]).await?;
    let endpoints = Endpoints::create(&platform.cli(), platform.folder()).await?;
    let cli = platform.cli();
    let place = ["--environment", "production"];
    let create = [&["source", "create", "web-logs", "--app", "web"][..], &place].concat();
    let created = cli.json(&create).await?;
    let token = created.get("token").and_then(Value::as_str).context("a token")?;

    // As the README says it.
    let mut curl = Command::new("curl");
    curl.args(["--fail", "--silent", "--show-error", &format!("{}/logs", platform.intake())]);
    curl.args(["-H", &format!("Authorization: Bearer {token}")]);
    curl.args(["-H", "Content-Type: application/x-ndjson", "-H", "Idempotency-Key: batch-1"]);
    curl.args(["-d", r#"{"level":"error","message":"payment failed","order":7}"#]);
    let answer: Value = serde_json::from_str(&process::succeed(curl, DEADLINE).await?.text())?;
    ensure!(answer.get("accepted") == Some(&Value::from(1)), "{answer}");

    let arrived = async || {
        let arrivals = endpoints.arrivals()?.concat();
        let found: Vec<_> =
            arrivals.into_iter().filter(|line| line.message == "payment failed").collect();
        Ok((found.len() == 2).then_some(found))
    };
    for line in wait::until("the line at both endpoints", DEADLINE, arrived).await? {
        assert_eq!((line.field("event"), line.field("app")), ("line", "web"));
        assert_eq!(line.field("source"), "app");
    }
    let logs = [&["logs", "--app", "web", "--severity", "error", "--since", "5m"][..], &place];
    let printed = cli.run(&logs.concat()).await?.text();
    ensure!(printed.contains("payment failed"), "{printed}");
    wait::until_true("the count", DEADLINE, async || {
        let shown = cli.json(&[&["source", "show", "web-logs"][..], &place].concat()).await?;
        Ok(shown.get("lines") == Some(&Value::from(1)))
    })
    .await
}
