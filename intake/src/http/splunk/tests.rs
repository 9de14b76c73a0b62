use model::{LogLine, OutputStream, Severity, Timestamp};

use super::*;
use crate::http::lines::tests::lines;

fn read_all(body: &str) -> Result<(Vec<LogLine>, Outcome), Refusal> {
    let mut lines = lines();
    read(&Bytes::copy_from_slice(body.as_bytes()), &mut lines)?;
    let (good, outcome, _) = lines.finish()?;
    Ok((good, outcome))
}

#[test]
fn events_one_after_the_other_are_read() {
    let (good, outcome) = read_all(
        r#"{"time":1426279439.123,"host":"localhost","sourcetype":"txt","event":"Hello world!"}
           {"event":{"message":"from an object","severity":"ERROR"},"fields":{"region":"eu","n":1}}{"event":7,"time":"1426279439"}"#,
    )
    .unwrap();
    assert_eq!((good.len(), outcome.refused_count), (3, 0));
    assert_eq!(good[0].text, "Hello world!");
    assert_eq!(good[0].sent_at, Some(Timestamp::from_nanos(1_426_279_439_123_000_000)));
    let fields: Vec<_> = good[0].fields.iter().collect();
    assert_eq!(fields, [("host", "localhost"), ("sourcetype", "txt")]);
    assert_eq!(
        (good[1].text.as_ref(), good[1].severity),
        (&b"from an object"[..], Some(Severity::Error))
    );
    assert_eq!(good[1].fields.iter().collect::<Vec<_>>(), [("region", "eu"), ("n", "1")]);
    assert_eq!(good[2].text, "7");
}

#[test]
fn what_docker_sends_is_a_line_of_its_output() {
    let (good, _) = read_all(
        r#"{"event":{"line":"started","source":"stderr","tag":"9d01"},"time":"1426279439.000000","host":"h"}"#,
    )
    .unwrap();
    assert_eq!(
        (good[0].text.as_ref(), good[0].stream),
        (&b"started"[..], Some(OutputStream::Stderr))
    );
    assert_eq!(good[0].fields.iter().collect::<Vec<_>>(), [("tag", "9d01"), ("host", "h")]);
}

#[test]
fn bad_events_have_splunk_s_reasons() {
    let (good, outcome) =
        read_all(r#"{"event":"a"}{"no":1}{"event":" "}{"event":"b"}{"event":"c","fields":7} nonsense {"event":"d"}"#)
            .unwrap();
    assert_eq!(good.len(), 2);
    let refused = outcome.refused.iter().map(|bad| (bad.line, bad.reason.as_str()));
    assert!(refused.eq([(2, NO_EVENT), (3, BLANK_EVENT), (5, FORMAT), (6, FORMAT)]));
    assert_eq!(read_all(" \n"), Err(Refusal::Nothing));
    for body in ["{", "[", "\u{0}", "{\"event\""] {
        assert_eq!(read_all(body).unwrap().1.refused_count, 1);
    }
}
