//! Which lines a drain takes, and what becomes of them, as the API takes it.

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use super::insert;
use crate::client::Client;
use crate::select::{EnvironmentChoice, field};

/// Options of lines. A list replaces the drain's former one; one empty value empties it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of lines (a list replaces the former one; '' empties it)")]
pub(crate) struct LineOptions {
    /// An app, by its handle: takes the lines of these apps and of their sessions only; may be repeated.
    #[arg(long, value_name = "APP", conflicts_with = "except_app")]
    only_app: Vec<String>,
    /// An app, by its handle: takes the lines of all but these apps; may be repeated.
    #[arg(long, value_name = "APP")]
    except_app: Vec<String>,
    /// A database, by its handle: takes the lines of these databases only; may be repeated.
    #[arg(long, value_name = "DATABASE", conflicts_with = "except_database")]
    only_database: Vec<String>,
    /// A database, by its handle: takes the lines of all but these databases; may be repeated.
    #[arg(long, value_name = "DATABASE")]
    except_database: Vec<String>,
    /// Leaves out lines that are known to be less severe: emergency, alert, critical, error, warning, notice,
    /// info or debug.
    #[arg(long, value_name = "SEVERITY")]
    minimum_severity: Option<String>,
    /// A regular expression: lines of output that it does not match go on the line before, as in a stack
    /// trace.
    #[arg(long, value_name = "PATTERN")]
    multiline_start: Option<String>,
    /// Whether lines that are JSON objects are sent as fields, too.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    parse_json: Option<bool>,
    /// A tag, such as `user_email`: says only this and the others that are named of a line besides its text; may
    /// be repeated. One empty value means all.
    #[arg(long, value_name = "TAG")]
    only_tag: Vec<String>,
    /// A field for every line, NAME=VALUE; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    field: Vec<String>,
    /// A regular expression to mask, or 'PATTERN => REPLACEMENT'; may be repeated.
    #[arg(long, value_name = "PATTERN")]
    redact: Vec<String>,
}

impl LineOptions {
    /// Adds the options to a request, beginning with those that the drain has; `current` is null for a new one.
    /// Apps and databases stand in it by their handles.
    pub(crate) fn insert_into(self, body: &mut Value, current: &Value) -> Result<()> {
        let before = current.as_object().cloned().unwrap_or_default();
        let mut options = before.clone();
        for (name, include, exclude) in [
            ("apps", self.only_app, self.except_app),
            ("databases", self.only_database, self.except_database),
        ] {
            for (verb, handles) in [("include", include), ("exclude", exclude)] {
                if let Some(handles) = list(handles) {
                    let chosen = (!handles.is_empty()).then(|| json!({ verb: handles }));
                    options.insert(name.to_owned(), chosen.into());
                }
            }
        }
        let empty_is_null = |text: String| if text.is_empty() { Value::Null } else { json!(text) };
        for (name, value) in [
            ("minimum_severity", self.minimum_severity.map(empty_is_null)),
            ("multiline_start", self.multiline_start.map(empty_is_null)),
            ("parse_json", self.parse_json.map(Value::from)),
        ] {
            if let Some(value) = value {
                options.insert(name.to_owned(), value);
            }
        }
        if let Some(tags) = list(self.only_tag) {
            let tags = (!tags.is_empty()).then(|| json!(tags));
            options.insert("tags".to_owned(), tags.into());
        }
        if let Some(pairs) = list(self.field) {
            let mut fields = Map::new();
            for pair in &pairs {
                let Some((name, value)) = pair.split_once('=') else {
                    bail!("{pair} is not 'NAME=VALUE'");
                };
                fields.insert(name.to_owned(), value.into());
            }
            options.insert("static_fields".to_owned(), fields.into());
        }
        if let Some(rules) = list(self.redact) {
            let rule = |rule: &String| match rule.split_once(" => ") {
                Some((pattern, replacement)) => {
                    json!({ "pattern": pattern, "replacement": replacement })
                }
                None => json!({ "pattern": rule }),
            };
            let rules: Vec<Value> = rules.iter().map(rule).collect();
            options.insert("redactions".to_owned(), rules.into());
        }
        if options != before {
            insert(body, "options", options.into());
        }
        Ok(())
    }
}

/// None if nothing was given; an empty value stands for none.
fn list(given: Vec<String>) -> Option<Vec<String>> {
    let some = !given.is_empty();
    some.then(|| given.into_iter().filter(|value| !value.is_empty()).collect())
}

/// Puts the ids of apps and databases in the place of their handles.
pub(crate) async fn resolve(
    client: &Client,
    environment: &EnvironmentChoice,
    body: &mut Value,
) -> Result<()> {
    for name in ["apps", "databases"] {
        let Some(chosen) = body.pointer_mut(&format!("/options/{name}")) else { continue };
        for handles in chosen.as_object_mut().into_iter().flat_map(|it| it.values_mut()) {
            for handle in handles.as_array_mut().into_iter().flatten() {
                let text = handle.as_str().unwrap_or_default();
                // What the drain has already.
                if uuid::Uuid::try_parse(text).is_ok() {
                    continue;
                }
                let found = environment.child(client, name, text).await?;
                *handle = field(&found, "id").into();
            }
        }
    }
    Ok(())
}
