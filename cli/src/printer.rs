//! The only writer to standard output: JSON for programs, tables and lines for people.
//!
//! Invariant: text from the API reaches the terminal without control characters, so that a name or
//! the error of somebody's endpoint cannot move the cursor or colour what follows.

use std::io::{ErrorKind, Write as _};

use anyhow::Result;
use comfy_table::{ContentArrangement, Table};
use serde_json::Value;

/// A column of a table: its heading, and the JSON pointer (RFC 6901) of its value in each item.
pub(crate) type Column = (&'static str, &'static str);

/// Writes answers in the form that was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    json: bool,
}

impl Printer {
    /// A printer for programs (`json`) or for people.
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether programs are reading.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// A list of items.
    pub(crate) fn list(self, items: &[Value], columns: &[Column]) -> Result<()> {
        if self.json {
            return write(&format!("{:#}\n", Value::Array(items.to_vec())));
        }
        let mut table = Table::new();
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(columns.iter().map(|(heading, _)| *heading));
        for item in items {
            table.add_row(
                columns
                    .iter()
                    .map(|(_, pointer)| item.pointer(pointer).map(readable).unwrap_or_default()),
            );
        }
        write(&format!("{}\n", table.trim_fmt()))
    }

    /// One item, whole.
    pub(crate) fn item(self, item: &Value) -> Result<()> {
        if self.json {
            return write(&format!("{item:#}\n"));
        }
        let mut lines = String::new();
        flatten("", item, &mut lines);
        write(&lines)
    }

    /// What was done: the answer for programs, `sentence` for people.
    pub(crate) fn done(self, answer: &Value, sentence: &str) -> Result<()> {
        match (self.json, answer) {
            (true, Value::Null) => Ok(()),
            (true, answer) => write(&format!("{answer:#}\n")),
            (false, _) => self.line(sentence),
        }
    }

    /// A line for people; programs are not told.
    pub(crate) fn line(self, text: &str) -> Result<()> {
        if self.json {
            return Ok(());
        }
        write(&format!("{text}\n"))
    }

    /// Text that is one of many; false if nobody reads any more.
    pub(crate) fn more(text: &str) -> Result<bool> {
        try_write(text)
    }

    /// Text as it is, for programs and people alike.
    pub(crate) fn raw(text: &str) -> Result<()> {
        write(text)
    }
}

fn write(text: &str) -> Result<()> {
    try_write(text).map(|_| ())
}

fn try_write(text: &str) -> Result<bool> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        // The reader has seen enough (`platform app list | head -1`).
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        written => Ok(written.map(|()| true)?),
    }
}

/// A line for each value, named by its path. A text of several lines, such as a certificate, stays
/// in its column, so it cannot pass for other values.
fn flatten(path: &str, value: &Value, lines: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, value, lines);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, item) in items.iter().enumerate() {
                flatten(&format!("{path}.{index}"), item, lines);
            }
        }
        value => {
            let text = match value {
                Value::String(text) => {
                    let shown: Vec<String> = text.lines().map(shown).collect();
                    shown.join(&format!("\n{:29}", ""))
                }
                value => readable(value),
            };
            lines.push_str(format!("{path:<28} {text}").trim_end());
            lines.push('\n');
        }
    }
}

fn readable(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => shown(text),
        Value::Number(number) if number.is_f64() => {
            format!("{:.1}", number.as_f64().unwrap_or_default())
        }
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let texts: Vec<String> = items.iter().map(readable).collect();
            texts.join(" ")
        }
        other => visible(&other.to_string()),
    }
}

fn shown(text: &str) -> String {
    visible(&without_fraction(text))
}

/// Replaces control characters, and those that reorder what stands beside them.
pub(crate) fn visible(text: &str) -> String {
    let hidden =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if hidden(c) { '\u{fffd}' } else { c }).collect()
}

/// Times to the second: `2026-01-02T03:04:05.678Z` becomes `2026-01-02T03:04:05Z`.
fn without_fraction(text: &str) -> String {
    let is_time = text.len() > 20
        && text.as_bytes().get(10) == Some(&b'T')
        && text.as_bytes().get(19) == Some(&b'.');
    match (is_time, text.split_once('.')) {
        (true, Some((seconds, rest))) => {
            let zone = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{seconds}{zone}")
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn control_characters_of_answers_do_not_reach_the_terminal() {
        assert_eq!(
            readable(&json!("a\u{1b}[31mb\u{7}\u{202e}c")),
            "a\u{fffd}[31mb\u{fffd}\u{fffd}c"
        );
    }

    #[test]
    fn times_lose_their_fraction_and_other_text_nothing() {
        assert_eq!(without_fraction("2026-01-02T03:04:05.678901Z"), "2026-01-02T03:04:05Z");
        assert_eq!(
            without_fraction("registry.example.com/web:1.2"),
            "registry.example.com/web:1.2"
        );
    }

    #[test]
    fn item_is_shown_as_one_line_for_each_value() {
        let mut lines = String::new();
        flatten("", &json!({"a": {"b": 1.25, "c": null}, "d": ["x", "y"]}), &mut lines);
        let words: Vec<Vec<&str>> = lines.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(words, [vec!["a.b", "1.2"], vec!["a.c", "-"], vec!["d", "x", "y"]]);
    }

    #[test]
    fn text_of_several_lines_stays_in_its_column() {
        let mut lines = String::new();
        flatten("", &json!({"note": "first\nstate  active\n"}), &mut lines);
        let second = lines.lines().nth(1).expect("a second line");
        assert!(second.starts_with(&" ".repeat(29)), "{lines}");
        assert_eq!(lines.lines().count(), 2);
    }
}
