//! The query string of logs. Some parameters may be repeated, so it is read pair by pair.

use std::time::Duration;

use actix_web::web;
use model::{Severity, Source, Timestamp};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::IntoParams;

use crate::app::logs::{Cursor, Part, Wanted};
use crate::http::problem::Problem;

const DEFAULT_LIMIT: usize = 100;
const HIGHEST_LIMIT: usize = 1000;
/// Names of apps and databases in one query.
const MOST_NAMES: usize = 50;

/// Which lines.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes a query string")]
pub(crate) struct LogsQuery {
    /// Of this app, by its handle or id; may be repeated.
    app: Option<Vec<String>>,
    /// Of this database, by its handle or id; may be repeated.
    database: Option<Vec<String>>,
    /// Of this ephemeral session.
    session: Option<uuid::Uuid>,
    /// Of this source: `app`, `database`, `ephemeral_session` or `activity`; may be repeated.
    source: Option<Vec<String>>,
    /// With this in the text, whatever its case: 1 to 200 characters.
    text: Option<String>,
    /// As severe as this, or more. What does not say how severe it is counts as `info`, on standard error as
    /// `notice`.
    severity: Option<Severity>,
    /// From this time on: in RFC 3339, or as long ago as `30s`, `10m`, `2h`, `1d` say.
    since: Option<String>,
    /// Before this time.
    until: Option<String>,
    /// How many at most: 1 to 1000; 100, if left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
    /// The page before this: the `before` of another.
    before: Option<String>,
    /// The page after this: the `after` of another, or the id of an event.
    after: Option<String>,
    /// Those to come, as server-sent events: from now on, or from `after` on.
    follow: Option<bool>,
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) wanted: Wanted,
    pub(super) mode: Mode,
}

/// In which form.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Page { part: Part, limit: usize },
    Follow { from: Option<Cursor> },
}

/// Reads a query string, and what headers add to it.
pub(super) fn parse(
    query: &str,
    accepts_events: bool,
    last_event_id: Option<&str>,
) -> Result<Parsed, Problem> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(query)
        .map_err(|_| Problem::bad_request("The query string cannot be read."))?;
    let mut wanted = Wanted::default();
    let (mut limit, mut before, mut after, mut follow) = (None, None, None, accepts_events);
    for (name, value) in pairs.into_inner() {
        let bad = |must: &str| Problem::bad_request(format!("`{name}` must be {must}."));
        match name.as_str() {
            "app" => wanted.apps.push(value),
            "database" => wanted.databases.push(value),
            "session" => {
                wanted.session =
                    Some(value.parse().map_err(|_| bad("the id of an ephemeral session"))?);
            }
            "source" => {
                let source = Source::ALL.into_iter().find(|source| source.as_str() == value);
                let must = "app, database, ephemeral_session or activity";
                wanted.sources.push(source.ok_or_else(|| bad(must))?);
            }
            "text" => wanted.text = Some(value),
            "severity" => {
                let severity = Severity::of_json(&Value::String(value));
                let must = "emergency, alert, critical, error, warning, notice, info or debug";
                wanted.severity = Some(severity.ok_or_else(|| bad(must))?);
            }
            "since" | "until" => {
                let must = "a time in RFC 3339, or as long ago as 30s, 10m, 2h or 1d say";
                let time = time(&value, Timestamp::now()).ok_or_else(|| bad(must))?;
                let place = if name == "since" { &mut wanted.since } else { &mut wanted.until };
                *place = Some(time);
            }
            "limit" => {
                let number = value.parse().ok().filter(|it| (1..=HIGHEST_LIMIT).contains(it));
                limit = Some(number.ok_or_else(|| bad("1 to 1000"))?);
            }
            "before" | "after" => {
                let must = "a cursor of an earlier answer";
                let cursor = Cursor::decode(&value).ok_or_else(|| bad(must))?;
                *(if name == "before" { &mut before } else { &mut after }) = Some(cursor);
            }
            "follow" => follow = value.parse().map_err(|_| bad("true or false"))?,
            _ => {
                return Err(Problem::bad_request(format!(
                    "There is no parameter `{}`; see /openapi.yaml.",
                    name.chars().take(50).collect::<String>()
                )));
            }
        }
    }
    if wanted.apps.len() + wanted.databases.len() > MOST_NAMES || wanted.sources.len() > MOST_NAMES
    {
        return Err(Problem::bad_request("At most 50 apps and databases can be named at once."));
    }
    let mode = if follow {
        if limit.is_some() || before.is_some() || wanted.until.is_some() {
            return Err(Problem::bad_request(
                "With `follow`, leave out `limit`, `before` and `until`: it goes on until you close it.",
            ));
        }
        let last = last_event_id.filter(|id| !id.is_empty()).map(|id| {
            let bad = || Problem::bad_request("`Last-Event-ID` must be the id of an event.");
            Cursor::decode(id).ok_or_else(bad)
        });
        Mode::Follow { from: last.transpose()?.or(after) }
    } else {
        let part = match (before, after) {
            (None, None) => Part::Newest,
            (Some(before), None) => Part::Before(before),
            (None, Some(after)) => Part::After(after),
            (Some(_), Some(_)) => {
                return Err(Problem::bad_request("Give one of `before` and `after`."));
            }
        };
        Mode::Page { part, limit: limit.unwrap_or(DEFAULT_LIMIT) }
    };
    Ok(Parsed { wanted, mode })
}

/// A time in RFC 3339, or so long before `now`.
fn time(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        // What is too far away is as far as can be.
        let nanos = at.unix_timestamp_nanos().clamp(0, i64::MAX.into());
        return u64::try_from(nanos).ok().map(Timestamp::from_nanos);
    }
    let unit = text.chars().last()?;
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let ago = Duration::from_secs(number.checked_mul(seconds)?);
    let nanos = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
    Some(Timestamp::from_nanos(now.nanos().saturating_sub(nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_names_are_all_wanted() {
        let query = "app=web&app=api&source=app&source=activity&text=a+b&severity=warn&limit=7";
        let parsed = parse(query, false, None).expect("a query");
        let wanted = Wanted {
            apps: vec!["web".to_owned(), "api".to_owned()],
            sources: vec![Source::App, Source::Activity],
            text: Some("a b".to_owned()),
            severity: Some(Severity::Warning),
            ..Wanted::default()
        };
        assert_eq!(parsed, Parsed { wanted, mode: Mode::Page { part: Part::Newest, limit: 7 } });
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let cursor = Cursor::decode(&"A".repeat(27)).expect("a cursor").encode();
        for query in [
            "colour=red".to_owned(),
            "source=apps".to_owned(),
            "severity=loud".to_owned(),
            "session=web".to_owned(),
            "limit=0".to_owned(),
            "limit=1001".to_owned(),
            "since=yesterday".to_owned(),
            "since=5".to_owned(),
            "since=99999999999999999999d".to_owned(),
            "before=x".to_owned(),
            format!("before={cursor}&after={cursor}"),
            "follow=perhaps".to_owned(),
            "follow=true&limit=3".to_owned(),
            "follow=true&until=1m".to_owned(),
            "app=a&".repeat(51),
        ] {
            assert!(parse(&query, false, None).is_err(), "{query}");
        }
        assert!(parse("follow=true", false, Some("x")).is_err());
    }

    #[test]
    fn a_reader_of_events_follows_from_its_last_one() {
        let cursor = |letter: &str| Cursor::decode(&format!("{}A", letter.repeat(26)));
        let (last, after) = (cursor("A").expect("a cursor"), cursor("B").expect("a cursor"));
        let (query, id) = (format!("after={}", after.encode()), last.encode());
        let mode = |last_event_id| parse(&query, true, last_event_id).expect("a query").mode;
        assert_eq!(mode(Some(&id)), Mode::Follow { from: Some(last) });
        assert_eq!(mode(Some("")), Mode::Follow { from: Some(after) });
        assert_eq!(mode(None), Mode::Follow { from: Some(after) });
    }

    #[test]
    fn times_are_absolute_or_so_long_ago() {
        let now = Timestamp::from_nanos(1_000_000_000_000_000);
        let ago = |seconds: u64| Some(Timestamp::from_nanos(now.nanos() - seconds * 1_000_000_000));
        assert_eq!(time("10m", now), ago(600));
        assert_eq!(time("1d", now), ago(86_400));
        assert_eq!(time("1970-01-01T00:00:01Z", now), Some(Timestamp::from_nanos(1_000_000_000)));
        assert!(time("9999-12-31T23:59:59Z", now) > time("2200-01-01T00:00:00Z", now));
        assert_eq!(time("1066-10-14T09:00:00Z", now), Some(Timestamp::from_nanos(0)));
        for bad in ["", "m", "-1m", "1.5h", "10", "10 m", "\u{e9}", "1w"] {
            assert_eq!(time(bad, now), None, "{bad}");
        }
    }
}
