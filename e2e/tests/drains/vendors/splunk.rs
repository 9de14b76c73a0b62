//! Splunk's HTTP Event Collector, with and without acknowledgement by an indexer.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use e2e::https_receiver::{Answer, Received};
use e2e::wait;
use serde_json::{Value, json};

use super::{Vendor, all_different, ids};
use crate::DEADLINE;

/// Splunk's events, one after another.
pub(super) fn events(body: &[u8]) -> Vec<Value> {
    serde_json::Deserializer::from_slice(body).into_iter().filter_map(Result::ok).collect()
}

/// What the collector says of a request, apart from its acknowledgement.
pub(super) fn collector(request: &Received) -> Option<Answer> {
    if request.header("authorization") != "Splunk t0ken" {
        return Some(Answer::json(403, &json!({ "text": "Invalid token", "code": 4 })));
    }
    if uuid::Uuid::parse_str(request.header("x-splunk-request-channel")).is_err() {
        return Some(Answer::json(400, &json!({ "text": "Invalid data channel", "code": 11 })));
    }
    if request.path != "/services/collector/event" {
        return None;
    }
    for (number, event) in events(&request.body).iter().enumerate() {
        let blank = event["event"].as_str().is_some_and(|text| text.trim().is_empty());
        let flat = event["fields"].as_object().is_some_and(|it| it.values().all(Value::is_string));
        let code = if blank || event["event"].is_null() { 13 } else { 15 };
        let refused = event["event"].as_str().is_some_and(|text| text.contains("line 42 of"));
        if refused || blank || !flat || !event["time"].is_string() {
            let said = json!({ "text": "bad", "code": code, "invalid-event-number": number });
            return Some(Answer::json(400, &said));
        }
    }
    Some(Answer::json(200, &json!({ "text": "Success", "code": 0 })))
}

#[tokio::test]
async fn splunk_keeps_what_stands_before_a_refused_event_and_gets_the_rest_once() -> Result<()> {
    let destination = json!({ "index": "main", "acknowledge": false });
    let mut vendor =
        Vendor::start("splunk_hec", destination, "", json!({ "token": "t0ken" })).await?;
    vendor.receiver.answer_by(|request| collector(request).unwrap_or(Answer::status(404)));
    let blank = vendor.session.output("\n \n");
    vendor.world.append(&[blank]).await?;
    vendor.session().await?;
    vendor.delivered(102, 1).await?;
    // The one with the refused event: those before it are taken.
    let mut taken = Vec::new();
    for request in vendor.receiver.requests() {
        let mut events = events(&request.body);
        if !request.is_accepted() {
            let bad = |event: &Value| {
                event["event"].as_str().is_some_and(|text| text.contains("line 42 of"))
            };
            events.truncate(events.iter().position(bad).context("no refused event")?);
        }
        taken.extend(events);
    }
    let ids = ids(&taken, "/fields/id");
    assert!(ids.len() == 102 && all_different(&ids), "{}", ids.len());
    assert_eq!(taken[2]["host"], "production");
    assert_eq!((&taken[2]["source"], &taken[2]["index"]), (&json!("web"), &json!("main")));
    assert_eq!(taken[2]["fields"]["user_email"], "ada@example.com");
    let begin = vendor.session.shown.windows(8).position(|at| at == b"line 42 ").unwrap_or(0);
    let id = vendor.id_at(begin, begin + "line 42 of the session\r\n".len());
    let rejected = vendor.rejected().await?;
    assert_eq!(rejected.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), [id]);
    assert!(rejected[0].1.contains("400 Bad Request"), "{}", rejected[0].1);
    Ok(())
}

#[tokio::test]
async fn splunk_lines_count_when_an_indexer_has_acknowledged_them() -> Result<()> {
    let destination = json!({ "acknowledge": true });
    let mut vendor =
        Vendor::start("splunk_hec", destination, "", json!({ "token": "t0ken" })).await?;
    let is_indexed = Arc::new(AtomicBool::new(false));
    let (mut next_id, indexed) = (0, is_indexed.clone());
    vendor.receiver.answer_by(move |request| {
        if let Some(Answer::Body { status: 200, .. }) = collector(request) {
            let body = json!({ "text": "Success", "code": 0, "ackId": next_id });
            next_id += 1;
            let headers = vec![("set-cookie".to_owned(), "AWSALB=node1; Path=/".to_owned())];
            return Answer::Body { status: 200, headers, body: body.to_string().into() };
        }
        let channel = request.header("x-splunk-request-channel");
        if request.path != format!("/services/collector/ack?channel={channel}")
            || request.header("cookie") != "AWSALB=node1"
        {
            return Answer::json(400, &json!({ "text": "ACK is disabled", "code": 14 }));
        }
        let wanted: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let ids = wanted["acks"].as_array().cloned().unwrap_or_default();
        let indexed = indexed.load(Ordering::SeqCst);
        let acks: serde_json::Map<_, _> =
            ids.iter().map(|id| (id.to_string(), json!(indexed))).collect();
        Answer::json(200, &json!({ "acks": acks }))
    });
    let lines = vendor.session.numbered(0..40);
    vendor.world.append(&[lines]).await?;
    wait::until_true("the first question", DEADLINE, async || {
        Ok(vendor.receiver.requests().iter().any(|request| request.path.contains("/ack")))
    })
    .await?;
    assert_eq!(vendor.world.state(vendor.drain).await?.delivered, 0);
    is_indexed.store(true, Ordering::SeqCst);
    vendor.delivered(40, 0).await?;
    let requests = vendor.receiver.requests();
    let sent = requests.iter().filter(|request| request.path.ends_with("/event")).count();
    let asked = requests.len() - sent;
    assert!(asked >= 2, "{asked} questions");
    let all: Vec<Value> = requests
        .iter()
        .filter(|request| request.path.ends_with("/event"))
        .flat_map(|request| events(&request.body))
        .collect();
    assert_eq!(all.len(), 40);
    Ok(())
}

#[tokio::test]
async fn splunk_that_loses_count_of_acknowledgements_gets_everything_again() -> Result<()> {
    let destination = json!({ "acknowledge": true });
    let mut vendor =
        Vendor::start("splunk_hec", destination, "", json!({ "token": "t0ken" })).await?;
    let channels = Arc::new(Mutex::new(Vec::<String>::new()));
    let (known, mut next_id) = (channels.clone(), 0);
    vendor.receiver.answer_by(move |request| {
        let channel = request.header("x-splunk-request-channel").to_owned();
        let mut channels = known.lock().unwrap_or_else(PoisonError::into_inner);
        if !channels.contains(&channel) {
            channels.push(channel);
        }
        // In the first channel every request has the same id.
        let is_first = channels.len() == 1;
        if request.path.ends_with("/event") {
            next_id += u64::from(!is_first);
            return Answer::json(200, &json!({ "text": "Success", "code": 0, "ackId": next_id }));
        }
        let wanted: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let ids = wanted["acks"].as_array().cloned().unwrap_or_default();
        let acks: serde_json::Map<_, _> =
            ids.iter().map(|id| (id.to_string(), json!(!is_first))).collect();
        Answer::json(200, &json!({ "acks": acks }))
    });
    let one = vendor.session.numbered(0..10);
    vendor.world.append(&[one]).await?;
    wait::until_true("the first", DEADLINE, async || Ok(!vendor.receiver.requests().is_empty()))
        .await?;
    let other = vendor.session.numbered(10..20);
    vendor.world.append(&[other]).await?;
    vendor.world.state_until(vendor.drain, "all", |state| state.delivered == 20).await?;
    let channels = channels.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(channels.len() >= 2, "{channels:?}");
    let again: Vec<Value> = vendor
        .receiver
        .requests()
        .iter()
        .filter(|it| it.path.ends_with("/event"))
        .filter(|it| it.header("x-splunk-request-channel") != channels[0])
        .flat_map(|it| events(&it.body))
        .collect();
    let ids: HashSet<String> = ids(&again, "/fields/id").into_iter().collect();
    assert_eq!(ids.len(), 20, "all of it came in the other channels");
    Ok(())
}

#[tokio::test]
async fn answers_about_lines_that_were_not_sent_settle_nothing() -> Result<()> {
    let credentials = json!({ "token": "t0ken" });
    let mut vendor = Vendor::start("splunk_hec", json!({}), "", credentials).await?;
    let mut answers = [u64::MAX, 1000, 101].into_iter();
    vendor.receiver.answer_by(move |request| match answers.next() {
        Some(number) => Answer::json(503, &json!({ "code": 9, "invalid-event-number": number })),
        None => collector(request).unwrap_or(Answer::status(404)),
    });
    vendor.session().await?;
    vendor.delivered(100, 1).await
}
