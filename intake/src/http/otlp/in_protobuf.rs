//! OpenTelemetry logs in protobuf (`opentelemetry/proto/logs/v1/logs.proto`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Number, Value};

use super::{Around, Body, LogRecord, fields, scope_fields};
use crate::http::Refusal;
use crate::http::gathered::Bounded;
use crate::http::lines::Lines;
use crate::http::protobuf::{Message, NotProtobuf, Value as Field};
use crate::lanes::LINE_LIMIT;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub(super) attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Scope {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Record {
    #[prost(fixed64, tag = "1")]
    pub(super) time_unix_nano: u64,
    #[prost(int32, tag = "2")]
    pub(super) severity_number: i32,
    #[prost(string, tag = "3")]
    pub(super) severity_text: String,
    #[prost(message, optional, tag = "5")]
    pub(super) body: Option<AnyValue>,
    #[prost(message, repeated, tag = "6")]
    pub(super) attributes: Vec<KeyValue>,
    #[prost(bytes = "bytes", tag = "9")]
    pub(super) trace_id: Bytes,
    #[prost(bytes = "bytes", tag = "10")]
    pub(super) span_id: Bytes,
    #[prost(fixed64, tag = "11")]
    pub(super) observed_time_unix_nano: u64,
    #[prost(string, tag = "12")]
    pub(super) event_name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AnyValue {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub(super) value: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Kind {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Integer(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    List(ArrayValue),
    #[prost(message, tag = "6")]
    Map(KeyValueList),
    #[prost(bytes = "bytes", tag = "7")]
    Bytes(Bytes),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ArrayValue {
    #[prost(message, repeated, tag = "1")]
    pub(super) values: Vec<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct KeyValueList {
    #[prost(message, repeated, tag = "1")]
    pub(super) values: Vec<KeyValue>,
}

impl AnyValue {
    fn into_json(self) -> Value {
        match self.value {
            None => Value::Null,
            Some(Kind::Text(text)) => text.into(),
            Some(Kind::Bool(value)) => value.into(),
            Some(Kind::Integer(number)) => number.into(),
            Some(Kind::Double(number)) => {
                // JSON has neither NaN nor infinities.
                Number::from_f64(number).map_or_else(|| number.to_string().into(), Value::Number)
            }
            Some(Kind::List(list)) => list.values.into_iter().map(Self::into_json).collect(),
            Some(Kind::Map(map)) => {
                Value::Object(attributes(map.values).into_iter().collect::<Map<_, _>>())
            }
            Some(Kind::Bytes(bytes)) => STANDARD.encode(bytes).into(),
        }
    }
}

fn attributes(all: Vec<KeyValue>) -> Vec<(String, Value)> {
    let value = |value: Option<AnyValue>| value.map_or(Value::Null, AnyValue::into_json);
    all.into_iter().map(|pair| (pair.key, value(pair.value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// What is longer is not decoded: it would be many times as much.
fn decode<M: prost::Message + Default>(bytes: Bytes) -> Result<M, String> {
    if bytes.len() > LINE_LIMIT {
        return Err(format!("it is longer than {LINE_LIMIT} bytes"));
    }
    M::decode(bytes).map_err(|error| error.to_string())
}

fn record(bytes: Bytes, around: Around<'_>, lines: &mut Lines) {
    let number = lines.count() + 1;
    let record = match decode::<Record>(bytes) {
        Ok(record) => record,
        Err(reason) => return lines.refuse(number, &reason),
    };
    let record = LogRecord {
        at: record.time_unix_nano,
        observed_at: record.observed_time_unix_nano,
        severity_number: record.severity_number,
        severity_text: record.severity_text,
        body: match record.body.and_then(|body| body.value) {
            None => Body::None,
            Some(Kind::Bytes(bytes)) => Body::Bytes(bytes),
            Some(kind) => Body::Value(AnyValue { value: Some(kind) }.into_json()),
        },
        attributes: attributes(record.attributes),
        trace_id: hex(&record.trace_id),
        span_id: hex(&record.span_id),
        event_name: record.event_name,
    };
    match record.line(around) {
        Ok(line) => lines.push(line),
        Err(reason) => lines.refuse(number, &reason),
    }
}

/// Reads an `ExportLogsServiceRequest`.
pub(super) fn read(body: &Bytes, lines: &mut Lines) -> Result<(), Refusal> {
    Message::new(body.clone()).each(|number, value| match value {
        Field::Bytes(resource_logs) if number == 1 => of_resource(resource_logs, lines),
        _ => Ok(()),
    })
}

fn of_resource(resource_logs: Bytes, lines: &mut Lines) -> Result<(), Refusal> {
    if !lines.group() {
        return Ok(());
    }
    let message = Message::new(resource_logs);
    let resource = match message.clone().last(1)? {
        Some(bytes) => decode::<Resource>(bytes).map_err(Refusal::Unreadable)?,
        None => Resource::default(),
    };
    let resource: Bounded = fields(attributes(resource.attributes)).collect();
    message.each(|number, value| match value {
        Field::Bytes(scope_logs) if number == 2 => of_scope(scope_logs, &resource, lines),
        _ => Ok(()),
    })
}

fn of_scope(scope_logs: Bytes, resource: &Bounded, lines: &mut Lines) -> Result<(), Refusal> {
    if !lines.group() {
        return Ok(());
    }
    let message = Message::new(scope_logs);
    let scope = match message.clone().last(1)? {
        Some(bytes) => decode::<Scope>(bytes).map_err(Refusal::Unreadable)?,
        None => Scope::default(),
    };
    let scope = scope_fields(&scope.name, &scope.version, attributes(scope.attributes));
    message.each(|number, value| {
        if let Field::Bytes(bytes) = value
            && number == 2
            && !lines.is_full()
        {
            record(bytes, [&scope, resource], lines);
        }
        Ok(())
    })
}

impl From<NotProtobuf> for Refusal {
    fn from(error: NotProtobuf) -> Self {
        Self::Unreadable(error.to_string())
    }
}
