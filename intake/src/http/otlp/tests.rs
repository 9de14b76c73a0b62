use std::time::{Duration, Instant};

use model::{OutputStream, Severity};
use proptest::prelude::*;

use super::in_protobuf::{AnyValue, ArrayValue, KeyValue, KeyValueList, Kind, Record};
use super::*;
use crate::http::lines::tests::lines;

fn read(json: bool, body: impl Into<Bytes>) -> Result<(Vec<LogLine>, Outcome), Refusal> {
    let (mut lines, body) = (lines(), body.into());
    if json { in_json::read(&body, &mut lines) } else { in_protobuf::read(&body, &mut lines) }?;
    let (good, outcome, _) = lines.finish()?;
    Ok((good, outcome))
}

// As in opentelemetry-proto, examples/logs.json.
const EXAMPLE: &str = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{
    "stringValue":"my.service"}}]},"scopeLogs":[{"scope":{"name":"my.library","version":"1.0.0",
    "attributes":[{"key":"my.scope.attribute","value":{"stringValue":"some scope attribute"}}]},
    "logRecords":[{"timeUnixNano":"1544712660300000000","observedTimeUnixNano":"1544712660300000000",
    "severityNumber":10,"severityText":"Information","traceId":"5B8EFFF798038103D269B633813FC60C",
    "spanId":"EEE19B7EC3C1B174","body":{"stringValue":"Example log record"},"attributes":[
    {"key":"string.attribute","value":{"stringValue":"some string"}},
    {"key":"boolean.attribute","value":{"boolValue":true}},
    {"key":"int.attribute","value":{"intValue":"10"}},
    {"key":"double.attribute","value":{"doubleValue":637.704}},
    {"key":"array.attribute","value":{"arrayValue":{"values":[{"stringValue":"many"},
    {"stringValue":"values"}]}}},
    {"key":"map.attribute","value":{"kvlistValue":{"values":[{"key":"some.map.key",
    "value":{"stringValue":"some value"}}]}}}]}]}]}]}"#;

#[test]
fn the_specification_s_example_is_read() {
    let (good, outcome) = read(true, EXAMPLE).unwrap();
    assert_eq!((good.len(), outcome.refused_count), (1, 0));
    assert_eq!(good[0].text, "Example log record");
    assert_eq!(good[0].severity, Some(Severity::Info));
    assert_eq!(good[0].sent_at, Some(Timestamp::from_nanos(1_544_712_660_300_000_000)));
    assert_eq!(
        good[0].fields.iter().collect::<Vec<_>>(),
        [
            ("string.attribute", "some string"),
            ("boolean.attribute", "true"),
            ("int.attribute", "10"),
            ("double.attribute", "637.704"),
            ("array.attribute", r#"["many","values"]"#),
            ("map.attribute", r#"{"some.map.key":"some value"}"#),
            ("trace_id", "5B8EFFF798038103D269B633813FC60C"),
            ("span_id", "EEE19B7EC3C1B174"),
            ("otel.scope.name", "my.library"),
            ("otel.scope.version", "1.0.0"),
            ("my.scope.attribute", "some scope attribute"),
            ("service.name", "my.service"),
        ]
    );
}

#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_logs: Vec<ResourceLogs>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceLogs {
    // After the scopes, which no rule of protobuf forbids.
    #[prost(message, repeated, tag = "2")]
    scope_logs: Vec<ScopeLogs>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeLogs {
    #[prost(message, repeated, tag = "2")]
    log_records: Vec<Record>,
}

fn value(kind: Kind) -> AnyValue {
    AnyValue { value: Some(kind) }
}

fn pair(key: &str, kind: Kind) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value(kind)) }
}

fn request(log_records: Vec<Record>) -> Vec<u8> {
    let resource_logs = vec![ResourceLogs { scope_logs: vec![ScopeLogs { log_records }] }];
    Request { resource_logs }.encode_to_vec()
}

#[test]
fn records_in_protobuf_are_read_whatever_their_bodies() {
    let list = Kind::List(ArrayValue { values: vec![value(Kind::Integer(-1))] });
    let map = Kind::Map(KeyValueList { values: vec![pair("k", list)] });
    let of = |body| Record { body: Some(value(body)), ..Record::default() };
    let body = request(vec![
        Record {
            time_unix_nano: 5,
            severity_number: 17,
            attributes: vec![pair("log.iostream", Kind::Text("stderr".to_owned()))],
            trace_id: Bytes::from_static(&[0xab; 16]),
            ..of(Kind::Text("text".to_owned()))
        },
        of(map),
        of(Kind::Bytes(Bytes::from_static(b"\xff\xfe"))),
        of(Kind::Double(f64::NAN)),
        Record { event_name: "started".to_owned(), ..Record::default() },
        Record { attributes: vec![pair("a", Kind::Bool(true))], ..Record::default() },
        Record::default(),
    ]);
    let (good, outcome) = read(false, body).unwrap();
    let texts: Vec<_> = good.iter().map(|line| &line.text[..]).collect();
    assert_eq!(
        texts,
        [b"text".as_slice(), br#"{"k":[-1]}"#, b"\xff\xfe", b"NaN", b"started", br#"{"a":true}"#]
    );
    assert_eq!(good[0].severity, Some(Severity::Error));
    assert_eq!(good[0].stream, Some(OutputStream::Stderr));
    assert_eq!(good[0].fields.iter().next(), Some(("trace_id", "ab".repeat(16).as_str())));
    assert_eq!((outcome.refused_count, outcome.refused[0].line), (1, 7));
}

/// A field of a message that is bytes.
fn wrap(tag: u8, inner: &[u8]) -> Vec<u8> {
    let mut outer = vec![tag];
    prost::encoding::encode_varint(inner.len() as u64, &mut outer);
    outer.extend(inner);
    outer
}

#[test]
fn what_is_tiny_is_not_decoded_by_the_million() {
    // Records without anything.
    let records = [0x12, 0].repeat(300_000);
    let (good, outcome) = read(false, wrap(0x0a, &wrap(0x12, &records))).unwrap();
    assert_eq!((good.len(), outcome.refused_count, outcome.refused.len()), (0, 300_000, 20));
}

/// Bodies in JSON and in protobuf: a resource of almost a MiB with more attributes than a line has fields, and a
/// scope with so many records.
fn crowded(records: usize) -> [(bool, Vec<u8>); 2] {
    let resource = wrap(0x0a, &[0x0a, 0].repeat(500_000));
    let scope = wrap(0x12, &wrap(0x12, &wrap(0x2a, &wrap(0x0a, b"text"))).repeat(records));
    let json = format!(
        r#"{{"resourceLogs":[{{"resource":{{"attributes":[{}]}},"scopeLogs":[{{"logRecords":[{}]}}]}}]}}"#,
        vec!["{}"; 300_000].join(","),
        vec![r#"{"body":{"stringValue":"text"}}"#; records].join(","),
    );
    [(true, json.into()), (false, wrap(0x0a, &[resource, scope].concat()))]
}

#[test]
fn what_a_resource_says_is_cut_before_its_records_are_read() {
    for (json, body) in crowded(10_000) {
        let began = Instant::now();
        let (good, _) = read(json, body).unwrap();
        let took = began.elapsed();
        assert_eq!(good.len(), 10_000);
        let cut = if json { "299936" } else { "499936" };
        for line in good {
            assert_eq!(line.fields.iter().count(), 65);
            assert_eq!(line.fields.iter().next(), Some(("_", "null")));
            assert_eq!(line.fields.iter().last(), Some(("spillway.fields_cut", cut)));
        }
        // All attributes for all records would be billions.
        assert!(took < Duration::from_secs(15), "{took:?}");
    }
}

#[test]
fn scopes_and_resources_are_bounded_though_they_have_no_record() {
    let resource = wrap(0x0a, &[0x0a, 0].repeat(500_000));
    let scopes = wrap(0x0a, &[resource, [0x12, 0].repeat(1_000_000)].concat());
    let resources = [0x0a, 0].repeat(1_000_000);
    let json = |inner: &str| format!(r#"{{"resourceLogs":[{inner}]}}"#).into_bytes();
    let many = vec!["{}"; 200_000].join(",");
    let scopes_json = json(&format!(r#"{{"scopeLogs":[{many}]}}"#));
    let began = Instant::now();
    for (is_json, body) in
        [(false, scopes), (false, resources), (true, json(&many)), (true, scopes_json)]
    {
        assert!(matches!(read(is_json, body), Err(Refusal::TooManyLines(_))));
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[test]
fn answers_are_in_the_encoding_of_the_request() {
    let mut outcome = Outcome { accepted: 1, ..Outcome::default() };
    assert_eq!(
        answer(false, &outcome).headers().get("content-type").unwrap(),
        "application/x-protobuf"
    );
    outcome.refused_count = 2;
    outcome.refused.push(crate::http::lines::BadLine { line: 3, reason: "bad".to_owned() });
    assert_eq!(answer(true, &outcome).headers().get("content-type").unwrap(), "application/json");
}

proptest! {
    #[test]
    fn whatever_the_bytes_they_are_read_or_refused(
        mut bytes in prop::collection::vec(any::<u8>(), 0..60),
        at in any::<prop::sample::Index>(),
    ) {
        drop(read(false, bytes.clone()));
        let mut body = request(vec![Record { body: Some(value(Kind::Text("t".to_owned()))), ..Record::default() }]);
        let at = at.index(body.len());
        body[at] = bytes.pop().unwrap_or_default();
        drop(read(false, body));
        let mut body = EXAMPLE.to_owned().into_bytes();
        body[at * 7] = bytes.pop().unwrap_or(b'{');
        drop(read(true, body));
    }
}
