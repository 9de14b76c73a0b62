use std::time::{Duration, Instant};

use model::{LogLine, OutputStream, Severity};

use super::*;
use crate::http::lines::tests::lines;

#[derive(Clone, PartialEq, prost::Message)]
struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<Stream>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Stream {
    #[prost(string, tag = "1")]
    labels: String,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<Entry>,
    #[prost(uint64, tag = "3")]
    hash: u64,
}

fn read(json: bool, body: impl Into<Bytes>) -> Result<(Vec<LogLine>, Outcome), Refusal> {
    let (mut lines, body) = (lines(), body.into());
    if json { read_json(&body, &mut lines) } else { read_protobuf(&body, &mut lines) }?;
    let (good, outcome, _) = lines.finish()?;
    Ok((good, outcome))
}

#[test]
fn json_and_protobuf_say_the_same() {
    // As in Loki's documentation of the endpoint, with structured metadata.
    let json = r#"{"streams": [{"stream": {"foo": "bar2", "stream": "stderr"}, "values": [
        ["1570818238000000001", "fizzbuzz", {"level": "warn", "trace_id": "0242ac120002"}],
        ["1570818238000000002", "caf\u00e9"]]}]}"#;
    let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
    let at = |nanos| Some(At { seconds: 1_570_818_238, nanos });
    let stream = Stream {
        labels: r#"{foo="bar2", stream="stderr"}"#.to_owned(),
        entries: vec![
            Entry {
                timestamp: at(1),
                line: Bytes::from_static(b"fizzbuzz"),
                structured_metadata: vec![
                    label("level", "warn"),
                    label("trace_id", "0242ac120002"),
                ],
            },
            Entry {
                timestamp: at(2),
                line: Bytes::from_static("caf\u{e9}".as_bytes()),
                structured_metadata: Vec::new(),
            },
        ],
        hash: 7,
    };
    let protobuf = PushRequest { streams: vec![stream] }.encode_to_vec();
    let (good, outcome) = read(true, json).unwrap();
    assert_eq!(outcome.refused_count, 0);
    assert_eq!(read(false, protobuf).unwrap().0, good);
    assert_eq!(good[0].text, "fizzbuzz");
    assert_eq!(good[0].severity, Some(Severity::Warning));
    assert_eq!(good[0].stream, Some(OutputStream::Stderr));
    assert_eq!(good[0].sent_at, Some(Timestamp::from_nanos(1_570_818_238_000_000_001)));
    let fields: Vec<_> = good[0].fields.iter().collect();
    assert_eq!(fields, [("trace_id", "0242ac120002"), ("foo", "bar2")]);
}

#[test]
fn bad_values_are_named_and_the_others_are_read() {
    let json =
        r#"{"streams":[{"stream":{},"values":[["1","a"],["x","b"],["2"],[3,"c"],["4","d"]]}]}"#;
    let (good, outcome) = read(true, json).unwrap();
    assert_eq!(good.len(), 2);
    assert_eq!(outcome.refused.iter().map(|bad| bad.line).collect::<Vec<_>>(), [2, 3, 4]);
}

#[test]
fn what_is_no_request_is_refused() {
    for json in ["", "[]", "{}", r#"{"streams":7}"#, r#"{"streams":[7]}"#] {
        assert!(matches!(read(true, json), Err(Refusal::Unreadable(_))), "{json}");
    }
    let stream = Stream { labels: "job".to_owned(), ..Stream::default() };
    let protobuf = PushRequest { streams: vec![stream] }.encode_to_vec();
    assert!(matches!(read(false, protobuf), Err(Refusal::Unreadable(_))));
    assert!(matches!(read(false, "\u{7}"), Err(Refusal::Unreadable(_))));
}

#[test]
fn a_stream_has_so_many_labels_in_every_encoding() {
    let labels = |count, quoted: &str, is: &str| {
        let labels: Vec<_> = (0..count).map(|n| format!("{quoted}l{n}{quoted}{is}\"v\"")).collect();
        format!("{{{}}}", labels.join(","))
    };
    for (count, is_read) in [(128, true), (129, false), (700_000, false)] {
        let stream = labels(count, "\"", ":");
        let json = format!(r#"{{"streams":[{{"stream":{stream},"values":[["1","a"]]}}]}}"#);
        let entries = vec![Entry { line: Bytes::from_static(b"a"), ..Entry::default() }];
        let stream = Stream { labels: labels(count, "", "="), entries, hash: 0 };
        let protobuf = PushRequest { streams: vec![stream] }.encode_to_vec();
        for read in [read(true, json), read(false, protobuf)] {
            let Ok((good, _)) = read else {
                assert!(matches!(read, Err(Refusal::Unreadable(reason)) if reason.contains("128")));
                assert!(!is_read);
                continue;
            };
            assert!(is_read);
            assert_eq!(good[0].fields.iter().last(), Some(("spillway.fields_cut", "64")));
        }
    }
}

#[test]
fn what_a_stream_says_is_cut_before_its_entries_are_read() {
    // No field has room for it, so each line is small; and it might be a severity.
    let small: Vec<_> = (0..64).map(|n| format!("l{n}=\"v\",")).collect();
    let labels = format!("{{{}level=\"{}\"}}", small.concat(), "x".repeat(4 << 20));
    let entries = vec![Entry { line: Bytes::from_static(b"a"), ..Entry::default() }; 20_000];
    let protobuf =
        PushRequest { streams: vec![Stream { labels, entries, hash: 0 }] }.encode_to_vec();
    let began = Instant::now();
    let (good, _) = read(false, protobuf).unwrap();
    assert_eq!(good.len(), 20_000);
    assert_eq!(good[0].fields.iter().last(), Some(("spillway.fields_cut", "1")));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[test]
fn streams_are_bounded_though_they_have_no_entry() {
    let stream = Stream { labels: "{}".to_owned(), ..Stream::default() };
    let protobuf = PushRequest { streams: vec![stream; 200_000] }.encode_to_vec();
    let json = format!(r#"{{"streams":[{}]}}"#, vec!["{}"; 200_000].join(","));
    assert!(matches!(read(false, protobuf), Err(Refusal::TooManyLines(_))));
    assert!(matches!(read(true, json), Err(Refusal::TooManyLines(_))));
}
