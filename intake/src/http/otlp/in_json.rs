//! OpenTelemetry logs in protobuf's JSON, with its differences: ids are in hex (opentelemetry-proto,
//! `docs/specification.md`, "JSON Protobuf Encoding").

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{Around, Body, LogRecord, fields, scope_fields};
use crate::http::Refusal;
use crate::http::gathered::Bounded;
use crate::http::json::{Members, each_element};
use crate::http::lines::Lines;
use crate::lanes::LINE_LIMIT;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resource {
    attributes: Option<Vec<KeyValue>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Scope {
    name: Option<String>,
    version: Option<String>,
    attributes: Option<Vec<KeyValue>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Record {
    time_unix_nano: Option<Integer>,
    observed_time_unix_nano: Option<Integer>,
    severity_number: Option<i32>,
    severity_text: Option<String>,
    body: Option<Map<String, Value>>,
    attributes: Option<Vec<KeyValue>>,
    trace_id: Option<String>,
    span_id: Option<String>,
    event_name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct KeyValue {
    key: String,
    value: Option<Map<String, Value>>,
}

/// 64 bits are a string in protobuf's JSON; some write a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Integer {
    Number(u64),
    Text(String),
}

impl Integer {
    fn value(this: Option<Self>) -> u64 {
        match this {
            Some(Self::Number(number)) => number,
            Some(Self::Text(text)) => text.parse().unwrap_or_default(),
            None => 0,
        }
    }
}

/// A value of the message `AnyValue`.
fn any(value: Option<Map<String, Value>>) -> Value {
    let Some((kind, value)) = value.and_then(|value| value.into_iter().next()) else {
        return Value::Null;
    };
    match (kind.as_str(), value) {
        ("intValue", Value::String(text)) => text.parse::<i64>().map_or(text.into(), Value::from),
        ("arrayValue", value) => items(value).map(|item| any(object(item))).collect(),
        ("kvlistValue", value) => {
            let pairs = items(value).filter_map(|item| serde_json::from_value(item).ok());
            Value::Object(attributes(Some(pairs.collect())).into_iter().collect())
        }
        (_, value) => value,
    }
}

fn object(value: Value) -> Option<Map<String, Value>> {
    if let Value::Object(object) = value { Some(object) } else { None }
}

fn items(list: Value) -> impl Iterator<Item = Value> {
    let values = object(list).and_then(|mut list| list.remove("values"));
    let values = if let Some(Value::Array(values)) = values { values } else { Vec::new() };
    values.into_iter()
}

fn attributes(all: Option<Vec<KeyValue>>) -> Vec<(String, Value)> {
    all.unwrap_or_default().into_iter().map(|pair| (pair.key, any(pair.value))).collect()
}

fn body(value: Option<Map<String, Value>>) -> Body {
    let bytes = value.as_ref().and_then(|value| value.get("bytesValue")?.as_str());
    if let Some(Ok(bytes)) = bytes.map(|bytes| STANDARD.decode(bytes)) {
        return Body::Bytes(bytes.into());
    }
    match any(value) {
        Value::Null => Body::None,
        value => Body::Value(value),
    }
}

/// What is longer is not decoded: it would be many times as much.
fn decode<T: DeserializeOwned>(value: &RawValue) -> Result<T, String> {
    if value.get().len() > LINE_LIMIT {
        return Err(format!("it is longer than {LINE_LIMIT} bytes"));
    }
    serde_json::from_str(value.get()).map_err(|error| error.to_string())
}

fn record(value: &RawValue, around: Around<'_>, lines: &mut Lines) {
    let number = lines.count() + 1;
    let record = match decode::<Record>(value) {
        Ok(record) => record,
        Err(reason) => return lines.refuse(number, &reason),
    };
    let record = LogRecord {
        at: Integer::value(record.time_unix_nano),
        observed_at: Integer::value(record.observed_time_unix_nano),
        severity_number: record.severity_number.unwrap_or_default(),
        severity_text: record.severity_text.unwrap_or_default(),
        body: body(record.body),
        attributes: attributes(record.attributes),
        trace_id: record.trace_id.unwrap_or_default(),
        span_id: record.span_id.unwrap_or_default(),
        event_name: record.event_name.unwrap_or_default(),
    };
    match record.line(around) {
        Ok(line) => lines.push(line),
        Err(reason) => lines.refuse(number, &reason),
    }
}

/// Calls a function with each element of a member that is an array.
fn each<'a>(
    members: &Members<'a>,
    name: &str,
    mut each: impl FnMut(&'a RawValue) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let Some(array) = members.get(name) else { return Ok(()) };
    let mut outcome = Ok(());
    let read = each_element(array.get().as_bytes(), &mut |_, element| {
        if outcome.is_ok() {
            outcome = each(element);
        }
    });
    read.map_err(|error| unreadable(&error))?;
    outcome
}

fn unreadable(error: &serde_json::Error) -> Refusal {
    Refusal::Unreadable(error.to_string())
}

fn members(json: &[u8]) -> Result<Members<'_>, Refusal> {
    serde_json::from_slice(json).map_err(|error| unreadable(&error))
}

/// Reads an `ExportLogsServiceRequest`.
pub(super) fn read(request: &Bytes, lines: &mut Lines) -> Result<(), Refusal> {
    each(&members(request)?, "resourceLogs", |resource_logs| {
        if !lines.group() {
            return Ok(());
        }
        of_resource(&members(resource_logs.get().as_bytes())?, lines)
    })
}

fn of_resource(resource_logs: &Members<'_>, lines: &mut Lines) -> Result<(), Refusal> {
    let resource = resource_logs.get("resource").map(decode::<Resource>).transpose();
    let resource = resource.map_err(Refusal::Unreadable)?.unwrap_or_default();
    let resource: Bounded = fields(attributes(resource.attributes)).collect();
    each(resource_logs, "scopeLogs", |scope_logs| {
        if !lines.group() {
            return Ok(());
        }
        of_scope(&members(scope_logs.get().as_bytes())?, &resource, lines)
    })
}

fn of_scope(
    scope_logs: &Members<'_>,
    resource: &Bounded,
    lines: &mut Lines,
) -> Result<(), Refusal> {
    let scope = scope_logs.get("scope").map(decode::<Scope>).transpose();
    let scope = scope.map_err(Refusal::Unreadable)?.unwrap_or_default();
    let (name, version) = (scope.name.unwrap_or_default(), scope.version.unwrap_or_default());
    let scope = scope_fields(&name, &version, attributes(scope.attributes));
    each(scope_logs, "logRecords", |value| {
        if !lines.is_full() {
            record(value, [&scope, resource], lines);
        }
        Ok(())
    })
}
