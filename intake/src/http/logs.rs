//! Spillway's own endpoint: plain lines, JSON, and Logplex's frames.

use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use model::LogLine;

use super::lines::Lines;
use super::take::{Batch, take};
use super::{Dialect, Refusal, Shared, json, logplex};

const TYPES: &str = "application/x-ndjson, application/json, text/plain and application/logplex-1";

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Media {
    Plain,
    Json,
    JsonLines,
    /// With so many messages, if that is said.
    Logplex(Option<usize>),
}

/// Takes lines.
pub(super) async fn post(
    request: HttpRequest,
    payload: Payload,
    shared: Data<Shared>,
) -> HttpResponse {
    let taken = match media(&request) {
        Ok(media) => {
            let decode = move |body: &Bytes, lines: &mut Lines| read(media, body, lines);
            take(&shared, &request, payload, Batch::of(decode)).await
        }
        Err(refusal) => Err(refusal),
    };
    match taken {
        Ok(outcome) if outcome.accepted == 0 && outcome.refused_count > 0 => {
            Dialect::Spillway.refuse(&Refusal::NoneGood(outcome))
        }
        Ok(outcome) => HttpResponse::Ok().json(outcome),
        Err(refusal) => Dialect::Spillway.refuse(&refusal),
    }
}

/// What kind a request's body is of, without parameters and in lower case.
pub(super) fn media_type(request: &HttpRequest) -> String {
    let header = request.headers().get(CONTENT_TYPE).and_then(|header| header.to_str().ok());
    let kind = header.unwrap_or_default().split(';').next().unwrap_or_default();
    kind.trim().to_ascii_lowercase()
}

fn media(request: &HttpRequest) -> Result<Media, Refusal> {
    Ok(match media_type(request).as_str() {
        "" | "text/plain" => Media::Plain,
        "application/json" => Media::Json,
        "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl"
        | "application/x-jsonlines" => Media::JsonLines,
        "application/logplex-1" => {
            let count = request.headers().get("Logplex-Msg-Count");
            let count = count.and_then(|count| count.to_str().ok()?.trim().parse().ok());
            Media::Logplex(count)
        }
        _ => return Err(Refusal::MediaType(TYPES)),
    })
}

fn read(media: Media, body: &Bytes, lines: &mut Lines) -> Result<(), Refusal> {
    match media {
        Media::Plain => plain(body, lines),
        Media::JsonLines => json::read_lines(body, lines),
        Media::Json => {
            let read = json::read_any(body, lines);
            read.map_err(|error| Refusal::Unreadable(error.to_string()))?;
        }
        Media::Logplex(count) => {
            logplex::read(body, lines);
            if let Some(count) = count
                && count != lines.count()
                && !lines.is_full()
            {
                let found = lines.count();
                let said = format!("Logplex-Msg-Count is {count}, and it has {found} messages");
                return Err(Refusal::Unreadable(said));
            }
        }
    }
    Ok(())
}

/// Reads plain lines. Empty lines are none.
fn plain(body: &Bytes, lines: &mut Lines) {
    plain_with(body, lines, LogLine::plain);
}

/// The same, with more said of each.
pub(super) fn plain_with(body: &Bytes, lines: &mut Lines, line: impl Fn(Bytes) -> LogLine) {
    for text in body.split(|&byte| byte == b'\n') {
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if lines.is_full() {
            return;
        }
        if !text.is_empty() {
            lines.push(line(body.slice_ref(text)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::lines::tests::lines;

    #[test]
    fn plain_lines_are_kept_byte_by_byte() {
        let mut lines = lines();
        plain(&Bytes::from_static(b"a\r\n\n  b\xff \nc"), &mut lines);
        let (good, ..) = lines.finish().unwrap();
        let texts: Vec<_> = good.iter().map(|line| &line.text[..]).collect();
        assert_eq!(texts, [&b"a"[..], b"  b\xff ", b"c"]);
    }

    #[test]
    fn frames_are_counted() {
        let body = Bytes::from_static(b"33 <14>1 2012-11-30T06:45:29Z h a p - ok12 bad");
        let is_read = |count| read(Media::Logplex(count), &body, &mut lines()).is_ok();
        assert!(is_read(None) && is_read(Some(2)) && !is_read(Some(3)));
    }
}
