//! What a drain's options make of a line (pure): masked, read as JSON, left out.

use std::borrow::Cow;

use destinations::{Options, Severity, Tag, TagSet};
use model::{Drain, Fields, Id, LogLine, OutputStream, Timestamp};
use regex::bytes::Regex;
use serde_json::{Map, Value};

use super::{Line, Span};

/// What a drain's options add to a line.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Extras<'a> {
    /// If it is known.
    pub(crate) severity: Option<Severity>,
    /// Something in the message was masked: it is not what was recorded.
    pub(crate) redacted: bool,
    /// The message, if it is an object.
    pub(crate) json: Option<&'a Map<String, Value>>,
    /// What is said besides the message.
    pub(crate) tags: TagSet,
    /// Fields of the drain's own.
    pub(crate) fields: &'a [(String, String)],
    /// What its sender said of it.
    pub(crate) said: Said<'a>,
}

/// What an app's or a database's line came with.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Said<'a> {
    /// The output it was written to.
    pub(crate) stream: Option<OutputStream>,
    /// When it was written, by the sender's clock.
    pub(crate) sent_at: Option<Timestamp>,
    /// It goes on in the next line.
    pub(crate) continued: bool,
    /// The number of the last record, where the line is made of several.
    pub(crate) last_seq: Option<u64>,
    pub(crate) fields: Option<&'a Fields>,
}

/// Changes lines as a drain's options say. What is no line of a stream, and so was not cut before, is cut here at
/// the limit, when it is masked.
#[derive(Debug)]
pub(crate) struct Shaper {
    limit: usize,
    redactions: Vec<(Regex, Vec<u8>)>,
    parse_json: bool,
    minimum: Option<Severity>,
    tags: TagSet,
    fields: Vec<(String, String)>,
    hop: String,
}

impl Shaper {
    /// Fails where a pattern is wrong.
    pub(crate) fn new(options: &Options, limit: usize, drain: Id<Drain>) -> Result<Self, String> {
        let tags = TagSet::of(options.tags.as_ref());
        let hop = drain.hop();
        let mark = tags.has(Tag::Hop).then(|| (Tag::Hop.as_str().to_owned(), hop.clone()));
        let redactions = options.redactions.iter().map(|redaction| {
            let regex = destinations::regex(&redaction.pattern)?;
            Ok((regex, redaction.replacement.clone().into_bytes()))
        });
        Ok(Self {
            limit,
            redactions: redactions.collect::<Result<_, String>>()?,
            parse_json: options.parse_json,
            minimum: options.minimum_severity,
            tags,
            fields: options.static_fields.clone().into_iter().chain(mark).collect(),
            hop,
        })
    }

    /// Gives the line to `emit` as it is to be sent, unless it is left out.
    pub(crate) fn shape(&self, line: &Line<'_>, mut emit: impl FnMut(&Line<'_>)) {
        if line.extras.said.fields.is_some_and(|fields| self.has_delivered(fields)) {
            return;
        }
        let mut message = Cow::Borrowed(line.message);
        for (regex, replacement) in &self.redactions {
            if let Cow::Owned(masked) = regex.replace_all(&message, replacement.as_slice()) {
                message = Cow::Owned(masked);
            }
        }
        let json = if self.parse_json { object(&message) } else { None };
        let said = json.as_ref().and_then(|json| {
            let level = ["level", "severity", "lvl"].iter().find_map(|name| json.get(*name));
            level.and_then(Severity::of_json)
        });
        let severity = line.extras.severity.or(said);
        if severity.zip(self.minimum).is_some_and(|(severity, minimum)| severity > minimum) {
            return;
        }
        let redacted = matches!(message, Cow::Owned(_));
        let (tags, fields) = (self.tags, self.fields.as_slice());
        let extras = Extras {
            severity,
            redacted,
            json: json.as_ref(),
            tags,
            fields,
            said: line.extras.said,
        };
        if line.span.is_some() || message.len() <= self.limit {
            return emit(&Line { message: &message, extras, ..*line });
        }
        // Fields of its JSON are of all of it.
        let extras = Extras { json: None, ..extras };
        let mut offset = 0;
        for (piece, continued) in super::pieces(&message, self.limit) {
            let length = piece.len() as u64;
            let span = Some(Span { channel: None, offset, length, continued });
            emit(&Line { message: piece, span, extras, ..*line });
            offset += length;
        }
    }
}

impl Shaper {
    /// Whether the line has come back from this drain.
    fn has_delivered(&self, fields: &Fields) -> bool {
        let is_looped = |(name, mark): (&str, &str)| name == LogLine::LOOPED && mark == self.hop;
        fields.iter().any(is_looped)
    }
}

fn object(message: &[u8]) -> Option<Map<String, Value>> {
    // Most lines are none, and most of these do not begin like one.
    if message.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice(message).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::encode::tests::origin;

    /// What is sent of a line: its text, whether it was masked, and its severity.
    fn shaped(options: Value, message: &str) -> Option<(String, bool, Option<Severity>)> {
        let shaper =
            Shaper::new(&serde_json::from_value(options).unwrap(), 1000, Id::generate()).unwrap();
        let origin: Arc<_> = origin();
        let line = Line {
            origin: &origin,
            seq: 0,
            at: Timestamp::from_nanos(0),
            event: "output",
            span: None,
            message: message.as_bytes(),
            extras: Extras::default(),
        };
        let mut sent = None;
        shaper.shape(&line, |line| {
            let text = String::from_utf8_lossy(line.message).into_owned();
            sent = Some((text, line.extras.redacted, line.extras.severity));
        });
        sent
    }

    #[test]
    fn what_matches_is_masked_by_one_rule_after_the_other() {
        let options = json!({"redactions": [
            {"pattern": r"\d{4}-\d{4}", "replacement": "card"},
            {"pattern": r"(card|key)=\S+", "replacement": "$1=***"},
        ]});
        let sent = shaped(options.clone(), "pay 1111-2222 card=1111-2222 key=abc").unwrap();
        assert_eq!(sent, ("pay card card=*** key=***".to_owned(), true, None));
        assert_eq!(shaped(options, "pay").unwrap(), ("pay".to_owned(), false, None));
    }

    #[test]
    fn an_event_above_the_limit_is_split_when_it_is_masked_and_nothing_of_it_is_lost() {
        let options = json!({"redactions": [{"pattern": "token-[0-9]+", "replacement": "*"}]});
        let shaper =
            Shaper::new(&serde_json::from_value(options).unwrap(), 16, Id::generate()).unwrap();
        let origin: Arc<_> = origin();
        let pieces = |message: &str| {
            let mut pieces = Vec::new();
            let line = Line {
                origin: &origin,
                seq: 7,
                at: Timestamp::from_nanos(0),
                event: "exec",
                span: None,
                message: message.as_bytes(),
                extras: Extras::default(),
            };
            shaper.shape(&line, |line| {
                let mut id = Vec::new();
                line.write_id(&mut id);
                let id = String::from_utf8(id).unwrap();
                let end = id.rsplit_once("0005:").unwrap().1.to_owned();
                let text = String::from_utf8(line.message.to_vec()).unwrap();
                pieces.push((text, end, line.span.is_some_and(|span| span.continued)));
            });
            pieces
        };
        let piece = |text: &str, end: &str, continued| (text.to_owned(), end.to_owned(), continued);
        // What is masked reaches across the limit, which itself is within a character.
        assert_eq!(
            pieces("exec: 12 token-123456 \u{20ac}\u{20ac}\na\nb 12345678901234567"),
            [
                piece("exec: 12 * \u{20ac}", "7:0-14", true),
                piece("\u{20ac}\na\nb 12345678", "7:14-30", true),
                piece("901234567", "7:30-39", false),
            ]
        );
        assert_eq!(pieces("exec: 0123456789"), [piece("exec: 0123456789", "7", false)]);
    }

    #[test]
    fn a_line_that_has_come_back_goes_to_other_drains_only() {
        let [drain, other]: [Id<Drain>; 2] = [Id::generate(), Id::generate()];
        let origin: Arc<_> = origin();
        let fields = [("a", "b".to_owned()), (LogLine::LOOPED, drain.hop())].into_iter().collect();
        let said = Said { fields: Some(&fields), ..Said::default() };
        let line = Line {
            origin: &origin,
            seq: 0,
            at: Timestamp::from_nanos(0),
            event: "line",
            span: None,
            message: b"again",
            extras: Extras { said, ..Extras::default() },
        };
        let sent = |drain| {
            let mut sent = 0;
            let shaper = Shaper::new(&Options::default(), 1000, drain).unwrap();
            shaper.shape(&line, |_| sent += 1);
            sent
        };
        assert_eq!((sent(drain), sent(other)), (0, 1));
    }

    #[test]
    fn only_lines_that_are_known_to_be_less_severe_are_left_out() {
        let options = json!({"parse_json": true, "minimum_severity": "warning"});
        for kept in ["text", "{}", r#"{"level":"warn"}"#, r#"{"severity":"FATAL"}"#, "{broken"] {
            assert!(shaped(options.clone(), kept).is_some(), "{kept}");
        }
        for left_out in [r#"{"level":30}"#, r#" {"lvl":"debug","a":[{}]} "#] {
            assert!(shaped(options.clone(), left_out).is_none(), "{left_out}");
        }
        let unparsed = json!({"minimum_severity": "warning"});
        assert!(shaped(unparsed, r#"{"level":30}"#).is_some(), "nobody looked");
    }
}
