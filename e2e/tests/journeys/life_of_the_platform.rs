//! `platform up` starts, stops, and starts again.

use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::docker::{self, TestImage};
use e2e::endpoints::Endpoints;
use e2e::platform::{EMAIL, Platform};
use e2e::process;
use e2e::terminal::Terminal;
use rustix::process::Signal;

const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn interrupted_platform_leaves_nothing_and_continues() -> Result<()> {
    let image = TestImage::Busybox.ensure().await?;
    let mut platform = Platform::with_app(&image, &[]).await?;
    let endpoints = Endpoints::create(&platform.cli(), platform.folder()).await?;
    let ssh = platform.cli().command(&["ssh", "--app", "web"])?;
    let mut terminal = Terminal::start(ssh, 80, 24)?;
    terminal.wait_for("# ", 1, DEADLINE).await?;
    let sessions = platform.cli().json(&["session", "list"]).await?;
    let session = sessions[0]["id"].as_str().context("the session is listed")?.to_owned();
    let label = format!("dev.spillway.session={session}");
    assert_eq!(docker::containers(&label).await?.len(), 1);

    assert!(platform.stop(Signal::INT).await?.success());
    assert_ne!(terminal.ended(DEADLINE).await?.code(), Some(0));
    assert!(docker::containers(&label).await?.is_empty());
    assert!(!platform.data().join("postgres/postmaster.pid").exists());

    platform.start_again().await?;
    let ended = endpoints.sessions_ended(1, DEADLINE).await?;
    assert_eq!(ended, [session]);
    let [syslog, _] = endpoints.arrivals()?;
    let end = syslog.iter().find(|a| a.field("event") == "session_ended").context("its end")?;
    assert!(end.message.contains("aborted"), "{}", end.message);
    assert_eq!(end.field("user_email"), EMAIL);
    // Sign-in, app and keys are those of before.
    let again = platform.cli().run(&["ssh", "--app", "web", "--", "echo again"]).await?;
    assert_eq!(again.text(), "again\n");
    Ok(())
}

#[tokio::test]
async fn second_platform_on_one_folder_is_refused() -> Result<()> {
    let platform = Platform::start(&[]).await?;
    let second = process::finish(platform.up_command()?, DEADLINE).await?;
    assert_eq!(second.status.code(), Some(1));
    assert!(second.error_text().contains("another `platform up` runs on"), "{second:?}");
    Ok(())
}

#[tokio::test]
async fn keys_of_a_first_start_are_for_their_owner_only() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let platform = Platform::start(&[]).await?;
    let keys = platform.data().join("keys");
    let mut count = 0;
    for file in std::fs::read_dir(&keys)? {
        let file = file?;
        let mode = file.metadata()?.permissions().mode() & 0o777;
        let public = file.file_name().to_string_lossy().ends_with(".pub");
        assert!(
            mode.trailing_zeros() >= 6 || public,
            "{} has mode {mode:o}",
            file.path().display()
        );
        count += 1;
    }
    assert!(count >= 8, "{count} files");
    assert_eq!(std::fs::metadata(keys)?.permissions().mode() & 0o077, 0);
    Ok(())
}
