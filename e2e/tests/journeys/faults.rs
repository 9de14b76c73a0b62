//! What dies, and what does not: services killed in mid-stream, and a database that is away.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::docker::{self, TestImage};
use e2e::endpoints::Endpoints;
use e2e::process;
use e2e::services::{Service, Services};
use e2e::terminal::Terminal;
use e2e::wait;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

const DEADLINE: Duration = Duration::from_mins(1);

async fn services_with_endpoints() -> Result<(Services, Endpoints)> {
    let image = TestImage::Busybox.ensure().await?;
    let services = Services::with_app(&image).await?;
    let endpoints = Endpoints::create(&services.cli(), services.folder()).await?;
    Ok((services, endpoints))
}

/// Numbers, in bursts, for some seconds.
fn count_to(last: u32) -> (String, Vec<String>) {
    let script = format!(
        "i=0; while [ $i -lt {last} ]; do i=$((i+1)); echo $i; [ $((i % 50)) = 0 ] && usleep 50000; done"
    );
    (script, (1..=last).map(|n| n.to_string()).collect())
}

async fn session_of(services: &Services) -> Result<Value> {
    let sessions = services.cli().json(&["session", "list"]).await?;
    sessions.get(0).cloned().context("the session is listed")
}

#[tokio::test]
async fn killed_worker_loses_no_line() -> Result<()> {
    let (mut services, endpoints) = services_with_endpoints().await?;
    let (script, numbers) = count_to(6000);
    let ssh = services.cli().command(&["ssh", "--app", "web", "--", &script])?;
    let session = tokio::task::JoinSet::from_iter([process::succeed(ssh, DEADLINE)]);
    for after in [500, 2000] {
        wait::until_true(&format!("{after} lines at both"), DEADLINE, async || {
            Ok(endpoints.arrivals()?.iter().all(|arrivals| arrivals.len() > after))
        })
        .await?;
        services.kill(Service::Worker).await?;
        services.start(Service::Worker).await?;
    }
    let shown = session.join_all().await.pop().context("the session")??.text();
    assert_eq!(shown.lines().collect::<Vec<_>>(), numbers);
    assert_eq!(endpoints.whole_session(DEADLINE).await?, numbers);
    Ok(())
}

#[tokio::test]
async fn killed_edge_leaves_no_container_and_an_aborted_session() -> Result<()> {
    let (mut services, endpoints) = services_with_endpoints().await?;
    let ssh = services.openssh().await?.ssh("web.production", &["-tt"]);
    let mut terminal = Terminal::start(ssh, 80, 24)?;
    terminal.wait_for("# ", 1, DEADLINE).await?;
    terminal.type_in("echo seen-by-$((40 + 2))\r")?;
    terminal.wait_for("seen-by-42", 1, DEADLINE).await?;
    let session = session_of(&services).await?;
    let id = session["id"].as_str().context("it has an id")?.to_owned();
    let label = format!("dev.spillway.session={id}");
    assert_eq!(docker::containers(&label).await?.len(), 1);

    services.kill(Service::Edge).await?;
    let killed = Instant::now();
    terminal.ended(DEADLINE).await?;
    services.start(Service::Edge).await?;
    wait::until_true("the container to be gone", DEADLINE, async || {
        Ok(docker::containers(&label).await?.is_empty())
    })
    .await?;
    wait::until_true("the session to be aborted", DEADLINE, async || {
        Ok(services.cli().json(&["session", "show", &id]).await?["state"] == "aborted")
    })
    .await?;
    let lines = endpoints.whole_session(DEADLINE).await?;
    assert!(killed.elapsed() < DEADLINE, "it took {:?}", killed.elapsed());
    assert!(lines.iter().any(|line| line == "seen-by-42"), "{lines:?}");
    for arrivals in endpoints.arrivals()? {
        let end =
            arrivals.iter().find(|a| a.field("event") == "session_ended").context("an end")?;
        assert!(end.message.contains("aborted"), "{}", end.message);
    }
    Ok(())
}

#[tokio::test]
async fn output_waits_while_the_database_is_away_and_nothing_is_missing() -> Result<()> {
    let (mut services, endpoints) = services_with_endpoints().await?;
    let (script, numbers) = count_to(4000);
    let output = services.folder().join("output");
    let mut ssh: Command = services.openssh().await?.ssh("web.production", &["-T"]);
    let mut ssh = ssh
        .arg(&script)
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&output)?)
        .kill_on_drop(true)
        .spawn()?;
    let shown = || -> Result<u64> { Ok(std::fs::metadata(&output)?.len()) };
    wait::until_true("output", DEADLINE, async || Ok(shown()? > 500)).await?;

    let cluster = services.database().cluster().context("it has its own")?;
    cluster.stop().await?;
    // The fault itself takes ten seconds; nothing is awaited here. What was durable before it may
    // still be on its way in the first of them.
    sleep(Duration::from_secs(1)).await;
    let at_stop = shown()?;
    sleep(Duration::from_secs(9)).await;
    assert_eq!(shown()?, at_stop, "output was shown that cannot have been recorded");
    assert!(ssh.try_wait()?.is_none(), "the session ended");
    let cluster = services.database().cluster().context("it has its own")?;
    cluster.start_again().await?;

    let status = tokio::time::timeout(DEADLINE, ssh.wait()).await??;
    assert!(status.success(), "{status}");
    let text = std::fs::read_to_string(&output)?;
    assert_eq!(text.lines().collect::<Vec<_>>(), numbers);
    assert_eq!(endpoints.whole_session(DEADLINE).await?, numbers);
    Ok(())
}
