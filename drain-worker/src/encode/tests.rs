use std::sync::Arc;

use destinations::{BodyFormat, Framing, Keys, Severity, Tag, TagSet, TokenPlace};
use model::{AppTag, EnvironmentTag, Id, Origin, OutputStream, SessionTag, Source, Timestamp};
use uuid::Uuid;

use super::Encode;
use super::json::JsonEncoder;
use super::logplex::LogplexEncoder;
use super::syslog::SyslogEncoder;
use crate::lines::{Channel, Extras, Line, Said, Span};

fn id<T>(number: u128) -> Id<T> {
    Id::from_uuid(Uuid::from_u128(number))
}

pub(crate) fn origin() -> Arc<Origin> {
    Arc::new(Origin {
        producer: id(5),
        source: Source::EphemeralSession,
        environment: EnvironmentTag {
            id: id(1),
            handle: "production".parse().unwrap(),
            organization: id(2),
        },
        app: Some(AppTag { id: id(3), handle: "web".parse().unwrap() }),
        database: None,
        session: Some(SessionTag {
            id: id(5),
            user: id(4),
            user_email: "ada@example.com".to_owned(),
            user_name: "Ada \"]\\\nLovelace".to_owned(),
        }),
    })
}

pub(super) fn encode(encoder: impl Encode, channel: Channel, message: &[u8]) -> String {
    encode_with(encoder, channel, message, TagSet::default())
}

pub(super) fn encode_with(
    mut encoder: impl Encode,
    channel: Channel,
    message: &[u8],
    tags: TagSet,
) -> String {
    let span = Some(Span { channel: Some(channel), offset: 7, length: 9, continued: true });
    let at = Timestamp::from_nanos(1_700_000_000_123_456_789);
    let origin = origin();
    let extras = Extras { tags, ..Extras::default() };
    let line = Line { origin: &origin, seq: 2, at, event: "output", span, message, extras };
    let (mut first, mut second) = (Vec::new(), Vec::new());
    encoder.encode(&line, &mut first);
    encoder.encode(&line, &mut second);
    assert_eq!(first, second, "what is remembered of a line changes the next");
    String::from_utf8_lossy(&first).into_owned()
}

const U: &str = "00000000-0000-0000-0000-00000000000";

#[test]
fn json_has_every_field_and_exact_bytes() {
    let fields = format!(
        r#""id":"{U}5:stdout:7-16","time":"2023-11-14T22:13:20.123456789Z","source":"ephemeral_session","environment":"production","environment_id":"{U}1","app":"web","app_id":"{U}3","session_id":"{U}5","user_id":"{U}4","user_email":"ada@example.com","user_name":"Ada \"]\\\nLovelace","event":"output","stream":"stdout","offset":7,"length":9,"continued":true,"seq":2"#
    );
    assert_eq!(
        encode(
            JsonEncoder::new(BodyFormat::JsonLines, Keys::Spillway),
            Channel::Stdout,
            b"a\"\x1b\n"
        ),
        format!("{{{fields},\"message\":\"a\\\"\\u001b\\n\"}}\n")
    );
    assert_eq!(
        encode(JsonEncoder::new(BodyFormat::JsonArray, Keys::Spillway), Channel::Stdout, b"\xff"),
        format!(",{{{fields},\"message\":\"\u{fffd}\",\"message_base64\":\"/w==\"}}")
    );
}

#[test]
fn syslog_is_counted_and_escaped() {
    let message = format!(
        "<134>1 2023-11-14T22:13:20.123456Z production web {U}5 output [spillway@32473 id=\"{U}5:stdout:7-16\" time=\"2023-11-14T22:13:20.123456789Z\" source=\"ephemeral_session\" environment=\"production\" environment_id=\"{U}1\" app=\"web\" app_id=\"{U}3\" session_id=\"{U}5\" user_id=\"{U}4\" user_email=\"ada@example.com\" user_name=\"Ada \\\"\\]\\\\ Lovelace\" event=\"output\" stream=\"stdout\" offset=\"7\" length=\"9\" continued=\"true\" seq=\"2\"] a\n\u{20ac}"
    );
    assert_eq!(
        encode(
            SyslogEncoder::new(Framing::OctetCounting, None),
            Channel::Stdout,
            "a\n\u{20ac}".as_bytes()
        ),
        format!("{} {message}", message.len())
    );
    assert!(
        encode(SyslogEncoder::new(Framing::OctetCounting, None), Channel::Stderr, b"")
            .contains(" <133>1 ")
    );
}

#[test]
fn a_token_stands_in_its_place_and_lf_frames_one_line() {
    let with = |place| {
        let encoder = SyslogEncoder::new(Framing::Lf, Some(("abc@41058", place)));
        encode(encoder, Channel::Stdout, b"a\nb")
    };
    assert!(with(TokenPlace::Prefix).ends_with(" seq=\"2\"] abc@41058 a b\n"));
    let message = with(TokenPlace::StructuredData);
    assert!(message.starts_with("<134>1 ") && message.ends_with(" seq=\"2\"][abc@41058] a b\n"));
}

#[test]
fn lines_have_the_tags_that_are_chosen() {
    let some = TagSet::of(Some(&[Tag::UserEmail, Tag::Length].into()));
    let none = TagSet::of(Some(&[].into()));
    let json = |tags| {
        let encoder = JsonEncoder::new(BodyFormat::JsonLines, Keys::Spillway);
        encode_with(encoder, Channel::Stdout, b"a", tags)
    };
    let fields = "\"user_email\":\"ada@example.com\",\"length\":9,\"continued\":true,";
    assert_eq!(json(some), format!("{{{fields}\"message\":\"a\"}}\n"));
    assert_eq!(json(none), "{\"continued\":true,\"message\":\"a\"}\n");

    let syslog =
        |tags| encode_with(SyslogEncoder::new(Framing::Lf, None), Channel::Stdout, b"a", tags);
    let header = format!("<134>1 2023-11-14T22:13:20.123456Z production web {U}5 output");
    let parameters = "user_email=\"ada@example.com\" length=\"9\" continued=\"true\"";
    assert_eq!(syslog(some), format!("{header} [spillway@32473 {parameters}] a\n"));
    assert_eq!(syslog(none), format!("{header} [spillway@32473 continued=\"true\"] a\n"));

    let keys = |tags| {
        let encoder = JsonEncoder::new(BodyFormat::JsonLines, Keys::Aptible);
        encode_with(encoder, Channel::Stdout, b"a", tags)
    };
    assert!(keys(some).contains("operation_user_email"));
    assert!(!keys(some).contains("Lovelace") && !keys(none).contains("ada@example.com"));

    let logplex = encode_with(LogplexEncoder::new(), Channel::Stdout, b"a", some);
    assert!(
        logplex.ends_with(" output user_email=ada@example.com continued=true a\n"),
        "{logplex}"
    );
}

#[test]
fn aptibles_names_are_text() {
    let line =
        encode(JsonEncoder::new(BodyFormat::JsonLines, Keys::Aptible), Channel::Stderr, b"a");
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    for (name, text) in [
        ("@timestamp", "2023-11-14T22:13:20.123456789Z"),
        ("log", "a"),
        ("stream", "stderr"),
        ("offset", "7"),
        ("layer", "app"),
        ("service", "web"),
        ("app", "web"),
        ("source", "ephemeral_session"),
        ("operation_user_email", "ada@example.com"),
        ("length", "9"),
    ] {
        assert_eq!(value[name], text, "{name}");
    }
}

#[test]
fn a_message_is_the_same_whatever_was_encoded_before_it() {
    let mut origins = [origin(), origin()];
    Arc::get_mut(&mut origins[1]).unwrap().app = None;
    let long = vec![b'x'; 20_000];
    let mut lines = Vec::new();
    for (origin, number) in origins.iter().cycle().zip(0..40_u64) {
        let channel = if number % 3 == 0 { Channel::Stderr } else { Channel::Stdout };
        let span = Some(Span {
            channel: Some(channel),
            offset: number,
            length: 9,
            continued: number % 4 == 0,
        });
        let at = Timestamp::from_nanos(1_700_000_000_123_456_789 + number / 2 * 400_000_000);
        let length = [0, 9, 500, 20_000][usize::try_from(number % 4).unwrap()];
        let span = span.filter(|_| number % 5 > 0);
        let event = if span.is_some() { "output" } else { "shell" };
        let message = &long[..length];
        let severity = (number % 7 == 0).then_some(Severity::Error);
        let extras = Extras { severity, redacted: number % 6 == 0, ..Extras::default() };
        lines.push(Line { origin, seq: number, at, event, span, message, extras });
    }
    let encoders: [fn() -> Box<dyn Encode>; 2] = [
        || Box::new(SyslogEncoder::new(Framing::OctetCounting, None)),
        || Box::new(JsonEncoder::new(BodyFormat::JsonLines, Keys::Spillway)),
    ];
    for encoder in encoders {
        let (mut together, mut alone, mut one) = (Vec::new(), Vec::new(), encoder());
        for line in &lines {
            one.encode(line, &mut together);
            encoder().encode(line, &mut alone);
        }
        assert!(together == alone);
    }
}

#[test]
fn what_a_sender_said_comes_with_its_line() {
    let origin = origin();
    let at = Timestamp::from_nanos(1_700_000_000_123_456_789);
    let fields = [("host name", "a\"b"), ("pid", "7")].into_iter().collect();
    let said = Said {
        stream: Some(OutputStream::Stderr),
        sent_at: Some(Timestamp::from_nanos(1_699_999_999_000_000_000)),
        continued: true,
        last_seq: Some(4),
        fields: Some(&fields),
    };
    let extras = Extras { severity: Some(Severity::Warning), said, ..Extras::default() };
    let line =
        Line { origin: &origin, seq: 2, at, event: "line", span: None, message: b"m", extras };
    let encoded = |encoder: &mut dyn Encode| {
        let mut out = Vec::new();
        encoder.encode(&line, &mut out);
        String::from_utf8(out).unwrap()
    };
    let json = encoded(&mut JsonEncoder::new(BodyFormat::JsonLines, Keys::Spillway));
    for part in [
        ":2-4\",\"time\":\"2023-11-14T22:13:20.123456789Z\"",
        "\"stream\":\"stderr\",\"continued\":true,\"seq\":2,\"sent_at\":\"2023-11-14T22:13:19",
        "\"severity\":\"warning\",\"message\":\"m\",\"fields\":{\"host name\":\"a\\\"b\",\"pid\":\"7\"}}",
    ] {
        assert!(json.contains(part), "{json}");
    }
    let syslog = encoded(&mut SyslogEncoder::new(Framing::Lf, None));
    assert!(syslog.starts_with("<132>1 2023-11-14T22:13:19"), "{syslog}");
    let end = "][fields@32473 host_name=\"a\\\"b\" pid=\"7\"] m\n";
    assert!(syslog.contains(" time=\"2023-11-14T22:13:20.123456789Z\"") && syslog.ends_with(end));
    // A clock that is far off is not believed.
    let said = Said { sent_at: Some(Timestamp::from_nanos(0)), ..said };
    let line = Line { extras: Extras { said, ..line.extras }, ..line };
    assert_eq!(line.time(), at);
}
