//! OpenTelemetry logs: OTLP over HTTP, in protobuf (open-telemetry/opentelemetry-proto,
//! `docs/specification.md` and `opentelemetry/proto/logs/v1/logs.proto`).
//!
//! - `POST` to the logs path, gzip; at most 4 MiB before compression, which every receiver takes.
//! - 200 takes a batch. `partial_success` in it says how many records were refused, not which. By the
//!   specification nothing is sent again then; here halves are, to find the refused ones and keep them:
//!   the others come again under their ids.
//! - 429, 502, 503 and 504 are to be tried again. By the specification no other 5xx is; here it is, for
//!   an outage is to cost no line.

use std::sync::Arc;

use destinations::{Compression, Credentials, OtlpHttp as Config, Severity};
use model::Origin;
use prost::Message as _;
use serde_json::{Value, json};
use url::Url;

use super::http::{Answer, HttpClient, HttpConfigError, Post, Posting};
use super::{Failure, Remedy};
use crate::batch::{Batch, BatchLimits};
use crate::egress::Egress;
use crate::encode::{Encode, service, severity, tags};
use crate::lines::Line;

pub(crate) const LIMITS: BatchLimits = BatchLimits { bytes: 3_500_000, lines: 5_000 };

/// OpenTelemetry's numbers of syslog's severities ("Appendix B. `SeverityNumber` example mappings").
const fn severity_number(severity: Severity) -> i32 {
    match severity {
        Severity::Emergency => 21,
        Severity::Alert => 19,
        Severity::Critical => 18,
        Severity::Error => 17,
        Severity::Warning => 13,
        Severity::Notice => 10,
        Severity::Info => 9,
        Severity::Debug => 5,
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceLogs {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_logs: Vec<ScopeLogs>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeLogs {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    log_records: Vec<LogRecord>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LogRecord {
    #[prost(fixed64, tag = "1")]
    time_unix_nano: u64,
    #[prost(int32, tag = "2")]
    severity_number: i32,
    #[prost(string, tag = "3")]
    severity_text: String,
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
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7")]
    value: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
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
    /// What is not UTF-8.
    #[prost(bytes = "vec", tag = "7")]
    Bytes(Vec<u8>),
}

#[derive(Clone, PartialEq, prost::Message)]
struct ArrayValue {
    #[prost(message, repeated, tag = "1")]
    values: Vec<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValueList {
    #[prost(message, repeated, tag = "1")]
    values: Vec<KeyValue>,
}

impl KeyValue {
    fn of_json(key: &str, value: &Value) -> Self {
        Self { key: key.to_owned(), value: Some(AnyValue::of_json(value)) }
    }
}

impl AnyValue {
    fn of_json(value: &Value) -> Self {
        let value = match value {
            Value::Null => None,
            Value::Bool(value) => Some(Kind::Bool(*value)),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) => Some(Kind::Integer(integer)),
                (None, double) => double.map(Kind::Double),
            },
            Value::String(text) => Some(Kind::Text(text.clone())),
            Value::Array(values) => {
                let values = values.iter().map(Self::of_json).collect();
                Some(Kind::List(ArrayValue { values }))
            }
            Value::Object(object) => {
                let of = |(key, value): (&String, &Value)| KeyValue::of_json(key, value);
                Some(Kind::Map(KeyValueList { values: object.iter().map(of).collect() }))
            }
        };
        Self { value }
    }
}

/// A request; it is made of encoded lines, each with its part of it.
#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_logs: Vec<ResourceLogs>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Response {
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
    #[prost(string, tag = "2")]
    message: String,
}

pub(crate) struct OtlpHttp;

struct OtlpEncoder {
    resource: Option<(Arc<Origin>, Resource)>,
}

/// The encoder and the destination.
pub(crate) fn prepare(
    config: &Config,
    credentials: &Credentials,
    egress: Egress,
) -> Result<(Box<dyn Encode>, Posting<OtlpHttp>), HttpConfigError> {
    let url = Url::parse(&config.url).map_err(|_| HttpConfigError::Url)?;
    let mut client = HttpClient::new(&url, config.ca_certificates.as_deref(), credentials, egress)?;
    for (name, value) in &credentials.headers {
        client.secret_header(name, value)?;
    }
    let compression = Compression::Gzip;
    let posting = Posting::new(client, &url, "application/x-protobuf", compression, OtlpHttp)?;
    Ok((Box::new(OtlpEncoder { resource: None }), posting))
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Kind::Text(value.to_owned())) });
    KeyValue { key: key.to_owned(), value }
}

fn resource(origin: &Origin) -> Resource {
    let environment = origin.environment.handle.as_str();
    Resource {
        attributes: vec![
            attribute("service.name", service(origin)),
            attribute("deployment.environment.name", environment),
        ],
    }
}

impl Encode for OtlpEncoder {
    fn encode(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        let resource = match &self.resource {
            Some((origin, resource)) if Arc::ptr_eq(origin, line.origin) => resource.clone(),
            _ => {
                let resource = resource(line.origin);
                self.resource = Some((line.origin.clone(), resource.clone()));
                resource
            }
        };
        let mut attributes = Vec::new();
        for (name, value) in tags(line) {
            // OpenTelemetry's semantic conventions, where they have a name.
            let name = match name.as_ref() {
                "stream" => "log.iostream",
                "user_id" => "user.id",
                "user_email" => "user.email",
                "user_name" => "user.full_name",
                "message_base64" => continue,
                name => &format!("spillway.{name}"),
            };
            attributes.push(attribute(name, &value));
        }
        if let Some(json) = line.extras.json {
            let json = json.iter().map(|(key, value)| KeyValue::of_json(key, value)).collect();
            let value = Some(Kind::Map(KeyValueList { values: json }));
            let key = "spillway.json".to_owned();
            attributes.push(KeyValue { key, value: Some(AnyValue { value }) });
        }
        let severity = severity(line);
        let body = match std::str::from_utf8(line.message) {
            Ok(text) => Kind::Text(text.to_owned()),
            Err(_) => Kind::Bytes(line.message.to_vec()),
        };
        let record = LogRecord {
            time_unix_nano: line.time().nanos(),
            observed_time_unix_nano: line.at.nanos(),
            severity_number: severity_number(severity),
            severity_text: severity.as_str().to_owned(),
            body: Some(AnyValue { value: Some(body) }),
            attributes,
        };
        let scope = Some(Scope { name: "spillway".to_owned() });
        let scope_logs = vec![ScopeLogs { scope, log_records: vec![record] }];
        let part = ResourceLogs { resource: Some(resource), scope_logs };
        // Repeated fields of concatenated messages add up (protobuf.dev, "Last one wins").
        out.extend(Request { resource_logs: vec![part] }.encode_to_vec());
    }
}

impl Post for OtlpHttp {
    fn classify(&self, client: &HttpClient, answer: &Answer, batch: &Batch) -> Result<(), Failure> {
        if answer.status.is_success() {
            // Some answer without a body, or with one that is not protobuf.
            let partial = Response::decode(answer.body.clone()).ok();
            let partial = partial.and_then(|response| response.partial_success).unwrap_or_default();
            if partial.rejected_log_records <= 0 {
                return Ok(());
            }
            let said = client.quote(partial.error_message.as_bytes());
            let said =
                format!("the endpoint refused {} line(s){said}", partial.rejected_log_records);
            let upto = batch.lines();
            let remedy = if usize::try_from(partial.rejected_log_records).is_ok_and(|it| it < upto)
            {
                Remedy::Isolate
            } else {
                Remedy::Refuse { lines: (0..upto).map(|line| (line, said.clone())).collect(), upto }
            };
            return Err(Failure::new(remedy, said));
        }
        let status = Status::decode(answer.body.clone()).unwrap_or_default();
        if status.message.is_empty() {
            return client.classify(answer);
        }
        client.classify(&Answer {
            status: answer.status,
            headers: answer.headers.clone(),
            body: status.message.into(),
            is_whole: true,
        })
    }

    fn rejected(&self, line: &[u8]) -> Value {
        let request = Request::decode(line).unwrap_or_default();
        let scopes = request.resource_logs.into_iter().flat_map(|part| part.scope_logs);
        let Some(record) = scopes.flat_map(|scope| scope.log_records).next() else {
            return json!({});
        };
        let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
            Some(Kind::Text(text)) => text,
            Some(Kind::Bytes(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
            _ => String::new(),
        };
        let mut object: serde_json::Map<_, _> = record
            .attributes
            .into_iter()
            .map(|KeyValue { key, value }| {
                (key.trim_start_matches("spillway.").to_owned(), text(value).into())
            })
            .collect();
        object.insert("message".to_owned(), text(record.body).into());
        object.into()
    }
}
