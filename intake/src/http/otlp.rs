//! OpenTelemetry logs: OTLP over HTTP (open-telemetry/opentelemetry-proto, `docs/specification.md`), in protobuf and
//! in JSON. The answer is in the encoding of the request.

use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use model::{LogLine, Severity, Timestamp};
use prost::Message as _;
use serde_json::{Map, Value, json};

use super::gathered::{Bounded, Gathered};
use super::lines::{Lines, Outcome};
use super::logs::media_type;
use super::take::{Batch, take};
use super::{Dialect, Refusal, Shared};

mod in_json;
mod in_protobuf;

const TYPES: &str = "application/x-protobuf and application/json";

/// A log record, whatever its encoding was.
#[derive(Debug, Default)]
struct LogRecord {
    at: u64,
    observed_at: u64,
    severity_number: i32,
    severity_text: String,
    body: Body,
    attributes: Vec<(String, Value)>,
    trace_id: String,
    span_id: String,
    event_name: String,
}

/// The fields of a record's scope, and of its resource.
type Around<'a> = [&'a Bounded; 2];

/// What a record says.
#[derive(Debug, Default)]
enum Body {
    #[default]
    None,
    Value(Value),
    Bytes(Bytes),
}

/// A record has neither a body nor anything else.
#[derive(Debug, thiserror::Error)]
#[error("the record has no body, no event name and no attributes")]
struct NoBody;

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

/// Takes records.
pub(super) async fn post(
    request: HttpRequest,
    payload: Payload,
    shared: Data<Shared>,
) -> HttpResponse {
    let json = match media_type(&request).as_str() {
        "application/json" => true,
        "application/x-protobuf" => false,
        _ => return Dialect::Otlp { json: false }.refuse(&Refusal::MediaType(TYPES)),
    };
    let decode = move |body: &Bytes, lines: &mut Lines| {
        if json { in_json::read(body, lines) } else { in_protobuf::read(body, lines) }
    };
    match take(&shared, &request, payload, Batch::of(decode)).await {
        Ok(outcome) => answer(json, &outcome),
        Err(refusal) => Dialect::Otlp { json }.refuse(&refusal),
    }
}

fn answer(json: bool, outcome: &Outcome) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    let said = outcome.refused.first();
    let said = said.map(|bad| format!("record {}: {}", bad.line, bad.reason));
    if json {
        return response.json(match said {
            None => json!({}),
            // 64-bit integers are strings in protobuf's JSON.
            Some(said) => json!({"partialSuccess": {
                "rejectedLogRecords": outcome.refused_count.to_string(), "errorMessage": said,
            }}),
        });
    }
    let partial_success = said.map(|error_message| PartialSuccess {
        rejected_log_records: i64::try_from(outcome.refused_count).unwrap_or(i64::MAX),
        error_message,
    });
    let body = Response { partial_success }.encode_to_vec();
    response.content_type("application/x-protobuf").body(body)
}

/// A refusal's body.
pub(super) fn refuse(
    response: &mut HttpResponseBuilder,
    json: bool,
    message: &str,
) -> HttpResponse {
    if json {
        return response.json(json!({ "message": message }));
    }
    let status = Status { message: message.to_owned() };
    response.content_type("application/x-protobuf").body(status.encode_to_vec())
}

/// Syslog's severity of OpenTelemetry's number ("Appendix B. `SeverityNumber` example mappings").
const fn severity_of(number: i32) -> Option<Severity> {
    Some(match number {
        1..=8 => Severity::Debug,
        9 => Severity::Info,
        10..=12 => Severity::Notice,
        13..=16 => Severity::Warning,
        17 => Severity::Error,
        18 => Severity::Critical,
        19 | 20 => Severity::Alert,
        21..=24 => Severity::Emergency,
        _ => return None,
    })
}

/// A value as a field has it.
fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl LogRecord {
    /// As a line, with what its scope and its resource say.
    fn line(self, around: Around<'_>) -> Result<LogLine, NoBody> {
        let text = match self.body {
            Body::Bytes(bytes) => bytes,
            Body::Value(Value::String(text)) => text.into(),
            Body::Value(value) => value.to_string().into(),
            Body::None if !self.event_name.is_empty() => self.event_name.clone().into(),
            Body::None if !self.attributes.is_empty() => {
                let object: Map<_, _> = self.attributes.iter().cloned().collect();
                Value::Object(object).to_string().into()
            }
            Body::None => return Err(NoBody),
        };
        let mut gathered = Gathered::new(text);
        // A name that is known says more than a number: `fatal` is 21 as `emergency` is.
        gathered.severity(Severity::of_json(&Value::from(self.severity_text.as_str())));
        gathered.severity(severity_of(self.severity_number));
        let at = if self.at > 0 { self.at } else { self.observed_at };
        gathered.at((at > 0).then(|| Timestamp::from_nanos(at)));
        for (name, value) in &self.attributes {
            gathered.note(name, &text_of(value));
        }
        for (name, value) in [
            ("event_name", &self.event_name),
            ("trace_id", &self.trace_id),
            ("span_id", &self.span_id),
        ] {
            if !value.is_empty() {
                gathered.field(name, value);
            }
        }
        for fields in around {
            gathered.fields(fields);
        }
        Ok(gathered.finish())
    }
}

/// The fields of a scope: its name and version, and its attributes.
fn scope_fields(name: &str, version: &str, attributes: Vec<(String, Value)>) -> Bounded {
    let named = [("otel.scope.name", name), ("otel.scope.version", version)];
    let named = named.into_iter().filter(|(_, value)| !value.is_empty());
    let named = named.map(|(name, value)| (name.to_owned(), value.to_owned()));
    named.chain(fields(attributes)).collect()
}

fn fields(attributes: Vec<(String, Value)>) -> impl Iterator<Item = (String, String)> {
    attributes.into_iter().map(|(name, value)| (name, text_of(&value)))
}

#[cfg(test)]
mod tests;
