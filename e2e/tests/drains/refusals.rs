//! Answers of HTTPS endpoints, and what becomes of the lines.

use std::time::Duration;

use anyhow::Result;
use e2e::https_receiver::{Answer, HttpsReceiver};
use e2e::wait;
use tokio::time::sleep;

use crate::content::received;
use crate::{DEADLINE, World};

#[tokio::test]
async fn a_503_is_retried_with_the_same_batch() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    receiver.answer_in_turn(vec![Answer::status(503), Answer::Close, Answer::retry_after(429, 1)]);
    let drain = world.https(&receiver).await?;
    let _worker = world.worker()?;
    let mut session = world.session();
    world.append(&[session.numbered(0..100)]).await?;
    world.state_until(drain, "all", |state| state.delivered == 100 && !state.failing).await?;
    session.check(&received(&receiver)?)?;
    let requests = receiver.requests();
    assert_eq!(requests.len(), 4);
    // The one that was not answered may have been taken.
    assert_eq!(world.repeated(drain).await?, 100);
    for request in &requests {
        assert_eq!(request.header("spillway-batch-id"), requests[0].header("spillway-batch-id"));
        assert_eq!(request.body, requests[0].body);
    }
    assert!(requests[3].at.duration_since(requests[2].at)? >= Duration::from_millis(900));
    Ok(())
}

#[tokio::test]
async fn a_413_halves_the_batch() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    receiver.answer_by(|request| Answer::status(if request.body.len() > 5000 { 413 } else { 200 }));
    let drain = world.https(&receiver).await?;
    let _worker = world.worker()?;
    let mut session = world.session();
    world.append(&[session.numbered(0..100)]).await?;
    let state = world.state_until(drain, "all", |state| state.delivered == 100).await?;
    assert_eq!(state.rejected, 0);
    session.check(&received(&receiver)?)
}

#[tokio::test]
async fn a_400_costs_only_the_line_that_it_is_about() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    receiver.answer_by(|request| {
        let body = String::from_utf8_lossy(&request.body);
        Answer::status(if body.contains("line 42 of") { 400 } else { 200 })
    });
    let drain = world.https(&receiver).await?;
    let _worker = world.worker()?;
    let mut session = world.session();
    world.append(&[session.numbered(0..100)]).await?;
    let state = world
        .state_until(drain, "all", |state| state.delivered == 99 && state.rejected == 1)
        .await?;
    assert!(!state.failing);
    assert_eq!(received(&receiver)?.len(), 99);
    let row =
        world.admin.query_one("select line->>'message', reason from rejected_lines", &[]).await?;
    assert_eq!(row.get::<_, String>(0), "line 42 of the session");
    assert!(row.get::<_, String>(1).contains("400"));
    Ok(())
}

#[tokio::test]
async fn a_401_parks_the_drain_until_its_credentials_change() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    receiver.answer_by(|request| {
        Answer::status(if request.header("authorization") == "Bearer new" { 200 } else { 401 })
    });
    let drain = world.https(&receiver).await?;
    let _worker = world.worker()?;
    let mut session = world.session();
    world.append(&[session.numbered(0..100)]).await?;
    let state = world.state_until(drain, "the refusal", |state| state.failing).await?;
    assert!(state.error.contains("401"), "{state:?}");
    assert!(!state.error.contains("token-of-the-test"), "{state:?}");
    assert_eq!((state.delivered, state.rejected), (0, 0));

    let sealed = world
        .key
        .sealing_key()
        .seal(drain.uuid(), br#"{"headers": {"Authorization": "Bearer new"}}"#);
    world.admin.execute("update log_drains set sealed_credentials = $1", &[&sealed]).await?;
    world.change(drain, "updated_at = now()").await?;
    world.state_until(drain, "all", |state| state.delivered == 100 && !state.failing).await?;
    session.check(&received(&receiver)?)
}

#[tokio::test]
async fn an_endpoint_that_refuses_every_line_fails_and_gets_the_rest_when_it_is_mended()
-> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    let page = format!("<h1>out of cheese</h1>{}", "x".repeat(20_000));
    receiver.answer_by(move |_| {
        let body = page.clone().into();
        Answer::Body { status: 400, headers: Vec::new(), body }
    });
    let drain = world.https(&receiver).await?;
    let _worker = world.worker()?;
    let mut session = world.session();
    world.append(&[session.numbered(0..300)]).await?;
    let failing = |state: &crate::State| state.failing && state.rejected >= 100;
    let state = world.state_until(drain, "the failure", failing).await?;
    // The answer is quoted although it is too long to be read to its end.
    assert!(state.error.contains("the last 100 lines were all refused"), "{state:?}");
    assert!(state.error.contains("400") && state.error.contains("out of cheese"), "{state:?}");
    assert_eq!((state.delivered, state.rejected), (0, 100));
    receiver.answer_by(|_| Answer::status(200));
    world.change(drain, "updated_at = now()").await?;
    // The position is before the block of the refused lines, so those are sent again, too.
    world.state_until(drain, "all", |state| state.delivered == 300 && !state.failing).await?;
    session.check(&received(&receiver)?)
}

#[tokio::test]
async fn a_redirect_is_not_followed() -> Result<()> {
    let world = World::new().await?;
    let (receiver, elsewhere) = (HttpsReceiver::start().await?, HttpsReceiver::start().await?);
    let location = elsewhere.url();
    receiver.answer_by(move |_| Answer::Status {
        status: 307,
        headers: vec![("location".to_owned(), location.clone())],
        after: Duration::ZERO,
    });
    let drain = world.https(&receiver).await?;
    let _worker = world.worker()?;
    let mut session = world.session();
    world.append(&[session.numbered(0..10)]).await?;
    let state = world.state_until(drain, "the failure", |state| state.failing).await?;
    assert!(state.error.contains("307") && state.error.contains("not followed"), "{state:?}");
    assert_eq!((state.delivered, state.rejected, elsewhere.requests().len()), (0, 0, 0));
    Ok(())
}

#[tokio::test]
async fn a_drain_that_gets_another_endpoint_while_it_delivers_leaves_no_gap() -> Result<()> {
    let world = World::new().await?;
    let (first, second) = (HttpsReceiver::start().await?, HttpsReceiver::start().await?);
    let drain = world.https(&first).await?;
    let _worker = world.worker()?;
    let mut session = world.session();
    for block in 0..100 {
        world.append(&[session.numbered(block * 10..block * 10 + 10)]).await?;
        sleep(Duration::from_millis(10)).await;
        if block == 50 {
            let (url, ca) = (second.url(), second.authority());
            let destination = serde_json::json!({ "url": url, "ca_certificates": ca }).to_string();
            world.change(drain, &format!("destination = '{destination}'")).await?;
        }
    }
    world.state_until(drain, "all", |state| state.delivered >= 1000).await?;
    let (before, after) = (received(&first)?, received(&second)?);
    assert!(before.len() >= 500 && !after.is_empty(), "{} and {}", before.len(), after.len());
    session.check(&[before, after].concat())
}

#[tokio::test]
async fn a_paused_drain_sends_nothing_and_then_everything() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    let drain = world.https(&receiver).await?;
    let _worker = world.worker()?;
    let mut session = world.session();
    world.append(&[session.numbered(0..10)]).await?;
    world.state_until(drain, "the beginning", |state| state.delivered == 10).await?;
    world.change(drain, "paused_at = now()").await?;
    wait::until_true("the pause", DEADLINE, async || {
        let free = "select count(*) from drain_leases where expires_at < now()";
        Ok(world.admin.query_one(free, &[]).await?.get::<_, i64>(0) == 1)
    })
    .await?;
    world.append(&[session.numbered(10..20)]).await?;
    world.state_until(drain, "the lag", |state| state.lag_records == 1).await?;
    assert_eq!(received(&receiver)?.len(), 10);
    world.change(drain, "paused_at = null").await?;
    world.state_until(drain, "the rest", |state| state.delivered == 20).await?;
    session.check(&received(&receiver)?)?;
    assert_eq!(received(&receiver)?.len(), 20);
    Ok(())
}
