//! `platform logs`.
//!
//! Invariant: who writes log lines has no say over the terminal that shows them, nor can a line look like several.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use reqwest::StatusCode;
use serde_json::Value;

use super::Context;
use crate::client::{Events, Problem};
use crate::printer::{Printer, visible};
use crate::select::{EnvironmentChoice, field};
use crate::surroundings;

/// Lines that one request gives at most.
const PAGE: usize = 1000;
/// Between attempts to go on; twice as long each time, up to the second.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_MOST: Duration = Duration::from_secs(15);

const SOURCES: [&str; 4] = ["app", "database", "ephemeral_session", "activity"];
const SEVERITIES: [&str; 8] =
    ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"];

/// Show the logs of an environment: the newest lines, and with --follow those to come.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    environment: EnvironmentChoice,
    /// Only of this app, by its handle or id; may be repeated.
    #[arg(long, value_name = "APP")]
    app: Vec<String>,
    /// Only of this database, by its handle or id; may be repeated.
    #[arg(long, value_name = "DATABASE")]
    database: Vec<String>,
    /// Only what the ephemeral session with this id showed.
    #[arg(long, value_name = "ID", value_parser = |text: &str| text.parse().map(|id: uuid::Uuid| id.to_string()))]
    session: Option<String>,
    /// Only of this source; may be repeated.
    #[arg(long, value_parser = SOURCES)]
    source: Vec<String>,
    /// Only lines with this text in them, whatever its case.
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Only lines that are as severe as this, or more.
    #[arg(long, value_parser = SEVERITIES)]
    severity: Option<String>,
    /// Only from this time on: 30s, 10m, 2h, 1d ago, or a time in RFC 3339.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only before this time.
    #[arg(long, value_name = "TIME", conflicts_with = "follow")]
    until: Option<String>,
    /// How many lines at most, the newest ones.
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    lines: u32,
    /// Go on with the lines that come, until interrupted.
    #[arg(long, short = 'f')]
    follow: bool,
}

/// How lines are written.
#[derive(Debug, Clone, Copy)]
struct Form {
    json: bool,
    colours: bool,
}

impl Logs {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let environment = self.environment.id(&context.client).await?;
        let path = ["environments", &environment, "logs"];
        let colours = std::io::stdout().is_terminal() && surroundings::wants_colours();
        let form = Form { json: context.printer.is_json(), colours };
        let (lines, after) = self.newest(context, &path).await?;
        let text: String = lines.iter().map(|line| form.text(line)).collect();
        if !Printer::more(&text)? || !self.follow {
            return Ok(());
        }
        self.follow(context, &path, form, after).await
    }

    /// The newest lines, oldest first, and the cursor of what comes after them.
    async fn newest(&self, context: &Context, path: &[&str]) -> Result<(Vec<Value>, String)> {
        let wanted = self.lines as usize;
        let (mut pages, mut count) = (Vec::new(), 0);
        let (mut before, mut after) = (None::<String>, None::<String>);
        loop {
            let limit = (wanted - count).clamp(1, PAGE).to_string();
            let mut query = self.query();
            query.extend(self.until.iter().map(|it| ("until", it.as_str())));
            query.push(("limit", &limit));
            query.extend(before.iter().map(|cursor| ("before", cursor.as_str())));
            let mut page = context.client.query(path, &query).await?;
            let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) else {
                anyhow::bail!("the API answered logs without items");
            };
            after.get_or_insert_with(|| field(&page, "after").to_owned());
            before = page.get("before").and_then(Value::as_str).map(str::to_owned);
            if wanted > 0 {
                count += items.len();
                pages.push(items);
            }
            if before.is_none() || count >= wanted {
                break;
            }
        }
        let after = after.context("the API answered no cursor")?;
        Ok((pages.into_iter().rev().flatten().collect(), after))
    }

    async fn follow(
        &self,
        context: &Context,
        path: &[&str],
        form: Form,
        mut last: String,
    ) -> Result<()> {
        let mut wait = RETRY;
        loop {
            let ended = match context.client.events(path, &self.query(), &last).await {
                Ok(mut events) => {
                    let before = last.clone();
                    let ended = relay(&mut events, form, &mut last).await;
                    if last != before {
                        wait = RETRY;
                    }
                    ended
                }
                Err(error) => Err(error),
            };
            match ended {
                Ok(true) => {}
                // Nobody reads any more.
                Ok(false) => return Ok(()),
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => eprintln!("{error:#}; going on in {wait:?}"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MOST);
        }
    }

    fn query(&self) -> Vec<(&str, &str)> {
        let mut query: Vec<(&str, &str)> = Vec::new();
        query.extend(self.app.iter().map(|it| ("app", it.as_str())));
        query.extend(self.database.iter().map(|it| ("database", it.as_str())));
        query.extend(self.source.iter().map(|it| ("source", it.as_str())));
        for (name, value) in [
            ("session", &self.session),
            ("text", &self.text),
            ("severity", &self.severity),
            ("since", &self.since),
        ] {
            query.extend(value.iter().map(|it| (name, it.as_str())));
        }
        query
    }
}

/// Prints what comes, until the API ends it (true) or nobody reads any more (false).
async fn relay(events: &mut Events, form: Form, last: &mut String) -> Result<bool> {
    while let Some(event) = events.next().await? {
        if let Some(line) = &event.data
            && !Printer::more(&form.text(line))?
        {
            return Ok(false);
        }
        // Only now: what was not printed comes again.
        if let Some(id) = event.id {
            *last = id;
        }
    }
    Ok(true)
}

/// Whether it is no use to ask again.
fn is_final(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Problem>().is_some_and(|problem| {
        problem.status.is_client_error() && problem.status != StatusCode::TOO_MANY_REQUESTS
    })
}

impl Form {
    /// A line with its line end.
    fn text(self, line: &Value) -> String {
        if self.json {
            return format!("{line}\n");
        }
        let (source, event) = (field(line, "source"), field(line, "event"));
        let (source, name) = match source {
            "ephemeral_session" => ("session", field(line, "user_email")),
            "database" => (source, field(line, "database")),
            _ => (source, field(line, "app")),
        };
        let slash = if name.is_empty() { "" } else { "/" };
        let stream = match field(line, "stream") {
            "" if matches!(event, "line" | "activity") => String::new(),
            "" => format!("[{event}]"),
            stream => format!("[{stream}]"),
        };
        let time = to_the_millisecond(field(line, "time"));
        let place = format!("{source}{slash}{name}{stream}");
        let mut texts = field(line, "message").lines().map(harmless);
        let first = texts.next().unwrap_or_default();
        let colour = match field(line, "severity") {
            "emergency" | "alert" | "critical" | "error" => "\u{1b}[31m",
            "warning" => "\u{1b}[33m",
            _ => "",
        };
        let (dim, colour, off) =
            if self.colours { ("\u{1b}[2m", colour, "\u{1b}[0m") } else { ("", "", "") };
        let (time, place) = (visible(&time), visible(&place));
        let mut text = format!("{dim}{time} {place}{off} {colour}{first}");
        for more in texts {
            // Not where lines begin.
            text.push_str("\n    ");
            text.push_str(&more);
        }
        if !colour.is_empty() {
            text.push_str(off);
        }
        text.push('\n');
        text
    }
}

/// Without control characters but tabs.
fn harmless(text: &str) -> String {
    let parts: Vec<String> = text.split('\t').map(visible).collect();
    parts.join("\t")
}

/// `2026-01-02T03:04:05.678901Z` becomes `2026-01-02T03:04:05.678Z`.
fn to_the_millisecond(time: &str) -> String {
    match time.trim_end_matches('Z').split_once('.') {
        Some((seconds, fraction)) => {
            let millis: String = fraction.chars().chain("000".chars()).take(3).collect();
            format!("{seconds}.{millis}Z")
        }
        None => format!("{}.000Z", time.trim_end_matches('Z')),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PLAIN: Form = Form { json: false, colours: false };

    #[test]
    fn line_says_when_and_where_it_was_written() {
        let line = json!({
            "time": "2026-01-02T03:04:05.6789Z", "source": "app", "app": "web", "event": "line",
            "stream": "stderr", "severity": "error", "message": "no\tdisk"
        });
        assert_eq!(PLAIN.text(&line), "2026-01-02T03:04:05.678Z app/web[stderr] no\tdisk\n");
        let coloured = Form { colours: true, ..PLAIN }.text(&line);
        assert!(coloured.contains("\u{1b}[31mno\tdisk\u{1b}[0m\n"), "{coloured:?}");
        let session = json!({
            "time": "2026-01-02T03:04:05Z", "source": "ephemeral_session", "event": "shell",
            "user_email": "ada@example.com", "app": "web", "message": "shell started"
        });
        assert_eq!(
            PLAIN.text(&session),
            "2026-01-02T03:04:05.000Z session/ada@example.com[shell] shell started\n"
        );
    }

    #[test]
    fn line_can_neither_move_the_cursor_nor_look_like_another() {
        let line = json!({
            "time": "2026-01-02T03:04:05Z", "source": "app", "app": "web", "event": "line",
            "message": "a\u{1b}[2J\rb\n2026-01-02T03:04:05.000Z app/api forged\u{202e}"
        });
        let text = Form { colours: true, ..PLAIN }.text(&line);
        assert!(!text.contains("\u{1b}[2J") && !text.contains(['\r', '\u{202e}']), "{text:?}");
        assert!(text.contains("\n    2026-01-02T03:04:05.000Z app/api forged"), "{text:?}");
        let json = Form { json: true, ..PLAIN }.text(&line);
        assert_eq!((json.lines().count(), json.contains('\u{1b}')), (1, false));
    }
}
