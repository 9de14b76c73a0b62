//! Splunk's HTTP Event Collector (docs.splunk.com, "HTTP Event Collector REST API endpoints" and "Possible error
//! codes"). Acknowledgements that are asked for later are not offered: what is answered with 200 is durable.

use actix_web::http::StatusCode;
use actix_web::http::header::ALLOW;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Deserializer, Value, json};
use url::form_urlencoded;

use super::gathered::{Bounded, Gathered};
use super::json::{self as json_lines, Members, text_of};
use super::lines::{Lines, Outcome};
use super::take::{Batch, take};
use super::{Dialect, Refusal, Shared, logs, times};
use crate::lanes::LINE_LIMIT;
use crate::sources::Refused;

/// What an event may say of itself besides its time, its text and its fields.
const ABOUT: [&str; 4] = ["host", "source", "sourcetype", "index"];
const NO_EVENT: &str = "Event field is required";
const BLANK_EVENT: &str = "Event field cannot be blank";
const FORMAT: &str = "Invalid data format";

/// Takes events: objects, one after the other.
pub(super) async fn events(
    request: HttpRequest,
    payload: Payload,
    shared: Data<Shared>,
) -> HttpResponse {
    answer(take(&shared, &request, payload, Batch::of(read)).await)
}

/// Takes plain lines; the query says what they have in common.
pub(super) async fn raw(
    request: HttpRequest,
    payload: Payload,
    shared: Data<Shared>,
) -> HttpResponse {
    let said = || form_urlencoded::parse(request.query_string().as_bytes());
    let at = said().find(|(name, _)| name == "time").and_then(|(_, time)| times::epoch(&time));
    let about: Bounded = said().filter(|(name, _)| ABOUT.contains(&name.as_ref())).collect();
    let decode = move |body: &Bytes, lines: &mut Lines| {
        logs::plain_with(body, lines, |line| {
            let mut gathered = Gathered::new(line);
            gathered.at(at);
            gathered.fields(&about);
            gathered.finish()
        });
        something(lines)
    };
    answer(take(&shared, &request, payload, Batch::of(decode)).await)
}

/// Says that there is a collector: Docker asks before it starts a container.
pub(super) async fn options() -> HttpResponse {
    HttpResponse::Ok().insert_header((ALLOW, "POST, OPTIONS")).finish()
}

/// Whether requests are taken at present.
pub(super) async fn health(shared: Data<Shared>) -> HttpResponse {
    if shared.memory.has_room() {
        HttpResponse::Ok().json(json!({"text": "HEC is healthy", "code": 17}))
    } else {
        let said = json!({"text": "HEC is unhealthy, queues are full", "code": 18});
        HttpResponse::ServiceUnavailable().json(said)
    }
}

fn something(lines: &Lines) -> Result<(), Refusal> {
    if lines.count() == 0 && !lines.is_full() { Err(Refusal::Nothing) } else { Ok(()) }
}

/// Reads events. The good ones are kept; after one that is not JSON the next cannot be found.
fn read(body: &Bytes, lines: &mut Lines) -> Result<(), Refusal> {
    for event in Deserializer::from_slice(body).into_iter::<&RawValue>() {
        if lines.is_full() {
            break;
        }
        let number = lines.count() + 1;
        match event.map_err(|_| FORMAT).and_then(read_event) {
            Ok(gathered) => lines.push(gathered.finish()),
            Err(reason) => lines.refuse(number, reason),
        }
    }
    something(lines)
}

fn read_event(json: &RawValue) -> Result<Gathered, &'static str> {
    if json.get().len() > 2 * LINE_LIMIT {
        return Err(FORMAT);
    }
    let members: Members<'_> = serde_json::from_str(json.get()).map_err(|_| FORMAT)?;
    let event = members.get("event").ok_or(NO_EVENT)?;
    let mut gathered = if event.get().starts_with('{') {
        json_lines::line(event).map_err(|_| FORMAT)?.into()
    } else {
        let text = text_of(event);
        if text.trim().is_empty() {
            return Err(BLANK_EVENT);
        }
        Gathered::new(text)
    };
    if let Some(time) = members.get("time") {
        gathered.at(times::epoch(text_of(time).trim()));
    }
    for name in ABOUT {
        if let Some(value) = members.get(name) {
            gathered.field(name, &text_of(value));
        }
    }
    if let Some(fields) = members.get("fields") {
        let fields: Members<'_> = serde_json::from_str(fields.get()).map_err(|_| FORMAT)?;
        fields.0.iter().for_each(|(name, value)| gathered.note(name, &text_of(value)));
    }
    Ok(gathered)
}

fn answer(taken: Result<Outcome, Refusal>) -> HttpResponse {
    let outcome = match taken {
        Ok(outcome) => outcome,
        Err(refusal) => return Dialect::Splunk.refuse(&refusal),
    };
    let Some(bad) = outcome.refused.first() else {
        return HttpResponse::Ok().json(json!({"text": "Success", "code": 0}));
    };
    let code = match bad.reason.as_str() {
        NO_EVENT => 12,
        BLANK_EVENT => 13,
        _ => 6,
    };
    HttpResponse::BadRequest().json(json!({
        "text": bad.reason, "code": code, "invalid-event-number": bad.line - 1,
    }))
}

/// Splunk's status of a refusal.
pub(super) const fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Token(_) => StatusCode::FORBIDDEN,
        other => other.kind().0,
    }
}

/// What Splunk says.
pub(super) fn said(refusal: &Refusal) -> Value {
    let (text, code) = match refusal {
        Refusal::Token(Refused::Disabled) => ("Token disabled", 1),
        Refusal::NoToken => ("Token is required", 2),
        Refusal::Token(_) => ("Invalid token", 4),
        Refusal::Nothing => ("No data", 5),
        Refusal::Busy | Refusal::Unread | Refusal::NotDurable | Refusal::OverQuota(_) => {
            ("Server is busy", 9)
        }
        // It has no code for what is too large; the status says it.
        other => return json!({"text": other.to_string(), "code": 6}),
    };
    json!({"text": text, "code": code})
}

#[cfg(test)]
mod tests;
