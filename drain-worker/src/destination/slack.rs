//! Slack's incoming webhooks (docs.slack.dev, "Sending messages using incoming webhooks", "Formatting
//! message text", "Rate limits").
//!
//! - `POST` to the webhook's address, which is the secret; `{"text": ...}` with `&`, `<` and `>` escaped,
//!   so that no text mentions a channel; without formatting (`mrkdwn`).
//! - One message a second for each webhook, with short bursts: events are gathered for a second, and
//!   several are in one message, a line each. Slack advises 4,000 characters of text, and cuts at 40,000.
//! - 429 has `Retry-After`. Other errors are words in the body: `invalid_payload` is about the message,
//!   `no_service`, `invalid_token`, `channel_is_archived`, `action_prohibited` and the like are about the
//!   webhook, `rollup_error` (500) passes.

use bytes::Bytes;
use std::time::Duration;

use destinations::{Compression, Credentials, Slack as Config, Tag};
use model::Secret;
use serde_json::{Value, json};
use url::Url;

use super::http::{Answer, HttpClient, HttpConfigError, Post, Posting, json_line};
use super::{Failure, Remedy};
use crate::batch::{Batch, BatchLimits, Gathering};
use crate::egress::Egress;
use crate::encode::time::TimeText;
use crate::encode::{Encode, service};
use crate::lines::Line;

/// Of events as they are encoded, which is more than their text.
pub(crate) const LIMITS: BatchLimits = BatchLimits { bytes: 4_000, lines: 50 };
pub(crate) const GATHERING: Gathering = Gathering { wait: Duration::from_secs(1), hourly: false };
/// Half of what is advised: `&` is escaped, and time, place and who stand before it.
pub(crate) const LINE_BYTES: usize = 2_000;

pub(crate) struct Slack;

struct SlackEncoder;

/// The encoder and the destination.
pub(crate) fn prepare(
    config: &Config,
    credentials: &Credentials,
    egress: Egress,
) -> Result<(Box<dyn Encode>, Posting<Slack>), HttpConfigError> {
    let secret = credentials.url.as_ref().ok_or(HttpConfigError::Missing("url"))?;
    let url = Url::parse(secret.expose()).map_err(|_| HttpConfigError::Url)?;
    let mut client = HttpClient::new(&url, config.ca_certificates.as_deref(), credentials, egress)?;
    client.mask(secret);
    // Each part of the path alone may be quoted.
    for part in url.path().split('/').filter(|part| part.len() >= 8) {
        client.mask(&Secret::new(part.to_owned()));
    }
    let posting = Posting::new(client, &url, "application/json", Compression::None, Slack)?;
    Ok((Box::new(SlackEncoder), posting))
}

impl Encode for SlackEncoder {
    fn encode(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        let mut id = Vec::new();
        line.write_id(&mut id);
        let entry = json!({ "id": String::from_utf8_lossy(&id), "text": text(line) });
        super::write_json(out, b"", &entry, b"\n");
    }
}

/// An event as one line of Slack's.
fn text(line: &Line<'_>) -> String {
    let mut time = TimeText::new();
    time.set(line.time());
    let time = String::from_utf8_lossy(time.micros());
    let origin = line.origin;
    let environment = origin.environment.handle.as_str();
    let place = match service(origin) {
        service if service == environment => environment.to_owned(),
        service => format!("{environment}/{service}"),
    };
    let wants = line.extras.tags.has(Tag::UserEmail);
    let session = origin.session.as_ref().filter(|_| wants);
    let who = session.map(|session| format!(" {}", session.user_email));
    let message = String::from_utf8_lossy(line.message);
    let goes_on = if line.span.is_some_and(|span| span.continued) { "\u{2026}" } else { "" };
    let second = time.split('.').next().unwrap_or_default();
    let text = format!("{second}Z {place}{}: {message}{goes_on}", who.unwrap_or_default());
    // A control character could begin another line, which would look like another event.
    text.replace(char::is_control, " ")
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

impl Post for Slack {
    fn body(&self, batch: &Batch) -> Bytes {
        let events = (0..batch.lines()).filter_map(|number| batch.line(number));
        let texts: Vec<String> = events
            .filter_map(|event| serde_json::from_slice::<Value>(event).ok())
            .filter_map(|event| Some(event.get("text")?.as_str()?.to_owned()))
            .collect();
        json!({ "text": texts.join("\n"), "mrkdwn": false }).to_string().into()
    }

    fn classify(&self, client: &HttpClient, answer: &Answer, _: &Batch) -> Result<(), Failure> {
        let word = std::str::from_utf8(&answer.body).unwrap_or_default().trim();
        match word {
            _ if answer.status.is_success() => Ok(()),
            "invalid_payload" | "no_text" => {
                Err(Failure::new(Remedy::Isolate, client.said(answer)))
            }
            "action_prohibited"
            | "channel_is_archived"
            | "channel_not_found"
            | "invalid_token"
            | "no_active_hooks"
            | "no_service"
            | "no_service_id"
            | "no_team"
            | "posting_to_general_channel_denied"
            | "team_disabled"
            | "user_not_found" => {
                let said = client.said(answer);
                let advice = "check the webhook in Slack and the drain's credential `url`";
                Err(Failure::new(Remedy::Park, format!("{said}: {advice}")))
            }
            _ => client.classify(answer),
        }
    }

    fn rejected(&self, line: &[u8]) -> Value {
        json_line(line, "/id")
    }
}

#[cfg(test)]
mod tests {
    use model::Timestamp;

    use super::*;
    use crate::encode::tests::origin;
    use crate::lines::{Extras, Span};

    #[test]
    fn an_event_is_one_line_that_mentions_nobody() {
        let origin = origin();
        let at = Timestamp::from_nanos(1_700_000_000_123_456_789);
        let of = |message: &[u8], span| {
            text(&Line {
                origin: &origin,
                seq: 0,
                at,
                event: "exec",
                span,
                message,
                extras: Extras::default(),
            })
        };
        assert_eq!(
            of(b"exec: <!channel> && a\nb\xff", None),
            "2023-11-14T22:13:20Z production/web ada@example.com: exec: &lt;!channel&gt; &amp;&amp; a b\u{fffd}"
        );
        let span = Some(Span { channel: None, offset: 0, length: 5, continued: true });
        assert!(of(b"exec:", span).ends_with(": exec:\u{2026}"));
    }
}
