//! Vendors that take a part of what they are sent, or less at a time.

use anyhow::Result;
use e2e::https_receiver::{Answer, Received};
use serde_json::{Value, json};

use super::splunk::{collector, events};
use super::{Vendor, ids};

/// OpenTelemetry's answer to a request of which it has refused a part.
#[derive(Clone, PartialEq, prost::Message)]
struct Exported {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_log_records: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

fn protobuf(status: u16, body: &impl prost::Message) -> Answer {
    Answer::Body { status, headers: Vec::new(), body: body.encode_to_vec().into() }
}

fn has(request: &Received, text: &str) -> bool {
    request.body.windows(text.len()).any(|at| at == text.as_bytes())
}

#[tokio::test]
async fn opentelemetry_refuses_a_record_in_a_200() -> Result<()> {
    let mut vendor = Vendor::start("otlp_http", json!({}), "/v1/logs", json!({})).await?;
    vendor.receiver.answer_by(|request| {
        let rejected = i64::from(has(request, "line 42 of"));
        let error_message = "the record is not wanted".to_owned();
        let partial = PartialSuccess { rejected_log_records: rejected, error_message };
        protobuf(200, &Exported { partial_success: Some(partial).filter(|_| rejected > 0) })
    });
    vendor.session().await?;
    vendor.delivered(100, 1).await?;
    let rejected = vendor.rejected().await?;
    assert_eq!(rejected.len(), 1);
    assert!(rejected[0].1.contains("the record is not wanted"), "{}", rejected[0].1);
    Ok(())
}

#[tokio::test]
async fn opentelemetry_says_in_protobuf_what_is_wrong() -> Result<()> {
    let credentials = json!({ "headers": { "api-key": "s3cretk3y" } });
    let mut vendor = Vendor::start("otlp_http", json!({}), "/v1/logs", credentials).await?;
    vendor.receiver.answer_by(|_| {
        protobuf(403, &Status { code: 7, message: "the key s3cretk3y has expired".to_owned() })
    });
    vendor.session().await?;
    vendor.failing("403 Forbidden (the key *** has expired)").await
}

#[tokio::test]
async fn loki_refuses_an_entry_and_keeps_the_others() -> Result<()> {
    let mut vendor = Vendor::start("loki", json!({}), "", json!({})).await?;
    vendor.receiver.answer_by(|request| {
        let words = "entry for stream {} has timestamp too old";
        if has(request, "line 42 of") {
            return Answer::Body { status: 400, headers: Vec::new(), body: words.into() };
        }
        Answer::status(204)
    });
    vendor.session().await?;
    vendor.delivered(100, 1).await?;
    assert!(vendor.rejected().await?[0].1.contains("has timestamp too old"));
    Ok(())
}

#[tokio::test]
async fn datadog_takes_less_at_a_time_and_refuses_an_entry() -> Result<()> {
    let credentials = json!({ "token": "k3y" });
    let mut vendor = Vendor::start("datadog", json!({}), "/api/v2/logs", credentials).await?;
    vendor.receiver.answer_by(|request| {
        let entries = request.lines().unwrap_or_default();
        let refused = has(request, "line 42 of");
        Answer::json(
            if entries.len() > 20 {
                413
            } else if refused {
                400
            } else {
                202
            },
            &json!({}),
        )
    });
    vendor.session().await?;
    vendor.delivered(100, 1).await?;
    let taken = vendor.receiver.accepted_lines()?;
    assert_eq!((taken.len(), ids(&taken, "/spillway/id").len()), (100, 100));
    Ok(())
}

#[tokio::test]
async fn sumo_logic_that_is_busy_is_sent_the_same_again() -> Result<()> {
    let mut vendor = Vendor::start("sumologic", json!({}), "/receiver", json!({})).await?;
    vendor.receiver.answer_in_turn(vec![Answer::retry_after(429, 1), Answer::status(503)]);
    vendor.session().await?;
    vendor.delivered(101, 0).await?;
    let requests = vendor.receiver.requests();
    assert!(requests.len() >= 3);
    assert!(requests[..3].iter().all(|request| request.body == requests[0].body));
    assert!(requests[1].at.duration_since(requests[0].at)?.as_millis() >= 900);
    Ok(())
}

#[tokio::test]
async fn elasticsearch_that_may_not_write_keeps_the_backlog_waiting() -> Result<()> {
    let mut vendor = Vendor::start("elasticsearch", json!({ "index": "a" }), "", json!({})).await?;
    vendor.receiver.answer_by(|request| {
        let count = request.lines().map_or(0, |lines| lines.len() / 2);
        let error = json!({ "type": "security_exception", "reason": "may not create" });
        let item = json!({ "create": { "status": 403, "error": error } });
        Answer::json(200, &json!({ "errors": true, "items": vec![item; count] }))
    });
    vendor.session().await?;
    vendor.failing("403 for a line (security_exception: may not create)").await?;
    let state = vendor.world.state(vendor.drain).await?;
    assert_eq!((state.delivered, state.rejected), (0, 0));
    Ok(())
}

#[tokio::test]
async fn splunk_gets_events_and_requests_that_it_does_not_cut() -> Result<()> {
    let destination = json!({ "acknowledge": false });
    let credentials = json!({ "token": "t0ken" });
    let mut vendor = Vendor::start("splunk_hec", destination, "", credentials).await?;
    vendor.receiver.answer_by(|request| {
        // TRUNCATE of props.conf, and max_content_length of limits.conf as Splunk Cloud has it.
        let fits = |event: &Value| event["event"].as_str().is_some_and(|text| text.len() <= 10_000);
        if request.body.len() > 1_000_000 || !events(&request.body).iter().all(fits) {
            return Answer::status(413);
        }
        collector(request).unwrap_or(Answer::status(404))
    });
    let long = "\u{20ac}".repeat(1_000_000);
    let lines = vendor.session.output(format!("{long}\n"));
    vendor.world.append(&[lines]).await?;
    vendor.all_came().await?;
    let requests = vendor.receiver.requests();
    assert!(requests.iter().all(Received::is_accepted), "nothing was refused on the way");
    let all: Vec<Value> = requests.iter().flat_map(|request| events(&request.body)).collect();
    let pieces: Vec<_> =
        all.iter().filter(|event| event["fields"]["continued"] == "true").collect();
    assert!(pieces.len() > 300, "{} pieces", pieces.len());
    let text: String = all.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(text, format!("{long}the last line"));
    Ok(())
}
