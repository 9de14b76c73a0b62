//! `/v1/environments/{id}/logs`.

use actix_web::http::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use model::{Environment, Id};
use serde::Serialize;
use service::Shutdown;
use utoipa::ToSchema;

use crate::app::logs::{self, Cursor, Event, LogLine};
use crate::http::Shared;
use crate::http::openapi::Failure;
use crate::http::problem::Problem;
use crate::http::request::{BearerToken, SignedIn};

mod query;

use query::{LogsQuery, Mode};

const EVENT_STREAM: &str = "text/event-stream";
const LAST_EVENT_ID: &str = "last-event-id";

/// A part of the logs.
#[derive(Serialize, ToSchema)]
struct LogPage {
    /// Lines, oldest first. They may be fewer than were asked for, or none, though there are more before or after
    /// them: a request searches for no longer than a moment.
    items: Vec<LogLine>,
    /// What is before them: as `before` it gives the page before this one. Null: there is nothing.
    before: Option<String>,
    /// What is after them: as `after` it gives the page after this one, and with `follow` what comes.
    after: String,
}

/// Reads an environment's logs: the newest lines that fit, or, with `follow` or where `text/event-stream` is
/// accepted, those to come, as server-sent events. The data of an event is a line; its id is a cursor, which as
/// `Last-Event-ID` or as `after` has another request go on without gap or repeat. Something is sent every 15 s.
/// Who may not see what ephemeral sessions showed is shown everything else.
#[utoipa::path(
    get, path = "/v1/environments/{id}/logs", tag = "logs", operation_id = "read_logs",
    params(
        ("id" = Uuid, Path, description = "The environment."),
        LogsQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "With `follow`: the id of the last event that came.")
    ),
    responses(
        (
            status = 200, description = "A page, or events.",
            content((LogPage = "application/json"), (LogLine = "text/event-stream"))
        ),
        Failure
    )
)]
pub(crate) async fn read(
    app: Shared,
    shutdown: web::Data<Shutdown>,
    caller: SignedIn,
    token: BearerToken,
    environment: web::Path<Id<Environment>>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let accepts_events = header(ACCEPT.as_str()).is_some_and(|accept| {
        let mut types = accept.split(',').filter_map(|it| it.split(';').next());
        types.any(|it| it.trim().eq_ignore_ascii_case(EVENT_STREAM))
    });
    let query = query::parse(request.query_string(), accepts_events, header(LAST_EVENT_ID))?;
    let permit = app.permit(&caller.0, *environment).await?;
    match query.mode {
        Mode::Page { part, limit } => {
            let page = logs::page(&app, &permit, &query.wanted, part, limit).await?;
            Ok(HttpResponse::Ok().json(LogPage {
                items: page.lines,
                before: page.before.map(Cursor::encode),
                after: page.after.encode(),
            }))
        }
        Mode::Follow { from } => {
            let app = app.into_inner();
            let mut follower =
                logs::follow(app, &permit, token.0, &query.wanted, from, &shutdown).await?;
            let events = stream::poll_fn(move |context| follower.poll_recv(context));
            let events = futures_util::StreamExt::map(events, |event| {
                Ok::<_, actix_web::Error>(rendered(&event))
            });
            Ok(HttpResponse::Ok()
                .insert_header((CONTENT_TYPE, EVENT_STREAM))
                // For a reverse proxy: nothing is to be held back.
                .insert_header((HeaderName::from_static("x-accel-buffering"), "no"))
                .streaming(events))
        }
    }
}

/// As server-sent events (WHATWG HTML, section 9.2). An id without data is kept by the reader and shown to nobody.
fn rendered(event: &Event) -> Bytes {
    let mut text = String::new();
    match event {
        Event::Nothing(cursor) => {
            text.extend([": nothing new\nid: ", &cursor.encode(), "\n\n"]);
        }
        Event::Lines(lines) => {
            for (cursor, line) in lines {
                // JSON has no line end within. That of a line cannot fail.
                let data = serde_json::to_string(line).unwrap_or_default();
                text.extend(["id: ", &cursor.encode(), "\ndata: ", &data, "\n\n"]);
            }
        }
    }
    text.into()
}
