use model::Fields;
use proptest::prelude::*;

use super::*;

mod mariadb;
mod mongodb;
mod postgresql;
mod redis;

/// What comes out of a text's lines.
fn read(engine: &str, text: &str) -> Vec<LogLine> {
    let (mut reader, mut out) = (Reader::new(Some(engine)), Vec::new());
    for line in text.lines() {
        reader.push(LogLine::plain(line.to_owned()), &mut out);
    }
    reader.flush(&mut out);
    assert!(!reader.is_waiting());
    assert_eq!(joined(&out), text.trim_end_matches('\n').as_bytes());
    out
}

/// All texts, with LF between them.
fn joined(lines: &[LogLine]) -> Vec<u8> {
    lines.iter().map(|line| &line.text[..]).collect::<Vec<_>>().join(&b'\n')
}

/// A line's severity, time, fields and the start of its text.
fn said(line: &LogLine) -> String {
    let severity = line.severity.map_or("-", Severity::as_str);
    let sent_at = line.sent_at.map_or_else(|| "-".to_owned(), |at| at.to_string());
    let fields: Vec<_> =
        line.fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let lines = line.text.split(|byte| *byte == b'\n').count();
    format!("{severity} {sent_at} {} [{lines}]", fields.join(" "))
}

const ENGINES: [&str; 6] = ["postgresql", "mysql", "mariadb", "redis", "mongodb", "other"];

/// Starts of lines that mean something to one of the engines.
const STARTS: [&str; 25] = [
    "",
    "\t",
    "#011",
    "[5-1] ",
    "[5-2] ",
    "[5-2] \t",
    "[5-18446744073709551615] ",
    "{",
    "2026-11-28 15:40:35.809 UTC [23619] ",
    "2026-11-28 15:40:35.809 UTC [23619] ERROR:  42P01: ",
    "2026-11-28 15:40:35.809 UTC [23619] app@web STATEMENT:  ",
    "2026-11-28 15:40:35.809 UTC [1]: [2-1] user=app,db=,app=x LOG:  ",
    "2026-11-28 15:40:37.409 UTC,\"a\"\"b\",,1,,c,1,,t,,0,LOG,00000,\"x",
    "\",,,,,,,,,\"psql\"",
    "# Time: 261128 15:40:46",
    "# User@Host: root[root] @ localhost []",
    "# Query_time: 0.1  Schema:   QC_hit: No",
    "SET timestamp=1795880446;",
    "2026-11-28 15:40:45 0 [Note] ",
    "2026-11-28T15:40:45.000000Z 0 [ERROR] [MY-010931] [Server] ",
    "=== REDIS BUG REPORT START",
    "=== REDIS BUG REPORT END",
    "1:M 28 Nov 2026 15:00:00.000 * ",
    "{\"t\":{\"$date\":\"2026-11-28T15:00:00.000+00:00\"},\"s\":\"I\",\"c\":\"-\",\"ctx\":\"a\"}",
    "2026-11-28T15:00:00.000+0000 I  NETWORK  [",
];

prop_compose! {
    fn any_line()(
        start in prop::sample::select(&STARTS[..]),
        rest in prop_oneof![
            prop::collection::vec(prop::sample::select(&b" \t\"',:;[]{}@=#-1aZ\xff\xc3\xa9"[..]), 0..30),
            Just(b"select 1;".to_vec()),
        ],
        stream in prop::option::of(prop_oneof![
            Just(OutputStream::Stdout),
            Just(OutputStream::Stderr),
        ]),
        continued in prop::bool::weighted(0.1),
        severity in prop::option::of(Just(Severity::Debug)),
        procid in prop::option::weighted(0.3, "[12]"),
    ) -> LogLine {
        let text = [start.as_bytes(), &rest].concat();
        let fields = procid.map(|procid| ("procid", procid)).into_iter().collect();
        LogLine { stream, continued, severity, fields, ..LogLine::plain(text) }
    }
}

proptest! {
    #[test]
    fn whatever_comes_leaves_unchanged_and_in_order(
        engine in prop::sample::select(&ENGINES[..]),
        lines in prop::collection::vec((any_line(), prop::bool::weighted(0.1)), 0..30),
    ) {
        let (mut reader, mut out) = (Reader::new(Some(engine)), Vec::new());
        for (line, is_late) in &lines {
            if *is_late {
                reader.flush(&mut out);
            }
            reader.push(line.clone(), &mut out);
        }
        reader.flush(&mut out);
        let lines: Vec<_> = lines.into_iter().map(|(line, _)| line).collect();
        prop_assert_eq!(joined(&out), joined(&lines));
        // Each line that leaves has what came with the first of those it is of.
        let mut rest = lines.iter();
        for line in &out {
            let first = rest.next().unwrap();
            prop_assert_eq!(line.stream, first.stream);
            prop_assert!(first.severity.is_none() || line.severity.is_some());
            prop_assert!(first.fields.iter().all(|one| line.fields.iter().any(|own| own == one)));
            let mut length = first.text.len();
            let mut last = first;
            while length < line.text.len() {
                last = rest.next().unwrap();
                length += 1 + last.text.len();
                prop_assert_eq!(line.stream, last.stream);
            }
            prop_assert_eq!(line.continued, last.continued);
        }
        prop_assert!(rest.next().is_none());
    }
}

#[test]
fn app_lines_pass_as_they_came() {
    for engine in [None, Some("other")] {
        let (mut reader, mut out) = (Reader::new(engine), Vec::new());
        let line = LogLine::plain("2026-11-28 15:40:35.809 UTC [1] ERROR:  no");
        reader.push(line.clone(), &mut out);
        assert!(!reader.is_waiting());
        assert_eq!(out, [line]);
    }
}

#[test]
fn what_came_with_a_line_stays() {
    let (mut reader, mut out) = (Reader::new(Some("redis")), Vec::new());
    let fields: Fields = [("container_name", "cache"), ("pid", "7")].into_iter().collect();
    reader.push(
        LogLine {
            stream: Some(OutputStream::Stdout),
            sent_at: Some(Timestamp::from_nanos(1)),
            severity: Some(Severity::Error),
            fields,
            ..LogLine::plain("1:M 28 Nov 2026 15:00:00.000 * Ready")
        },
        &mut out,
    );
    assert_eq!(out[0].stream, Some(OutputStream::Stdout));
    assert_eq!(
        said(&out[0]),
        "notice 1970-01-01T00:00:00.000000001Z container_name=cache pid=7 role=master [1]"
    );
}

#[test]
fn what_waits_is_at_most_a_lines_limit() {
    let (mut reader, mut out) = (Reader::new(Some("postgresql")), Vec::new());
    reader.push(LogLine::plain("LOG:  statement: select"), &mut out);
    let long = format!("\t{}", "x".repeat(300_000));
    for _ in 0..10 {
        reader.push(LogLine::plain(long.clone()), &mut out);
    }
    reader.flush(&mut out);
    assert!(out.iter().all(|line| line.text.len() <= LINE_LIMIT));
    assert_eq!(out[0].text.len(), "LOG:  statement: select".len() + 3 * (1 + long.len()));
    assert_eq!(memchr::memchr_iter(b'x', &joined(&out)).count(), 3_000_000);
}

#[test]
fn rest_of_a_line_in_pieces_is_of_its_severity() {
    let (mut reader, mut out) = (Reader::new(Some("postgresql")), Vec::new());
    let piece = |text: &str, continued, stream| {
        let stream = Some(stream);
        LogLine { continued, stream, ..LogLine::plain(text.to_owned()) }
    };
    let (stdout, stderr) = (OutputStream::Stdout, OutputStream::Stderr);
    reader.push(piece("2026-11-28 15:00:00 UTC [7] ERROR:  a", true, stderr), &mut out);
    reader.push(piece("LOG:  of another output", false, stdout), &mut out);
    reader.push(piece("FATAL:  within the text", true, stderr), &mut out);
    reader.push(piece("\tits end", false, stderr), &mut out);
    reader.push(piece("PANIC:  b", false, stderr), &mut out);
    reader.flush(&mut out);
    let severities: Vec<_> = out.iter().map(|line| line.severity.unwrap().as_str()).collect();
    assert_eq!(severities, ["error", "info", "error", "error", "alert"]);
}
