use model::{OutputStream, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::http::lines::Outcome;
use crate::http::lines::tests::lines;

fn one(json: &str) -> LogLine {
    read_line(json.as_bytes()).unwrap()
}

fn fields(line: &LogLine) -> Vec<(&str, &str)> {
    line.fields.iter().collect()
}

fn read(body: &str) -> (Vec<String>, Outcome) {
    let mut lines = lines();
    read_any(&Bytes::copy_from_slice(body.as_bytes()), &mut lines).unwrap();
    let (good, outcome, _) = lines.finish().unwrap();
    let texts = good.iter().map(|line| String::from_utf8_lossy(&line.text).into_owned());
    (texts.collect(), outcome)
}

#[test]
fn what_loggers_write_is_understood() {
    let docker =
        one(r#"{"log":"it works\n","stream":"stderr","time":"2023-11-14T22:13:20.000000001Z"}"#);
    assert_eq!(docker.text, "it works");
    assert_eq!(docker.stream, Some(OutputStream::Stderr));
    assert_eq!(docker.sent_at, Some(Timestamp::from_nanos(1_700_000_000_000_000_001)));
    assert!(docker.fields.is_empty());
    let pino = one(r#"{"level":50,"time":1700000000123,"pid":7,"msg":"no","err":{"code": 1}}"#);
    assert_eq!((pino.text.as_ref(), pino.severity), (&b"no"[..], Some(Severity::Error)));
    assert_eq!(pino.sent_at, Some(Timestamp::from_nanos(1_700_000_000_123_000_000)));
    assert_eq!(fields(&pino), [("pid", "7"), ("err", r#"{"code": 1}"#)]);
    let strange = one(r#"{"message":null,"text":7,"level":"loud","n":1e400,"t":true,"z":null}"#);
    assert_eq!(strange.text, "7");
    assert_eq!(fields(&strange), [("level", "loud"), ("n", "1e400"), ("t", "true")]);
}

#[test]
fn an_object_without_a_message_is_its_own_text() {
    let json = r#"{"level":"warn","status":404,"path":"/x"}"#;
    let line = one(json);
    assert_eq!((line.text.as_ref(), line.severity), (json.as_bytes(), Some(Severity::Warning)));
    assert!(line.fields.is_empty());
}

#[test]
fn an_array_an_object_and_json_lines_are_the_same() {
    for body in
        [r#"[{"msg":"a"}, "b\n", {"log":"c"}]"#, "{\"msg\":\"a\"}\n\n\"b\"\r\n{\"text\":\"c\"}\n"]
    {
        assert_eq!(read(body).0, ["a", "b", "c"]);
    }
    assert_eq!(read("\n {\n \"msg\":\n \"a\"\n}\n").0, ["a"]);
}

#[test]
fn bad_elements_are_named() {
    let (good, outcome) = read(r#"["a", 7, null, {"msg": "b"}]"#);
    assert_eq!(good, ["a", "b"]);
    assert_eq!(outcome.refused.iter().map(|bad| bad.line).collect::<Vec<_>>(), [2, 3]);
    let (good, outcome) = read("{\"msg\":\"a\"}\n{\"msg\":\n\n[1]\n\"b\"");
    assert_eq!(good, ["a", "b"]);
    assert_eq!(outcome.refused.iter().map(|bad| bad.line).collect::<Vec<_>>(), [2, 4]);
    let mut lines = lines();
    assert!(read_any(&Bytes::from_static(b"[\"a\", "), &mut lines).is_err());
    assert_eq!(
        read_line(format!("\"{}\"", "x".repeat(LINE_LIMIT)).as_bytes()),
        Err(NoLine::TooLong)
    );
}

proptest! {
    #[test]
    fn whatever_the_bytes_they_are_read_or_refused(body in "[\\[\\]{}\":,a0\\\\un \n-]{0,60}") {
        let mut lines = lines();
        drop(read_any(&body.into_bytes().into(), &mut lines));
        prop_assert!(lines.finish().is_ok());
    }

    #[test]
    fn messages_come_back_as_they_were(text in "\\PC{0,80}", name in "[a-z]{5,9}", value in ".{0,50}") {
        let line = one(&serde_json::json!({"message": text, &name: value}).to_string());
        prop_assert_eq!(&line.text[..], text.as_bytes());
        prop_assert!(line.fields.iter().eq([(name.as_str(), value.as_str())]) || name == "level");
    }
}
