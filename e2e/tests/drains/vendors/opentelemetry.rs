//! OpenTelemetry's logs over HTTP, in protobuf (opentelemetry-proto, `logs/v1/logs.proto`).

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use e2e::https_receiver::Answer;
use prost::Message as _;
use serde_json::json;

use super::{HOSTILE, Vendor, accepted};

#[derive(Clone, PartialEq, prost::Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resource_logs: Vec<ResourceLogs>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceLogs {
    #[prost(message, optional, tag = "1")]
    resource: Option<Attributes>,
    #[prost(message, repeated, tag = "2")]
    scope_logs: Vec<ScopeLogs>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Attributes {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeLogs {
    #[prost(message, repeated, tag = "2")]
    log_records: Vec<LogRecord>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LogRecord {
    #[prost(fixed64, tag = "1")]
    time_unix_nano: u64,
    #[prost(message, optional, tag = "5")]
    body: Option<AnyValue>,
    #[prost(message, repeated, tag = "6")]
    attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "11")]
    observed_time_unix_nano: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AnyValue {
    #[prost(string, tag = "1")]
    string: String,
    #[prost(bytes = "vec", tag = "7")]
    bytes: Vec<u8>,
}

fn attributes(list: &[KeyValue]) -> HashMap<String, String> {
    let pairs = list.iter().map(|pair| {
        (
            pair.key.clone(),
            pair.value.as_ref().map(|value| value.string.clone()).unwrap_or_default(),
        )
    });
    pairs.collect()
}

#[tokio::test]
async fn opentelemetry_gets_protobuf_and_its_outages_cost_nothing() -> Result<()> {
    let credentials = json!({ "headers": { "api-key": "k3y" } });
    let mut vendor = Vendor::start("otlp_http", json!({}), "/v1/logs", credentials).await?;
    let mut answers = vec![Answer::status(500), Answer::status(503)].into_iter();
    vendor.receiver.answer_by(move |request| {
        if request.path != "/v1/logs"
            || request.header("content-type") != "application/x-protobuf"
            || request.header("api-key") != "k3y"
        {
            return Answer::status(400);
        }
        answers.next().unwrap_or(Answer::status(200))
    });
    vendor.session().await?;
    vendor.delivered(101, 0).await?;
    let mut records = Vec::new();
    for request in accepted(&vendor.receiver.requests()) {
        for part in Export::decode(request.body.clone())?.resource_logs {
            let resource = attributes(&part.resource.context("no resource")?.attributes);
            assert_eq!(resource["service.name"], "web");
            assert_eq!(resource["deployment.environment.name"], "production");
            records.extend(part.scope_logs.into_iter().flat_map(|scope| scope.log_records));
        }
    }
    assert_eq!(records.len(), 101);
    let first = attributes(&records[0].attributes);
    assert_eq!(
        (first["user.email"].as_str(), first["log.iostream"].as_str()),
        ("ada@example.com", "stdout")
    );
    assert!(first["spillway.id"].contains(":stdout:0-"));
    assert!(records.iter().all(|it| it.time_unix_nano > 0 && it.observed_time_unix_nano > 0));
    let bodies: Vec<_> = records.iter().filter_map(|record| record.body.clone()).collect();
    assert_eq!(bodies[0].string, "line 0 of the session");
    assert!(bodies.iter().any(|body| body.bytes == HOSTILE[..HOSTILE.len() - 1]));
    Ok(())
}
