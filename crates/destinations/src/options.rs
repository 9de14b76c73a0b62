//! Which lines a drain takes, and what becomes of them on the way; the same for every kind.

use std::collections::{BTreeMap, BTreeSet};

use model::validation::{Checks, FieldError};
use model::{App, Database, Id};
use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::Kind;
use crate::tag::Tag;
use model::Severity;

/// Bytes that a compiled pattern may have; its cache may have as many.
const LARGEST_PATTERN: usize = 256 * 1024;
const LONGEST_PATTERN: usize = 1_000;
const MOST_LISTED: usize = 200;
const MOST_FIELDS: usize = 20;
const MOST_REDACTIONS: usize = 20;

/// Which lines a drain takes, and what becomes of them on the way. What is left out is as if it were not
/// there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The apps whose lines it takes, those of their ephemeral sessions included; all, if left out.
    #[schema(value_type = Option<AnySelection>)]
    pub apps: Option<Selection<App>>,
    /// The databases whose lines it takes; all, if left out.
    #[schema(value_type = Option<AnySelection>)]
    pub databases: Option<Selection<Database>>,
    /// Leaves out lines that are less severe, as their senders said (syslog, OTLP, a database's own format) or, with
    /// `parse_json`, as the field `level`, `severity` or `lvl` of their JSON says. Lines of which nobody says it
    /// are sent.
    pub minimum_severity: Option<Severity>,
    /// A regular expression: a line that it does not match goes on the line before it, as in a stack trace. A
    /// line ends at the next one that it matches, at a pause of a second or at the length limit.
    #[schema(max_length = 1_000, example = r"^\d{4}-\d{2}-\d{2}")]
    pub multiline_start: Option<String>,
    /// Whether lines that are JSON objects are delivered as fields, too, under the name `json`, to kinds
    /// that take JSON.
    pub parse_json: bool,
    /// What is said of each line besides its text; all, if left out. Fewer make messages shorter: where all
    /// are there, most of a message is tags. What is part of a format all the same, such as the header of a
    /// syslog message, stays. `id` must be among them for kinds that send over HTTP: requests are told apart by
    /// it. Without it, lines that are delivered twice cannot be told.
    pub tags: Option<BTreeSet<Tag>>,
    /// Fields to add to every line: at most 20. A name has 1 to 32 letters, digits and underscores and does
    /// not begin with a digit, and is none of Spillway's own; a value has 1 to 200 characters.
    pub static_fields: BTreeMap<String, String>,
    /// What to mask in lines, one rule after the other: at most 20.
    #[schema(max_items = 20)]
    pub redactions: Vec<Redaction>,
}

/// Some of an environment's apps or databases, by their ids, at most 200.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", bound = "")]
pub enum Selection<T> {
    /// These only.
    Include(Vec<Id<T>>),
    /// All but these.
    Exclude(Vec<Id<T>>),
}

/// Some of an environment's apps or databases, by their ids, at most 200.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code, reason = "describes `Selection`, whose ids are typed")]
pub enum AnySelection {
    /// These only.
    Include(Vec<Uuid>),
    /// All but these.
    Exclude(Vec<Uuid>),
}

/// What to mask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Redaction {
    /// A regular expression (as of Rust's `regex`: no look-around, no back references); all it matches in a
    /// line's text is masked. What the length limit cuts in two is seen in two pieces.
    #[schema(max_length = 1_000, example = r"\b\d{13,16}\b")]
    pub pattern: String,
    /// What stands in its place; `$1` is what the first group matched.
    #[serde(default = "redacted")]
    #[schema(default = "[redacted]", max_length = 200)]
    pub replacement: String,
}

fn redacted() -> String {
    "[redacted]".to_owned()
}

impl<T> Selection<T> {
    /// Whether it has a thing.
    #[must_use]
    pub fn has(&self, id: Id<T>) -> bool {
        match self {
            Self::Include(ids) => ids.contains(&id),
            Self::Exclude(ids) => !ids.contains(&id),
        }
    }

    /// What it names.
    #[must_use]
    pub fn ids(&self) -> &[Id<T>] {
        match self {
            Self::Include(ids) | Self::Exclude(ids) => ids,
        }
    }
}

impl Options {
    /// Checks them, but not whether what they name is there.
    pub fn check(&self, kind: Kind) -> Result<(), Vec<FieldError>> {
        let mut checks = Checks::default();
        list(&mut checks, "options.apps", self.apps.as_ref());
        list(&mut checks, "options.databases", self.databases.as_ref());
        if let Some(start) = &self.multiline_start {
            pattern(&mut checks, "options.multiline_start", start);
        }
        let has_id = self.tags.as_ref().is_none_or(|tags| tags.contains(&Tag::Id));
        let detail = "must have `id`, by which requests of this kind are told apart";
        checks.rule(has_id || kind.is_syslog(), "options.tags", detail);
        let field = "options.static_fields";
        checks.rule(self.static_fields.len() <= MOST_FIELDS, field, "must be at most 20");
        for (name, value) in &self.static_fields {
            let is_name = (1..=32).contains(&name.len())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && !name.starts_with(|c: char| c.is_ascii_digit());
            let detail = "must have 1 to 32 letters, digits and underscores, and no digit first";
            checks.rule(is_name, field, detail);
            if !is_name {
                continue;
            }
            let field = format!("{field}.{name}");
            let detail = "is one of Spillway's own names: choose another";
            checks.rule(!OWN_NAMES.contains(&name.as_str()), &field, detail);
            checks.text(value, &field, 200);
        }
        let field = "options.redactions";
        checks.rule(self.redactions.len() <= MOST_REDACTIONS, field, "must be at most 20");
        for (redaction, number) in self.redactions.iter().zip(0..MOST_REDACTIONS) {
            let field = format!("{field}[{number}]");
            pattern(&mut checks, &format!("{field}.pattern"), &redaction.pattern);
            let sound = redaction.replacement.chars().count() <= 200
                && !redaction.replacement.contains(char::is_control);
            let detail = "must have at most 200 characters and no control character";
            checks.rule(sound, &format!("{field}.replacement"), detail);
        }
        checks.finish()
    }
}

/// The names of fields that Spillway gives to lines, in any kind's format.
const OWN_NAMES: &[&str] = &[
    "id",
    "time",
    "source",
    "source_kind",
    "environment",
    "environment_id",
    "app",
    "app_id",
    "database",
    "database_id",
    "session_id",
    "user_id",
    "user_email",
    "user_name",
    "event",
    "stream",
    "offset",
    "length",
    "continued",
    "redacted",
    "seq",
    "sent_at",
    "fields",
    "severity",
    "hop",
    "message",
    "message_base64",
    "json",
    "level",
    "service",
    "timestamp",
    "log",
    "host",
    "layer",
    "type",
];

fn list<T>(checks: &mut Checks, field: &str, selection: Option<&Selection<T>>) {
    let Some(selection) = selection else { return };
    let count = selection.ids().len();
    checks.rule((1..=MOST_LISTED).contains(&count), field, "must name 1 to 200");
}

fn pattern(checks: &mut Checks, field: &str, text: &str) {
    let compiled = if text.is_empty() || text.len() > LONGEST_PATTERN {
        Err("must have 1 to 1000 bytes".to_owned())
    } else {
        regex(text)
    };
    match compiled {
        Err(detail) => checks.rule(false, field, &detail),
        Ok(regex) => {
            let detail = "must not match an empty text: it would match everywhere";
            checks.rule(!regex.is_match(b""), field, detail);
        }
    }
}

/// Compiles a pattern of a drain's options.
pub fn regex(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .size_limit(LARGEST_PATTERN)
        .dfa_size_limit(LARGEST_PATTERN)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => {
                format!("is too large: compiled it must have at most {limit} bytes")
            }
            // Without the pattern, which it draws over several lines.
            error => format!(
                "is no regular expression: {}",
                error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ")
            ),
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(options: serde_json::Value) -> Vec<String> {
        let options: Options = serde_json::from_value(options).unwrap();
        let errors = options.check(Kind::HttpsPost).err().unwrap_or_default();
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn every_wrong_option_is_named() {
        assert!(refused(json!({})).is_empty());
        let id = Uuid::nil();
        assert!(refused(json!({"apps": {"include": [id]}})).is_empty());
        assert_eq!(refused(json!({"apps": {"include": []}})), ["options.apps"]);
        for bad in ["", "(", "a*", "^", "(?:a{1000}){1000}", "(?=a)"] {
            assert_eq!(
                refused(json!({"multiline_start": bad, "redactions": [{"pattern": bad}]})),
                ["options.multiline_start", "options.redactions[0].pattern"],
                "{bad}"
            );
        }
        let fields = json!({"team": "payments", "1a": "x", "user_email": "x", "b": " "});
        assert_eq!(
            refused(json!({ "static_fields": fields })),
            ["static_fields", "static_fields.b", "static_fields.user_email"]
                .map(|field| format!("options.{field}"))
        );
        let no_id = json!({"tags": ["user_email"]});
        assert_eq!(refused(no_id.clone()), ["options.tags"]);
        let no_id: Options = serde_json::from_value(no_id).unwrap();
        assert!(no_id.check(Kind::Papertrail).is_ok());
        let redaction = json!({"pattern": "a", "replacement": "\n"});
        assert_eq!(
            refused(json!({ "redactions": [redaction] })),
            ["options.redactions[0].replacement"]
        );
    }

    #[test]
    fn what_was_kept_is_read_again() {
        let options = json!({
            "apps": {"exclude": [Uuid::nil()]}, "databases": null, "minimum_severity": "warning",
            "multiline_start": "^a", "parse_json": true, "static_fields": {"team": "payments"},
            "tags": ["id", "user_email"], "redactions": [{"pattern": "b", "replacement": "[redacted]"}]
        });
        let read: Options = serde_json::from_value(options.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), options);
    }

    #[test]
    fn errors_say_what_is_wrong_on_one_line() {
        let error = regex("a(").unwrap_err();
        assert_eq!(error, "is no regular expression: unclosed group");
    }
}
