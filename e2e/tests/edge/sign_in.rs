//! Certificates and keys; every failure looks the same.

use std::path::Path;

use anyhow::{Context as _, Result};
use e2e::process;
use tokio::process::Command;
use uuid::Uuid;

use crate::fixture::{DEADLINE, Fixture, WEB};

/// A session as the api would have requested it, and a certificate for it.
async fn certified(fixture: &Fixture, options: &[&str]) -> Result<(Uuid, std::path::PathBuf)> {
    let session = Uuid::now_v7();
    fixture
        .client
        .execute(
            "insert into ephemeral_sessions
                 (id, organization_id, environment_id, app_id, user_id, state, reason)
             values ($1, $2, $3, $4, $5, 'requested', 'ticket 42')",
            &[
                &session,
                &fixture.organization.uuid(),
                &fixture.environment.uuid(),
                &fixture.app.uuid(),
                &fixture.engineer.id.uuid(),
            ],
        )
        .await?;
    let key = fixture.new_key(&format!("once-{session}")).await?;
    let mut sign = Command::new("ssh-keygen");
    sign.args(["-q", "-I", &session.to_string(), "-O", "clear", "-O", "permit-pty"]);
    sign.arg("-s").arg(fixture.folder.path().join("user-ca"));
    let given = |option: &str| options.contains(&option);
    if !given("-n") {
        sign.args(["-n", &session.to_string()]);
    }
    if !given("-V") {
        sign.args(["-V", "-1m:+1m"]);
    }
    sign.args(options).arg(key.private.with_extension("pub"));
    process::succeed(sign, DEADLINE).await?;
    Ok((session, key.private))
}

async fn as_session(fixture: &Fixture, session: Uuid, key: &Path) -> Result<process::Finished> {
    let certificate = format!("CertificateFile={}-cert.pub", key.display());
    let ssh = fixture.ssh_with(key)?;
    let mut ssh = ssh.ssh(&session.to_string(), &["-o", &certificate]);
    ssh.arg("echo in");
    process::finish(ssh, DEADLINE).await
}

#[tokio::test]
async fn certificate_opens_its_session_once() -> Result<()> {
    let fixture = Fixture::start().await?;
    let (session, key) = certified(&fixture, &[]).await?;
    let first = as_session(&fixture, session, &key).await?;
    assert_eq!(first.text(), "in\n", "{}", first.error_text());
    let second = as_session(&fixture, session, &key).await?;
    assert_eq!(second.status.code(), Some(1));
    assert!(second.error_text().contains("ask for a new session"), "{}", second.error_text());
    let records = fixture.records(fixture.sessions().await?[0]).await?;
    let model::Event::SessionStarted(started) = &records.first().context("no record")?.event else {
        panic!("no start");
    };
    assert_eq!(started.auth_method, "certificate");
    assert_eq!(started.reason.as_deref(), Some("ticket 42"));
    Ok(())
}

#[tokio::test]
async fn role_is_asked_again_at_the_door() -> Result<()> {
    let fixture = Fixture::start().await?;
    let (session, key) = certified(&fixture, &[]).await?;
    fixture.client.execute("update memberships set role = 'viewer'", &[]).await?;
    let refused = as_session(&fixture, session, &key).await?;
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.error_text().contains("you may not open a session"));
    assert_eq!(fixture.closed(fixture.sessions().await?[0]).await?.0, "refused");
    Ok(())
}

#[tokio::test]
async fn wrong_certificates_and_keys_are_told_nothing() -> Result<()> {
    let fixture = Fixture::start().await?;
    let mut told = Vec::new();
    let (expired, key) = certified(&fixture, &["-V", "-2m:-1m"]).await?;
    told.push(as_session(&fixture, expired, &key).await?);
    let (other, key) = certified(&fixture, &["-n", &Uuid::now_v7().to_string()]).await?;
    told.push(as_session(&fixture, other, &key).await?);
    let (forced, key) = certified(&fixture, &["-O", "force-command=true"]).await?;
    told.push(as_session(&fixture, forced, &key).await?);
    let (session, _) = certified(&fixture, &[]).await?;
    let (_, others_key) = certified(&fixture, &[]).await?;
    told.push(as_session(&fixture, session, &others_key).await?);
    let unknown = fixture.new_key("unknown").await?;
    let mut ssh = fixture.ssh_with(&unknown.private)?.ssh(WEB, &[]);
    ssh.arg("true");
    told.push(process::finish(ssh, DEADLINE).await?);
    for finished in told {
        assert_eq!(finished.status.code(), Some(255));
        let error = finished.error_text();
        assert!(error.trim_end().ends_with("Permission denied (publickey)."), "{error}");
    }
    // Nothing of this has used up the one session that was never opened.
    Ok(())
}

#[tokio::test]
async fn address_that_keeps_failing_is_locked_out_and_disabled_users_stay_out() -> Result<()> {
    let fixture = Fixture::start_with(&["--ssh-max-failures", "2"]).await?;
    fixture.client.execute("update users set disabled_at = now()", &[]).await?;
    for _ in 0..2 {
        assert_eq!(fixture.run(&[], "true").await?.status.code(), Some(255));
    }
    fixture.client.execute("update users set disabled_at = null", &[]).await?;
    let locked = fixture.run(&[], "true").await?;
    assert_eq!(locked.status.code(), Some(255));
    assert!(!locked.error_text().contains("Permission denied"), "{}", locked.error_text());
    e2e::wait::until_true("the lockout ends", DEADLINE, async || {
        Ok(fixture.run(&[], "true").await?.status.success())
    })
    .await
}

#[tokio::test]
async fn client_that_does_not_sign_in_is_disconnected() -> Result<()> {
    use tokio::io::AsyncReadExt as _;
    let fixture = Fixture::start_with(&["--ssh-sign-in-seconds", "1"]).await?;
    let port: u16 = fixture.port()?;
    let socket = tokio::net::TcpSocket::new_v4()?;
    let mut silent = socket.connect(([127, 0, 0, 1], port).into()).await?;
    let mut said = Vec::new();
    tokio::time::timeout(DEADLINE, silent.read_to_end(&mut said)).await??;
    assert!(said.starts_with(b"SSH-2.0-Spillway\r\n"), "{}", String::from_utf8_lossy(&said));
    assert!(fixture.run(&[], "true").await?.status.success());
    Ok(())
}
