//! An engineer's session reaches the customer's log endpoints.

use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::arrivals::without_a_gap;
use e2e::docker::TestImage;
use e2e::endpoints::Endpoints;
use e2e::platform::Platform;
use e2e::process;
use e2e::terminal::Terminal;
use e2e::wait;

const DEADLINE: Duration = Duration::from_secs(30);

async fn platform_with_endpoints() -> Result<(Platform, Endpoints)> {
    let image = TestImage::Busybox.ensure().await?;
    let platform = Platform::with_app(&image, &[]).await?;
    let endpoints = Endpoints::create(&platform.cli(), platform.folder()).await?;
    Ok((platform, endpoints))
}

#[tokio::test]
async fn lines_of_a_shell_in_a_terminal_reach_both_endpoints() -> Result<()> {
    let (platform, endpoints) = platform_with_endpoints().await?;
    let place = ["--environment", "production"];
    let configure = [&["app", "configure", "web", "GREETING=Hello there"][..], &place].concat();
    platform.cli().run(&configure).await?;

    let ssh = ["ssh", "--app", "web", "--reason", "a journey"];
    let mut terminal = Terminal::start(platform.cli().command(&ssh)?, 100, 30)?;
    terminal.wait_for("# ", 1, DEADLINE).await?;
    terminal.type_in("echo $GREETING; stty size\r")?;
    terminal.wait_for("30 100", 1, DEADLINE).await?;
    terminal.resize(80, 20)?;
    terminal.type_in("stty size\r")?;
    terminal.wait_for("20 80", 1, DEADLINE).await?;
    terminal.type_in("echo asleep; sleep 60\r")?;
    terminal.wait_for("asleep", 2, DEADLINE).await?;
    terminal.type_in("\x03")?;
    terminal.wait_for("^C", 1, DEADLINE).await?;
    terminal.type_in("exit 7\r")?;
    assert_eq!(terminal.ended(DEADLINE).await?.code(), Some(7));

    let lines = endpoints.whole_session(DEADLINE).await?;
    for line in ["Hello there", "30 100", "20 80"] {
        assert!(lines.iter().any(|found| found == line), "{line} is not among {lines:?}");
    }
    let shown: String = terminal.text().split_whitespace().collect();
    // What was shown last was recorded, too.
    assert!(shown.ends_with("exit7"), "{shown}");
    assert!(lines.concat().contains("exit 7"));
    let [_, https] = endpoints.arrivals()?;
    let told: Vec<&str> =
        https.iter().filter(|a| !a.is_output()).map(|a| a.field("event")).collect();
    for event in ["session_started", "pty", "shell", "resize", "exit", "session_ended"] {
        assert!(told.contains(&event), "{event} is not among {told:?}");
    }
    let started = https.iter().find(|a| a.field("event") == "session_started");
    assert!(started.context("it started")?.message.contains("a journey"));
    Ok(())
}

#[tokio::test]
async fn plain_openssh_has_pipes_statuses_and_two_outputs() -> Result<()> {
    let (platform, endpoints) = platform_with_endpoints().await?;
    let ssh = platform.openssh().await?;
    let mut command = ssh.ssh("web.production", &["-T"]);
    command.arg("tr a-z A-Z; echo to-stderr >&2; exit 42");
    let finished = process::finish_with_input(command, b"piped\n".to_vec(), DEADLINE).await?;
    assert_eq!(finished.status.code(), Some(42));
    assert_eq!((finished.text(), finished.error_text()), ("PIPED\n".into(), "to-stderr\n".into()));

    assert_eq!(endpoints.whole_session(DEADLINE).await?, ["PIPED"]);
    let [syslog, https] = endpoints.arrivals()?;
    for arrivals in [syslog, https] {
        let session = arrivals.first().context("lines")?.field("session_id").to_owned();
        assert_eq!(without_a_gap(&arrivals, &session, "stderr")?.1, ["to-stderr"]);
        let exit = arrivals.iter().find(|a| a.field("event") == "exit").context("an exit")?;
        assert!(exit.message.contains("42"), "{}", exit.message);
    }
    let sessions = platform.cli().json(&["session", "list", "--environment", "production"]).await?;
    let session = sessions.get(0).context("it is listed")?;
    assert_eq!(session["state"], "ended");
    assert_eq!(session["exit_code"], 42);
    Ok(())
}

#[tokio::test]
async fn paused_drain_misses_nothing_once_it_goes_on() -> Result<()> {
    let (platform, endpoints) = platform_with_endpoints().await?;
    let cli = platform.cli();
    let place = ["--environment", "production"];
    let drain = |verb: &'static str| [&["drain", verb, "https"][..], &place].concat();
    let test = cli.json(&drain("test")).await?;
    assert_eq!(test["ok"], true, "{test}");
    let before = endpoints.https.requests().len();
    assert!(before > 0);

    cli.run(&drain("pause")).await?;
    let session = cli.run(&["ssh", "--app", "web", "--", "seq 1 1000"]).await?;
    assert_eq!(session.text().lines().count(), 1000);
    // The other drain is not held up by the paused one.
    wait::until_true("the session's end at rsyslog", DEADLINE, async || {
        let [syslog, _] = endpoints.arrivals()?;
        Ok(syslog.iter().any(|arrival| arrival.field("event") == "session_ended"))
    })
    .await?;
    assert_eq!(endpoints.https.requests().len(), before);
    assert_eq!(cli.json(&drain("show")).await?["state"], "paused");

    cli.run(&drain("resume")).await?;
    let lines = endpoints.whole_session(DEADLINE).await?;
    assert_eq!(lines, (1..=1000).map(|n| n.to_string()).collect::<Vec<_>>());
    wait::until_true("the drain to be active and at the head", DEADLINE, async || {
        let status = cli.json(&drain("show")).await?;
        Ok(status["state"] == "active" && status["lag_records"] == 0)
    })
    .await
}
