//! Rules for what callers write.

use serde::de::DeserializeOwned;

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Its path in the body, with dots.
    pub field: String,
    /// What is wrong and what is allowed. Never holds the value.
    pub detail: String,
}

impl FieldError {
    /// An error of a field.
    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }
}

/// Collects what is wrong, so that a caller sees all of it at once.
#[derive(Debug, Default)]
pub struct Checks(Vec<FieldError>);

impl Checks {
    /// Notes an error unless the rule holds.
    pub fn rule(&mut self, holds: bool, field: &str, detail: &str) {
        if !holds {
            self.0.push(FieldError::new(field, detail));
        }
    }

    /// Checks a text for people: its length in characters, and that it has no control character.
    pub fn text(&mut self, text: &str, field: &str, longest: usize) {
        let length = text.chars().count();
        self.rule(
            (1..=longest).contains(&length) && !text.chars().any(char::is_control),
            field,
            &format!("must have 1 to {longest} characters and no control character"),
        );
        self.rule(text.trim() == text, field, "must not begin or end with a space");
    }

    /// Keeps the value, or notes why there is none.
    pub fn keep<T>(&mut self, outcome: Result<T, Vec<FieldError>>) -> Option<T> {
        outcome.map_err(|errors| self.0.extend(errors)).ok()
    }

    /// Ends the checks.
    pub fn finish(self) -> Result<(), Vec<FieldError>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }
}

/// Reads JSON; an error names the field and never holds a value, which could be a secret.
pub fn parse_json<'de, T, D>(prefix: &str, json: D) -> Result<T, FieldError>
where
    T: DeserializeOwned,
    D: serde::Deserializer<'de, Error = serde_json::Error>,
{
    serde_path_to_error::deserialize(json).map_err(|error| {
        let path = match (prefix, error.path().to_string()) {
            ("", path) => path,
            (prefix, path) if path == "." => prefix.to_owned(),
            (prefix, path) => format!("{prefix}.{path}"),
        };
        FieldError::new(path, without_values(&error.inner().to_string()))
    })
}

/// What serde says, without the value that it says it about.
fn without_values(message: &str) -> String {
    // serde_json appends where: that is no secret, and the field says it better.
    let message = message.split(" at line ").next().unwrap_or_default();
    for telling in ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant "] {
        if message.starts_with(telling) {
            return match message.rsplit_once(", expected ") {
                Some((_, expected)) => format!("must be {expected}"),
                None => "has the wrong type or value".to_owned(),
            };
        }
    }
    message.to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only parsed")]
    struct Sample {
        handle: crate::Handle,
        count: u16,
        inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[allow(dead_code, reason = "only parsed")]
    enum Inner {
        Keep,
        Strip,
    }

    fn errors(json: &str) -> FieldError {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        parse_json::<Sample, _>("", &mut deserializer).expect_err("must not parse")
    }

    #[test]
    fn errors_name_the_field_and_what_is_allowed() {
        let error = errors(r#"{"handle": "Web", "count": 1}"#);
        assert_eq!(error.field, "handle");
        assert!(error.detail.starts_with("a handle is 1 to 63"), "{}", error.detail);
        let error = errors(r#"{"handle": "web", "count": "many"}"#);
        assert_eq!((error.field.as_str(), error.detail.as_str()), ("count", "must be u16"));
        assert!(errors(r#"{"handle": "web", "colour": 1}"#).detail.contains("unknown field"));
        assert!(errors(r#"{"handle": "web"}"#).detail.contains("missing field `count`"));
    }

    proptest! {
        #[test]
        fn errors_never_hold_the_value(secret in "[a-zA-Z0-9 ,:\\PC]{6,40}") {
            prop_assume!(!"a string or map expected must be u16, keep, strip".contains(&secret));
            for json in [
                serde_json::json!({"handle": "web", "count": format!("MARK{secret}")}),
                serde_json::json!({"handle": format!("MARK{secret}"), "count": 1}),
                serde_json::json!({"handle": "web", "count": 1, "inner": format!("MARK{secret}")}),
            ] {
                let error = errors(&json.to_string());
                prop_assert!(!error.detail.contains("MARK"), "{}", error.detail);
            }
        }
    }
}
