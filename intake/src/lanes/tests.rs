use std::sync::atomic::Ordering;

use store::intake::DrainLoop;

use super::*;
use crate::fixture::{self, Kept};

fn source(environment: Id<Environment>) -> Source {
    Source::new(fixture::row(environment, ""))
}

fn lanes(kept: &Arc<Kept>) -> Lanes {
    Lanes::new(kept.clone(), Counts::default(), Loops::default(), Shutdown::new())
}

fn lines(count: usize, bytes: usize) -> Vec<LogLine> {
    (0..count).map(|n| LogLine::plain(format!("{n:0bytes$}"))).collect()
}

#[tokio::test]
async fn records_are_numbered_without_a_gap_whatever_fails() {
    let kept = Arc::new(Kept { failures: 5.into(), ..Kept::default() });
    let lanes = lanes(&kept);
    let source = source(Id::generate());
    let producer = source.producer();
    let mut durables = Vec::new();
    for _ in 0..20 {
        durables.push(lanes.submit(&source, &producer, lines(700, 200), None).await);
    }
    for durable in durables {
        durable.await.unwrap();
    }
    let records = kept.records();
    assert_eq!(records.len(), 20 * 700);
    assert!(records.iter().zip(0..).all(|(record, seq)| record.seq == seq));
    assert!(records.is_sorted_by_key(|record| record.at));
    assert!(lanes.is_empty());
}

#[tokio::test]
async fn more_than_a_block_holds_becomes_several_and_the_last_tells_of_all() {
    let kept = Arc::new(Kept::default());
    let lanes = lanes(&kept);
    let source = source(Id::generate());
    lanes.submit(&source, source.shared_producer(), lines(200_000, 6), None).await.await.unwrap();
    assert_eq!(kept.records().len(), 200_000);
    let long = vec![LogLine::plain(vec![b'x'; 3 << 20])];
    lanes.submit(&source, source.shared_producer(), long, None).await.await.unwrap();
    let records = kept.records();
    let pieces: Vec<_> = records
        .iter()
        .skip(200_000)
        .map(|record| match &record.event {
            Event::Line(line) => (line.text.len(), line.continued),
            event => panic!("{event:?}"),
        })
        .collect();
    assert_eq!(pieces, [(1 << 20, true), (1 << 20, true), (1 << 20, false)]);
}

#[tokio::test]
async fn a_source_that_floods_does_not_delay_another() {
    let kept = Arc::new(Kept::default());
    let lanes = lanes(&kept);
    let environment = Id::generate();
    let (flooding, quiet) = (source(environment), source(environment));
    let producer = flooding.producer();
    for _ in 0..12 {
        // It never waits: more has no room.
        drop(lanes.submit(&flooding, &producer, lines(1000, 1), None).await);
    }
    let events = vec![Event::Line(Box::new(LogLine::plain("quiet")))];
    lanes.try_submit(&quiet, &quiet.producer(), events).unwrap().await.unwrap();
    let before = kept.blocks.lock().unwrap().len();
    assert!(before <= 2, "{before} blocks before the quiet line was durable");
    let full = || vec![Event::Line(Box::new(LogLine::plain(vec![b'x'; 1 << 20])))];
    let taken = (0..8).take_while(|_| lanes.try_submit(&flooding, &producer, full()).is_some());
    assert!((1..=4).contains(&taken.count()));
}

#[tokio::test]
async fn what_a_sender_keeps_is_kept_until_its_last_line_is_durable() {
    let stream = Arc::new(Kept { failures: 1_000_000.into(), ..Kept::default() });
    let lanes = lanes(&stream);
    let source = source(Id::generate());
    let kept: Arc<()> = Arc::default();
    let submit = |count| {
        lanes.submit(&source, source.shared_producer(), lines(count, 1 << 10), Some(kept.clone()))
    };
    // Nobody waits for these any more, and they are still in the lane.
    drop(submit(1).await);
    let durable = submit(1_000).await;
    // These find no room for all of them, and the rest is given up.
    let timed_out = tokio::time::timeout(Duration::from_millis(200), submit(10_000)).await;
    assert!(timed_out.is_err());
    assert!(Arc::strong_count(&kept) >= 4);
    stream.failures.store(0, Ordering::SeqCst);
    durable.await.unwrap();
    while !lanes.is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(Arc::strong_count(&kept), 1);
}

#[tokio::test]
async fn what_waits_when_the_process_stops_is_not_said_to_be_durable() {
    let kept = Arc::new(Kept { failures: 1_000_000.into(), ..Kept::default() });
    let lanes = lanes(&kept);
    let source = source(Id::generate());
    let durable = lanes.submit(&source, source.shared_producer(), lines(1, 1), None).await;
    lanes.abandon();
    assert_eq!(durable.await, Err(NotDurable));
    let later = lanes.submit(&source, source.shared_producer(), lines(1, 1), None).await;
    assert_eq!(later.await, Err(NotDurable));
}

#[tokio::test]
async fn a_line_that_a_drain_of_the_environment_sent_is_kept_with_a_note_of_it() {
    let kept = Arc::new(Kept::default());
    let lanes = lanes(&kept);
    let (ours, other) = (source(Id::generate()), source(Id::generate()));
    let drain: Id<model::Drain> = Id::generate();
    lanes.loops.know(vec![(drain, ours.environment())]);
    let back = |name: &str| LogLine {
        fields: [("pid", "7".to_owned()), (name, drain.hop())].into_iter().collect(),
        ..LogLine::plain("again")
    };
    let text = |before: &str| LogLine::plain(format!("a {before}{}\" b", drain.hop()));
    let sent = vec![
        back("hop"),
        LogLine::plain("new"),
        back("spillway@32473.hop"),
        back("shop"),
        text("hop=\""),
        text("\\\"hop\\\": \\\""),
        text("hop"),
    ];
    for source in [&ours, &other] {
        lanes.submit(source, source.shared_producer(), sent.clone(), None).await.await.unwrap();
    }
    let noted = |source: &Source| -> Vec<bool> {
        let records = kept.records().into_iter();
        let of = records.filter(|it| it.origin.environment.id == source.environment());
        of.map(|record| {
            let Event::Line(line) = record.event else { panic!("{:?}", record.event) };
            line.fields.iter().any(|field| field == (LogLine::LOOPED, &drain.hop()))
        })
        .collect()
    };
    assert_eq!(noted(&ours), [true, false, true, false, true, true, false]);
    assert_eq!(noted(&other), [false; 7]);
    assert_eq!(lanes.loops.taken(), [DrainLoop { drain, source: ours.id(), lines: 4 }]);
}

#[test]
fn a_long_line_is_split_between_characters() {
    let mut text = "x".repeat(LINE_LIMIT - 1);
    text.push('\u{20ac}');
    let line = LogLine { fields: [("a", "b")].into_iter().collect(), ..LogLine::plain(text) };
    let pieces: Vec<_> = split(line).collect();
    assert_eq!(
        pieces.iter().map(|piece| piece.text.len()).collect::<Vec<_>>(),
        [LINE_LIMIT - 1, 3]
    );
    assert_eq!(pieces.iter().map(|piece| piece.continued).collect::<Vec<_>>(), [true, false]);
    assert_eq!(
        pieces.iter().map(|piece| piece.fields.is_empty()).collect::<Vec<_>>(),
        [false, true]
    );
}
