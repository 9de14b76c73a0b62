//! What a drain's row tells of it, and what can be asked of a drain: to send refused lines again, to
//! leave out its backlog, to try a configuration.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use e2e::https_receiver::{Answer, HttpsReceiver};
use e2e::wait;
use model::{Id, User};
use serde_json::{Value, json};
use store::Store;
use store::drain_tests::{DrainConfiguration, DrainToTest};
use uuid::Uuid;

use crate::{DEADLINE, World};

pub(crate) async fn user(world: &World) -> Result<Id<User>> {
    let user = Id::generate();
    let insert = format!(
        "insert into users (id, email, name, password_hash) values ('{user}', 'a', 'a', '')"
    );
    world.admin.batch_execute(&insert).await?;
    Ok(user)
}

#[tokio::test]
async fn what_a_drain_did_is_counted_and_its_connection_shown() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    let drain = world.https(&receiver).await?;
    let _worker = world.worker()?;
    let mut session = world.session();
    world.append(&[session.numbered(0..100)]).await?;
    world.state_until(drain, "all", |state| state.delivered == 100).await?;
    let minutes = "select from drain_minutes having sum(delivered_lines) = 100";
    wait::until("the minutes", DEADLINE, async || Ok(world.admin.query_opt(minutes, &[]).await?))
        .await?;
    let row = world
        .admin
        .query_one(
            "select delivered_bytes, repeated_lines, connection::text,
                 (select sum(delivered_lines)::bigint from drain_minutes m
                  where m.drain_id = p.drain_id),
                 (select sum(delivered_bytes)::bigint from drain_minutes m
                  where m.drain_id = p.drain_id)
             from drain_positions p where drain_id = $1",
            &[&drain.uuid()],
        )
        .await?;
    let bytes: usize = receiver.requests().iter().map(|request| request.body.len()).sum();
    assert_eq!(row.get::<_, i64>(0), i64::try_from(bytes)?);
    assert_eq!((row.get::<_, i64>(1), row.get::<_, Option<i64>>(3)), (0, Some(100)));
    assert_eq!(row.get::<_, Option<i64>>(4), Some(i64::try_from(bytes)?));
    let connection: Value = serde_json::from_str(&row.get::<_, String>(2))?;
    let port = receiver.address().port().to_string();
    assert!(connection["address"].as_str().unwrap_or_default().ends_with(&port), "{connection}");
    assert_eq!(connection["tls_version"], "TLSv1.3");
    for time in ["certificate_expires_at", "since"] {
        assert!(connection[time].as_str().is_some_and(|text| text.ends_with('Z')), "{connection}");
    }
    Ok(())
}

#[tokio::test]
async fn refused_lines_are_sent_again_when_that_is_asked() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = mended.clone();
    receiver.answer_by(move |request| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let forty_two = body.contains("line 42 of") && !is_mended.load(Ordering::Relaxed);
        Answer::status(if forty_two || body.contains("line 43 of") { 400 } else { 200 })
    });
    let drain = world.https(&receiver).await?;
    let _worker = world.worker()?;
    let mut session = world.session();
    world.append(&[session.numbered(0..100)]).await?;
    world.state_until(drain, "all", |state| state.delivered == 98 && state.rejected == 2).await?;

    mended.store(true, Ordering::Relaxed);
    let api = Store::connect(&world.database.api_url()?, 2)?;
    assert_eq!(api.ask_resend(drain, None, user(&world).await?).await?, 2);
    let written = world.admin.query_one("select action, detail from activity", &[]).await?;
    let written: [String; 2] = [written.get(0), written.get(1)];
    assert_eq!(written, ["log_drain.resent", "2 refused lines"]);
    world.state_until(drain, "the mended line", |state| state.delivered == 99).await?;
    let left = wait::until("the other to be refused again", DEADLINE, async || {
        let left = api.rejected_lines(drain, None, 10).await?;
        Ok((left.len() == 1 && left[0].resend_requested_at.is_none()).then_some(left))
    })
    .await?;
    assert_eq!(left[0].line["message"], "line 43 of the session");
    let got: Vec<_> = receiver.accepted_lines()?;
    let of = |message: &str| got.iter().filter(|line| line["message"] == message).count();
    assert_eq!((of("line 42 of the session"), of("line 43 of the session")), (1, 0));
    assert_eq!(got.last().map(|line| &line["message"]), Some(&json!("line 42 of the session")));
    Ok(())
}

#[tokio::test]
async fn a_drain_that_skips_goes_on_from_now_and_counts_what_it_left_out() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    receiver.answer_by(|_| Answer::status(503));
    let drain = world.https(&receiver).await?;
    let _worker = world.worker()?;
    let mut session = world.session();
    for part in 0..3 {
        world.append(&[session.numbered(part * 10..part * 10 + 10)]).await?;
    }
    world.state_until(drain, "a failure", |state| state.failing).await?;
    let api = Store::connect(&world.database.api_url()?, 2)?;
    assert!(api.skip_log_drain(drain, user(&world).await?).await?.is_some());
    let skipped = "select 1 from drain_positions where skipped_records = 3 and delivered_lines = 0";
    wait::until("the skip", DEADLINE, async || Ok(world.admin.query_opt(skipped, &[]).await?))
        .await?;
    // Not before: what is tried again until then would be delivered.
    receiver.answer_by(|_| Answer::status(200));
    world.append(&[session.numbered(30..40)]).await?;
    world.state_until(drain, "what came then", |state| state.delivered == 10).await?;
    let told = "select 1 from activity where action = 'log_drain.skipped' and actor = 'a'";
    assert!(world.admin.query_opt(told, &[]).await?.is_some());
    let first = receiver.accepted_lines()?.into_iter().find(|line| line["event"] == "output");
    assert_eq!(first.map(|line| line["message"].clone()), Some("line 30 of the session".into()));
    Ok(())
}

#[tokio::test]
async fn a_configuration_is_tested_without_being_kept() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    receiver.answer_by(|request| {
        Answer::status(if request.header("authorization") == "Bearer right" { 200 } else { 401 })
    });
    let drain = world.https(&receiver).await?;
    let user = user(&world).await?;
    let _worker = world.worker()?;
    let api = Store::connect(&world.database.api_url()?, 4)?;
    let destination = json!({ "url": receiver.url(), "ca_certificates": receiver.authority() });
    let ask = async |drain, token: Option<&str>| {
        let test = Uuid::now_v7();
        let seal = |token| {
            let credentials = json!({ "token": token }).to_string();
            world.key.sealing_key().seal(test, credentials.as_bytes())
        };
        let configuration = DrainConfiguration {
            environment: world.environment.id,
            drain,
            kind: "https_post",
            settings: json!({ "handle": "new", "destination": destination, "options": {} }),
            sealed_credentials: token.map(seal),
        };
        let subject = DrainToTest::Configuration(configuration.into());
        let answer = api
            .ask_drain_test(test, subject, user, DEADLINE)
            .await?
            .ok_or_else(|| anyhow::anyhow!("no answer: {}", world.worker_log()))?;
        anyhow::Ok((answer.ok, answer.steps))
    };
    let (ok, steps) = ask(None, Some("right")).await?;
    assert!(ok, "{steps}");
    assert_eq!(steps.as_array().map(Vec::len), Some(5), "{steps}");
    let changed = Some((drain, 7));
    let drain = Some((drain, 1));
    for (drain, token) in [(None, Some("wrong")), (None, None), (drain, None), (changed, None)] {
        let (ok, steps) = ask(drain, token).await?;
        assert!(!ok && steps[4]["detail"].as_str().unwrap_or_default().contains("401"), "{steps}");
    }
    // Without credentials of its own it has the drain's, if that is as it was looked at.
    let sent: Vec<_> =
        receiver.requests().iter().map(|it| it.header("authorization").to_owned()).collect();
    assert_eq!(sent, ["Bearer right", "Bearer wrong", "", "Bearer token-of-the-test", ""]);
    let kept = "select 1 from drain_tests where sealed_credentials is not null";
    assert!(world.admin.query_opt(kept, &[]).await?.is_none());
    Ok(())
}
