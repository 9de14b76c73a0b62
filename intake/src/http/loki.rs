//! Loki's push API (grafana/loki, `docs/sources/reference/loki-http-api.md`; `pkg/push/push.proto`): protobuf with
//! snappy, as Promtail, Alloy and the client libraries send it, and JSON.

use std::collections::BTreeMap;

use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use model::Timestamp;
use prost::Message as _;
use serde_json::value::RawValue;

use super::gathered::{Bounded, Gathered};
use super::inflate::Encoding;
use super::json::{Members, each_element};
use super::lines::{Lines, Outcome};
use super::logs::media_type;
use super::protobuf::{Message, Value as Field};
use super::take::{Batch, take};
use super::{Dialect, Refusal, Shared};
use crate::lanes::LINE_LIMIT;

mod labels;

use labels::Labels;

const TYPES: &str = "application/x-protobuf and application/json";

#[derive(Clone, PartialEq, prost::Message)]
struct Entry {
    #[prost(message, optional, tag = "1")]
    timestamp: Option<At>,
    #[prost(bytes = "bytes", tag = "2")]
    line: Bytes,
    #[prost(message, repeated, tag = "3")]
    structured_metadata: Vec<Label>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct At {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// Answers whoever asks whether Loki is ready to take anything.
pub(super) async fn ready() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ready\n")
}

/// Takes streams of entries.
pub(super) async fn post(
    request: HttpRequest,
    payload: Payload,
    shared: Data<Shared>,
) -> HttpResponse {
    let taken = match media_type(&request).as_str() {
        "application/json" => take(&shared, &request, payload, Batch::of(read_json)).await,
        // The body is compressed so whether the head says it or not.
        "application/x-protobuf" | "" => {
            let batch = Batch::compressed(Encoding::Snappy, read_protobuf);
            take(&shared, &request, payload, batch).await
        }
        _ => Err(Refusal::MediaType(TYPES)),
    };
    match taken {
        Ok(Outcome { refused_count: 0, .. }) => HttpResponse::NoContent().finish(),
        // Loki, too, takes the good entries of such a request.
        Ok(outcome) if outcome.accepted > 0 => HttpResponse::BadRequest().json(outcome),
        Ok(outcome) => Dialect::Spillway.refuse(&Refusal::NoneGood(outcome)),
        Err(refusal) => Dialect::Spillway.refuse(&refusal),
    }
}

fn read_protobuf(body: &Bytes, lines: &mut Lines) -> Result<(), Refusal> {
    Message::new(body.clone()).each(|number, value| match value {
        Field::Bytes(stream) if number == 1 && lines.group() => {
            let message = Message::new(stream);
            let labels = message.clone().last(1)?.unwrap_or_default();
            let labels = labels::parse(&labels).map_err(|error| {
                Refusal::Unreadable(format!(
                    "the labels of a stream are not as they must be: {error}"
                ))
            })?;
            let labels: Bounded = labels.into_iter().collect();
            message.each(|number, value| {
                if let Field::Bytes(entry) = value
                    && number == 2
                    && !lines.is_full()
                {
                    read_entry(entry, &labels, lines);
                }
                Ok(())
            })
        }
        _ => Ok(()),
    })
}

fn read_entry(entry: Bytes, labels: &Bounded, lines: &mut Lines) {
    let number = lines.count() + 1;
    // What is longer is not decoded: it would be many times as much.
    if entry.len() > 2 * LINE_LIMIT {
        return lines.refuse(number, &format!("it is longer than {} bytes", 2 * LINE_LIMIT));
    }
    let entry = match Entry::decode(entry) {
        Ok(entry) => entry,
        Err(error) => return lines.refuse(number, &error),
    };
    let mut gathered = Gathered::new(entry.line);
    gathered.at(entry.timestamp.and_then(At::timestamp));
    for label in &entry.structured_metadata {
        gathered.note(&label.name, &label.value);
    }
    gathered.notes(labels);
    lines.push(gathered.finish());
}

impl At {
    fn timestamp(self) -> Option<Timestamp> {
        let nanos = u64::try_from(self.seconds).ok()?.checked_mul(1_000_000_000)?;
        Some(Timestamp::from_nanos(nanos.checked_add(u64::try_from(self.nanos).ok()?)?))
    }
}

fn unreadable(error: &serde_json::Error) -> Refusal {
    Refusal::Unreadable(error.to_string())
}

fn read_json(body: &Bytes, lines: &mut Lines) -> Result<(), Refusal> {
    let request: Members<'_> = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    let Some(streams) = request.get("streams") else {
        return Err(Refusal::Unreadable("it has no member `streams`".to_owned()));
    };
    let mut outcome = Ok(());
    let read = each_element(streams.get().as_bytes(), &mut |_, stream| {
        if outcome.is_ok() && lines.group() {
            outcome = read_stream(stream, lines);
        }
    });
    read.map_err(|error| unreadable(&error))?;
    outcome.map_err(|error| unreadable(&error))
}

fn read_stream(stream: &RawValue, lines: &mut Lines) -> Result<(), serde_json::Error> {
    let stream: Members<'_> = serde_json::from_str(stream.get())?;
    let labels: Labels = match stream.get("stream") {
        Some(labels) => serde_json::from_str(labels.get())?,
        None => Labels::default(),
    };
    let labels: Bounded = labels.0.into_iter().collect();
    let Some(values) = stream.get("values") else { return Ok(()) };
    each_element(values.get().as_bytes(), &mut |_, value| {
        if lines.is_full() {
            return;
        }
        match read_value(value, &labels) {
            Ok(gathered) => lines.push(gathered.finish()),
            Err(reason) => lines.refuse(lines.count() + 1, reason),
        }
    })
}

const SHAPE: &str =
    "it is not [\"TIME IN NANOSECONDS\", \"LINE\"] with or without an object of strings";

/// An array of two or three.
fn read_value(value: &RawValue, labels: &Bounded) -> Result<Gathered, &'static str> {
    if value.get().len() > 2 * LINE_LIMIT {
        return Err("it is longer than 2 MiB");
    }
    let parts: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(|_| SHAPE)?;
    let (at, line, metadata) = match parts.as_slice() {
        [at, line] => (at, line, None),
        [at, line, metadata] => (at, line, Some(metadata)),
        _ => return Err(SHAPE),
    };
    let at: String = serde_json::from_str(at.get()).map_err(|_| SHAPE)?;
    let line: String = serde_json::from_str(line.get()).map_err(|_| SHAPE)?;
    let mut gathered = Gathered::new(line);
    gathered.at(Some(Timestamp::from_nanos(at.parse().map_err(|_| SHAPE)?)));
    if let Some(metadata) = metadata {
        let metadata: BTreeMap<String, String> =
            serde_json::from_str(metadata.get()).map_err(|_| SHAPE)?;
        for (name, value) in &metadata {
            gathered.note(name, value);
        }
    }
    gathered.notes(labels);
    Ok(gathered)
}

#[cfg(test)]
mod tests;
