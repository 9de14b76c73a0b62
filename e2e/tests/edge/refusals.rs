//! A refused session says why, in one sentence, and exits with status 1.

use anyhow::Result;
use e2e::docker::docker;
use e2e::process;

use crate::fixture::{DEADLINE, Fixture, WEB, app, environment, member, organization, story, user};

async fn refused(fixture: &Fixture, user_name: &str, options: &[&str]) -> Result<String> {
    let mut ssh = fixture.ssh.ssh(user_name, options);
    ssh.arg("true");
    let finished = process::finish(ssh, DEADLINE).await?;
    assert_eq!(finished.status.code(), Some(1), "{}", finished.error_text());
    assert_eq!(finished.text(), "");
    let sentence = finished.error_text();
    assert_eq!(sentence.lines().count(), 1, "{sentence}");
    Ok(sentence)
}

#[tokio::test]
async fn what_is_forbidden_and_what_does_not_exist_look_the_same() -> Result<()> {
    let fixture = Fixture::start().await?;
    let no_access = "spillway: there is no such app, or you may not open a session of it\n";
    assert_eq!(refused(&fixture, "nothing.production", &[]).await?, no_access);
    assert_eq!(refused(&fixture, "web.staging", &[]).await?, no_access);
    assert_eq!(refused(&fixture, "web.production.other", &[]).await?, no_access);

    let client = &fixture.client;
    let stranger = organization(client, "strangers").await?;
    let theirs = environment(client, stranger, "theirs").await?;
    app(client, theirs, "web", "any").await?;
    assert_eq!(refused(&fixture, "web.theirs", &[]).await?, no_access);
    assert_eq!(refused(&fixture, "web.theirs.strangers", &[]).await?, no_access);

    for role in ["viewer", "auditor"] {
        member(client, fixture.organization, fixture.engineer.id, role).await?;
        assert_eq!(refused(&fixture, WEB, &[]).await?, no_access);
    }
    assert!(fixture.sessions().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn no_session_opens_while_records_cannot_be_kept() -> Result<()> {
    let fixture = Fixture::start().await?;
    fixture.client.batch_execute("revoke insert on stream.blocks from spillway_edge").await?;
    let sentence = refused(&fixture, WEB, &[]).await?;
    assert!(sentence.contains("records cannot be kept"), "{sentence}");
    let refused = fixture.sessions().await?[0];

    let grant = "grant insert (id, made_at, environment_id, header, payload) \
        on stream.blocks to spillway_edge";
    fixture.client.batch_execute(grant).await?;
    let next = fixture.run(&[], "echo open").await?;
    assert_eq!(next.text(), "open\n", "{}", next.error_text());
    assert_eq!(fixture.closed(refused).await?.0, "refused");
    // What was begun is in the stream after all, with its end.
    assert_eq!(story(&fixture.records(refused).await?).last(), Some(&"session_ended"));
    Ok(())
}

#[tokio::test]
async fn missing_image_is_named_and_the_attempt_is_kept() -> Result<()> {
    let fixture = Fixture::start().await?;
    let missing = "example.test/none:1";
    fixture.client.execute("update apps set image = $1", &[&missing]).await?;
    let sentence = refused(&fixture, WEB, &[]).await?;
    assert!(sentence.contains("the image example.test/none:1 of the app web"), "{sentence}");
    let (state, reason) = fixture.closed(fixture.sessions().await?[0]).await?;
    assert_eq!(state, "refused");
    assert!(reason.contains("docker pull"), "{reason}");
    Ok(())
}

#[tokio::test]
async fn handles_in_two_organizations_need_the_third_part() -> Result<()> {
    let fixture = Fixture::start().await?;
    let client = &fixture.client;
    let other = organization(client, "other").await?;
    member(client, other, fixture.engineer.id, "owner").await?;
    let production = environment(client, other, "production").await?;
    app(client, production, "web", "any").await?;
    let sentence = refused(&fixture, WEB, &[]).await?;
    assert!(sentence.contains("app.environment.organization"), "{sentence}");
    let mut ssh = fixture.ssh.ssh("web.production.acme", &[]);
    ssh.arg("echo in");
    assert_eq!(process::succeed(ssh, DEADLINE).await?.text(), "in\n");
    Ok(())
}

#[tokio::test]
async fn subsystems_wrong_names_and_a_missing_docker_are_told() -> Result<()> {
    let fixture =
        Fixture::start_with(&["--ssh-docker-host", "unix:///nowhere/docker.sock"]).await?;
    assert!(refused(&fixture, "root", &[]).await?.contains("sign in as app.environment"));
    let mut sftp = fixture.ssh.ssh(WEB, &["-s"]);
    sftp.arg("sftp");
    let sftp = process::finish(sftp, DEADLINE).await?;
    assert!(sftp.error_text().contains("the subsystem sftp is not offered"));
    assert_eq!(sftp.status.code(), Some(1));
    let sentence = refused(&fixture, WEB, &[]).await?;
    assert!(sentence.contains("the container runtime does not answer"), "{sentence}");
    Ok(())
}

#[tokio::test]
async fn forwarding_is_refused() -> Result<()> {
    let fixture = Fixture::start().await?;
    let remote = ["-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1"];
    let finished = fixture.run(&remote, "true").await?;
    assert_eq!(finished.status.code(), Some(255), "{}", finished.error_text());
    let mut jump = fixture.ssh.ssh(WEB, &["-W", "127.0.0.1:22"]);
    jump.stdin(std::process::Stdio::null());
    assert_eq!(process::finish(jump, DEADLINE).await?.status.code(), Some(255));
    // An agent that is offered is not used, and the session goes on.
    assert_eq!(fixture.run(&["-A", "-X"], "echo on").await?.text(), "on\n");
    Ok(())
}

#[tokio::test]
async fn two_engineers_do_not_see_each_other() -> Result<()> {
    let fixture = Fixture::start().await?;
    let key = fixture.new_key("bob").await?;
    let bob = user(&fixture.client, "bob@acme.test", "Bob", key).await?;
    member(&fixture.client, fixture.organization, bob.id, "engineer").await?;
    let bobs = fixture.ssh_with(&bob.key.private)?;
    let mut his = bobs.ssh(WEB, &[]);
    his.arg("echo bob > /tmp/secret; sleep 3; ps -o comm | grep -c sleep; cat /tmp/secret");
    let hers = async {
        e2e::wait::until_true("his session", DEADLINE, async || {
            Ok(!fixture.sessions().await?.is_empty())
        })
        .await?;
        fixture.run(&[], "sleep 2; cat /tmp/secret 2>/dev/null; ps -o comm | grep -c sleep").await
    };
    let (his, hers) = tokio::try_join!(process::finish(his, DEADLINE), hers)?;
    assert_eq!(his.text(), "0\nbob\n", "{}", his.error_text());
    assert_eq!(hers.text(), "0\n", "{}", hers.error_text());
    let mut emails = Vec::new();
    for session in fixture.sessions().await? {
        let records = fixture.records(session).await?;
        emails.extend(
            records
                .last()
                .and_then(|last| last.origin.session.as_ref().map(|tag| tag.user_email.clone())),
        );
    }
    assert_eq!(emails, ["bob@acme.test", "ada@acme.test"]);
    Ok(())
}

#[tokio::test]
async fn secrets_do_not_show_in_docker_inspect() -> Result<()> {
    let fixture = Fixture::start().await?;
    let sealed = fixture.opening_key.sealing_key().seal(fixture.app.uuid(), b"hunter2-hunter2");
    let statement =
        "insert into app_variables (app_id, name, sealed_value) values ($1, 'PASSWORD', $2)";
    fixture.client.execute(statement, &[&fixture.app.uuid(), &sealed]).await?;
    let run = fixture.run(&[], "echo ${#PASSWORD}; sleep 3");
    let inspect = async {
        let label = e2e::wait::until("the container", DEADLINE, async || {
            let sessions = fixture.sessions().await?;
            let Some(session) = sessions.first() else { return Ok(None) };
            let label = format!("dev.spillway.session={session}");
            Ok((!e2e::docker::containers(&label).await?.is_empty()).then_some(label))
        })
        .await?;
        let ids = e2e::docker::containers(&label).await?;
        let mut inspect = docker(&["inspect"]);
        inspect.args(ids);
        Ok(process::succeed(inspect, DEADLINE).await?.text())
    };
    let (run, inspect) = tokio::try_join!(run, inspect)?;
    assert_eq!(run.text(), "15\n");
    assert!(inspect.contains("no-new-privileges") && !inspect.contains("hunter2"));
    Ok(())
}
