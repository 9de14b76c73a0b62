//! Refusals of the API, in its own words (RFC 9457).

use std::fmt;

use reqwest::StatusCode;
use serde_json::Value;

use crate::printer::visible;

/// A refusal: a sentence, and one for each field that is wrong.
#[derive(Debug)]
pub(crate) struct Problem {
    /// The answer's HTTP status.
    pub(crate) status: StatusCode,
    sentence: String,
    fields: Vec<(String, String)>,
    request_id: Option<String>,
}

impl Problem {
    /// Reads a refusal, whatever sent it: a proxy in between answers with no problem document.
    pub(crate) fn parse(status: StatusCode, body: &[u8]) -> Self {
        let document: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |value: &Value, name: &str| value.get(name)?.as_str().map(visible);
        let sentence = text(&document, "detail").or_else(|| text(&document, "title"));
        let errors = document.get("errors").and_then(Value::as_array);
        let fields = errors.into_iter().flatten().filter_map(|error| {
            let field = text(error, "field").or_else(|| text(error, "pointer"))?;
            let message = text(error, "detail").or_else(|| text(error, "message"))?;
            Some((field, message))
        });
        Self {
            status,
            fields: fields.collect(),
            sentence: sentence.unwrap_or_else(|| format!("the API answered {status}")),
            request_id: text(&document, "request_id"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)?;
        for (field, message) in &self.fields {
            write!(f, "\n  {field}: {message}")?;
        }
        match &self.request_id {
            // Whoever looks into the API's log needs it; a refusal explains itself.
            Some(id) if self.status.is_server_error() => write!(f, "\n  request: {id}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentence_and_fields_of_a_problem_are_shown() {
        let body = br#"{"title": "Invalid", "detail": "The app is not valid.",
            "errors": [{"field": "image", "detail": "must not be empty"}], "request_id": "r"}"#;
        let problem = Problem::parse(StatusCode::UNPROCESSABLE_ENTITY, body);
        assert_eq!(problem.to_string(), "The app is not valid.\n  image: must not be empty");
    }

    #[test]
    fn answer_that_is_no_problem_document_is_named_by_its_status() {
        let problem = Problem::parse(StatusCode::BAD_GATEWAY, b"<html>nginx</html>");
        assert_eq!(problem.to_string(), "the API answered 502 Bad Gateway");
    }
}
