//! Drains that take events only: Slack and webhooks.

use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::https_receiver::{Answer, Received};
use model::Event;
use serde_json::{Value, json};

use super::{HOSTILE, Vendor, all_different, is_signed};

impl Vendor {
    /// Appends a session that begins, runs a command, prints 100 lines, and ends.
    async fn session_of_events(&mut self, command: &[u8]) -> Result<()> {
        let records = [
            self.session.started(),
            self.session.event(Event::Exec { command: command.to_vec() }),
            self.session.numbered(0..99),
            self.session.output(HOSTILE),
            self.session.ended(),
        ];
        self.world.append(&records).await
    }
}

fn text(request: &Received) -> Result<String> {
    let body: Value = serde_json::from_slice(&request.body)?;
    Ok(body["text"].as_str().context("no text")?.to_owned())
}

fn words(status: u16, word: &'static str) -> Answer {
    Answer::Body { status, headers: Vec::new(), body: word.into() }
}

#[tokio::test]
async fn slack_gets_events_and_no_output_and_is_waited_for() -> Result<()> {
    let path = "/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX";
    let mut vendor = Vendor::start("slack", json!({}), path, json!({})).await?;
    let mut busy = true;
    vendor.receiver.answer_by(move |request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let known = request.method == "POST"
            && request.path == path
            && request.header("content-type") == "application/json";
        match &body["text"] {
            _ if !known => words(404, "no_service"),
            // Anything else than plain text would be a mention or a link.
            Value::String(text)
                if !text.is_empty() && text.len() <= 40_000 && !text.contains(['<', '>']) =>
            {
                if std::mem::take(&mut busy) {
                    return Answer::retry_after(429, 2);
                }
                words(200, "ok")
            }
            _ => words(400, "invalid_payload"),
        }
    });
    vendor.session_of_events(b"echo <!channel> && true\nfalse").await?;
    vendor.delivered(3, 0).await?;
    let requests = vendor.receiver.take_requests();
    let [refused, message] = requests.as_slice() else { panic!("{} requests", requests.len()) };
    assert_eq!(refused.body, message.body);
    assert!(message.at.duration_since(refused.at)? >= Duration::from_millis(1900));
    let text = text(message)?;
    let lines: Vec<&str> = text.split('\n').collect();
    assert_eq!(lines.len(), 3, "{text}");
    let has = "production/web ada@example.com: session started: ada@example.com opened web";
    assert!(lines[0].contains(has), "{text}");
    assert!(lines[1].ends_with(": exec: echo &lt;!channel&gt; &amp;&amp; true false"), "{text}");
    assert!(lines[2].contains("session ended"), "{text}");

    // Output alone moves the position, and costs nothing.
    let more = vendor.session.numbered(99..199);
    vendor.world.append(&[more]).await?;
    vendor.world.state_until(vendor.drain, "no lag", |state| state.lag_records == 0).await?;
    assert!(vendor.receiver.requests().is_empty());

    vendor.receiver.answer_by(|_| words(410, "channel_is_archived"));
    let end = vendor.session.ended();
    vendor.world.append(&[end]).await?;
    vendor.failing("410 Gone (channel_is_archived): check the webhook in Slack").await?;
    Ok(())
}

#[tokio::test]
async fn slack_loses_only_the_event_that_it_refuses_and_its_address_is_not_quoted() -> Result<()> {
    let path = "/services/T00000000/B00000000/s3cretOfTheWebhook";
    let mut vendor = Vendor::start("slack", json!({}), path, json!({})).await?;
    vendor.receiver.answer_by(|request| {
        let bad = text(request).unwrap_or_default().contains("exec: bad");
        if bad { words(400, "invalid_payload") } else { words(200, "ok") }
    });
    vendor.session_of_events(b"bad").await?;
    vendor.delivered(2, 1).await?;
    let rejected = vendor.rejected().await?;
    assert_eq!(rejected[0].0, format!("{}:1", vendor.session.origin.producer));
    assert!(rejected[0].1.contains("invalid_payload"), "{}", rejected[0].1);

    vendor.receiver.answer_by(|_| words(403, "no team for s3cretOfTheWebhook"));
    let end = vendor.session.ended();
    vendor.world.append(&[end]).await?;
    vendor.failing("403 Forbidden (no team for ***)").await
}

#[tokio::test]
async fn a_webhook_gets_one_signed_request_an_event() -> Result<()> {
    let secret = b"twenty-four bytes or more";
    let credentials = json!({
        "signing_secret": format!("whsec_{}", STANDARD.encode(secret)), "token": "t0ken",
        "headers": { "X-Team": "platform" }
    });
    let mut vendor = Vendor::start("webhook", json!({}), "/hooks", credentials).await?;
    let mut first = true;
    vendor.receiver.answer_by(move |request| {
        if std::mem::take(&mut first) {
            return Answer::status(503);
        }
        let event: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let refused = event["data"]["message"] == "exec: bad";
        Answer::status(if refused { 422 } else { 204 })
    });
    vendor.session_of_events(b"bad").await?;
    vendor.delivered(2, 1).await?;
    let requests = vendor.receiver.requests();
    assert_eq!(requests.len(), 4);
    for request in &requests {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/hooks"));
        assert_eq!(request.header("content-type"), "application/json");
        assert_eq!(request.header("authorization"), "Bearer t0ken");
        assert_eq!(request.header("x-team"), "platform");
        is_signed(request, secret)?;
    }
    assert_eq!(requests[0].body, requests[1].body);
    assert_eq!(requests[0].header("webhook-id"), requests[1].header("webhook-id"));
    let ids: Vec<_> =
        requests[1..].iter().map(|request| request.header("webhook-id").to_owned()).collect();
    assert!(all_different(&ids), "{ids:?}");
    let events: Vec<Value> = requests[1..]
        .iter()
        .map(|request| serde_json::from_slice(&request.body))
        .collect::<Result<_, _>>()?;
    let types: Vec<_> = events.iter().map(|event| event["type"].as_str()).collect();
    let wanted = ["spillway.session_started", "spillway.exec", "spillway.session_ended"];
    assert_eq!(types, wanted.map(Some));
    assert_eq!(events[0]["timestamp"], events[0]["data"]["time"]);
    assert_eq!(events[0]["data"]["user_email"], "ada@example.com");
    let rejected = vendor.rejected().await?;
    assert_eq!(rejected[0].0, format!("{}:1", vendor.session.origin.producer));
    assert!(rejected[0].1.contains("422"), "{}", rejected[0].1);
    Ok(())
}
