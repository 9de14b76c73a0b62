//! A line that is put together of what was said with it (pure).
//!
//! Invariants: fields are bounded in number and size, and what is cut or left out is told by a field of its own; what
//! a group of lines has in common is bounded before it is looked at for each of them; and every field has a name.

use bytes::Bytes;
use model::{LogLine, OutputStream, Severity, Timestamp};
use serde_json::Value;

/// Fields of a line at most.
const FIELDS: usize = 64;
/// Bytes of a field's value at most.
const VALUE: usize = 8 << 10;
/// Bytes of all of them at most.
const ALL: usize = 32 << 10;
/// Tells how many are cut or left out.
const CUT: &str = "spillway.fields_cut";
/// What a field without a name is called.
const NAMELESS: &str = "_";
/// The names that say how severe a line is.
const SEVERITY: [&str; 4] = ["severity", "level", "lvl", "detected_level"];

/// Fields, as many as a line may have: its own, or those that a group of lines has in common.
#[derive(Debug, Default)]
pub(super) struct Bounded {
    fields: Vec<(String, String)>,
    bytes: usize,
    cut: usize,
}

impl Bounded {
    fn push(&mut self, name: &str, value: &str) {
        let name = if name.is_empty() { NAMELESS } else { name };
        let end = value.floor_char_boundary(VALUE);
        let kept = value.get(..end).unwrap_or(value);
        if self.fields.len() == FIELDS || self.bytes + name.len() + kept.len() > ALL {
            self.cut += 1;
            return;
        }
        self.cut += usize::from(end < value.len());
        self.bytes += name.len() + kept.len();
        self.fields.push((name.to_owned(), kept.to_owned()));
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Bounded {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let mut bounded = Self::default();
        for (name, value) in fields {
            bounded.push(name.as_ref(), value.as_ref());
        }
        bounded
    }
}

/// The line.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    line: LogLine,
    fields: Bounded,
}

impl Gathered {
    /// With this text.
    pub(super) fn new(text: impl Into<Bytes>) -> Self {
        Self { line: LogLine::plain(text), ..Self::default() }
    }

    /// When it was written, if that was said; what was said first counts.
    pub(super) fn at(&mut self, at: Option<Timestamp>) {
        self.line.sent_at = self.line.sent_at.or(at);
    }

    /// How severe it is; what was said first counts.
    pub(super) fn severity(&mut self, severity: Option<Severity>) {
        self.line.severity = self.line.severity.or(severity);
    }

    /// The output that it was written to, if that is what the value names.
    pub(super) fn stream(&mut self, value: &str) -> bool {
        let stream = match value {
            "stdout" => OutputStream::Stdout,
            "stderr" => OutputStream::Stderr,
            _ => return false,
        };
        self.line.stream = Some(stream);
        true
    }

    /// Something that may be a severity or an output by its name, and is a field otherwise.
    pub(super) fn note(&mut self, name: &str, value: &str) {
        if SEVERITY.contains(&name) && self.line.severity.is_none() {
            let severity = Severity::of_json(&Value::from(value));
            self.severity(severity);
            if severity.is_some() {
                return;
            }
        }
        if matches!(name, "stream" | "log.iostream") && self.stream(value) {
            return;
        }
        self.field(name, value);
    }

    /// A field.
    pub(super) fn field(&mut self, name: &str, value: &str) {
        self.fields.push(name, value);
    }

    /// Fields that the line's whole group has.
    pub(super) fn fields(&mut self, of_group: &Bounded) {
        of_group.fields.iter().for_each(|(name, value)| self.field(name, value));
        self.fields.cut += of_group.cut;
    }

    /// The same where one may be a severity or an output.
    pub(super) fn notes(&mut self, of_group: &Bounded) {
        of_group.fields.iter().for_each(|(name, value)| self.note(name, value));
        self.fields.cut += of_group.cut;
    }

    /// Done.
    pub(super) fn finish(mut self) -> LogLine {
        let Bounded { mut fields, cut, .. } = self.fields;
        if cut > 0 {
            fields.push((CUT.to_owned(), cut.to_string()));
        }
        self.line.fields = fields.into_iter().collect();
        self.line
    }
}

/// To go on with one that is put together.
impl From<LogLine> for Gathered {
    fn from(mut line: LogLine) -> Self {
        let fields = std::mem::take(&mut line.fields);
        let mut gathered = Self { line, ..Self::default() };
        fields.iter().for_each(|(name, value)| gathered.field(name, value));
        gathered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_bounded_and_say_so() {
        let mut gathered = Gathered::new("text");
        for n in 0..100 {
            gathered.field(&format!("n{n}"), "v");
        }
        gathered.note("level", "warn");
        gathered.note("stream", "stderr");
        let line = gathered.finish();
        assert_eq!(line.fields.iter().count(), FIELDS + 1);
        assert_eq!(line.fields.iter().last(), Some((CUT, "36")));
        assert_eq!(line.severity, Some(Severity::Warning));
        assert_eq!(line.stream, Some(OutputStream::Stderr));
        let mut gathered = Gathered::new("text");
        (0..10).for_each(|_| gathered.field("name", &"\u{20ac}".repeat(3000)));
        let line = gathered.finish();
        assert!(line.fields.packed().len() < ALL + 100);
        assert!(line.fields.iter().all(|(_, value)| value.len() <= VALUE));
    }

    #[test]
    fn what_a_group_has_in_common_is_cut_once_and_each_line_says_so() {
        let names = (0..500_000).map(|n| (n.to_string(), "v".repeat(1 << 10)));
        let group: Bounded = names.collect();
        // Whoever has a million lines with it walks over no more than these.
        assert_eq!((group.fields.len(), group.cut), (31, 500_000 - 31));
        let mut gathered = Gathered::new("text");
        gathered.field("own", "1");
        gathered.fields(&group);
        let line = gathered.finish();
        assert_eq!(line.fields.iter().next(), Some(("own", "1")));
        assert_eq!(line.fields.iter().last(), Some((CUT, "499969")));
        let group: Bounded = [("level", "warn"), ("job", "web")].into_iter().collect();
        let mut gathered = Gathered::new("text");
        gathered.notes(&group);
        let line = gathered.finish();
        assert_eq!(line.severity, Some(Severity::Warning));
        assert!(line.fields.iter().eq([("job", "web")]));
    }

    #[test]
    fn a_field_without_a_name_gets_one() {
        let mut gathered = Gathered::new("text");
        gathered.note("", "value");
        gathered.fields(&[("", "again")].into_iter().collect());
        assert!(gathered.finish().fields.iter().eq([("_", "value"), ("_", "again")]));
    }

    #[test]
    fn what_is_no_severity_and_no_output_is_a_field() {
        let mut gathered = Gathered::new("text");
        gathered.note("level", "loud");
        gathered.note("level", "error");
        gathered.note("severity", "info");
        gathered.note("stream", "events");
        let line = gathered.finish();
        assert_eq!(line.severity, Some(Severity::Error));
        let fields: Vec<_> = line.fields.iter().collect();
        assert_eq!(fields, [("level", "loud"), ("severity", "info"), ("stream", "events")]);
    }
}
