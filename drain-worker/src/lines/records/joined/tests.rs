//! Lines of two producers, read again from wherever a drain had got.

use model::{App, AppTag, EnvironmentTag, Event, OutputStream, Source};
use proptest::prelude::*;

use super::*;
use crate::lines::records::{Checkpoint, Wanted};
use crate::lines::{ControlSequences, Cuts, Redraws};

const SECOND: u64 = 1_000_000_000;

fn wanted(start: Option<&str>, limit: usize) -> Wanted {
    Wanted {
        sources: vec![Source::App],
        events_only: false,
        cuts: Cuts { limit, redraws: Redraws::Keep },
        control_sequences: ControlSequences::Keep,
        open_limit: 1 << 20,
        apps: None,
        databases: None,
        multiline_start: start.map(|start| regex::bytes::Regex::new(start).unwrap()),
    }
}

fn origin(producer: u128) -> Arc<Origin> {
    let id = uuid::Uuid::from_u128(producer);
    Arc::new(Origin {
        producer: Id::from_uuid(id),
        source: Source::App,
        environment: EnvironmentTag {
            id: Id::from_uuid(id),
            handle: "production".parse().unwrap(),
            organization: Id::from_uuid(id),
        },
        app: Some(AppTag { id: Id::<App>::from_uuid(id), handle: "web".parse().unwrap() }),
        database: None,
        session: None,
    })
}

/// A record of a producer, at a tenth of a second.
fn line(producer: u128, seq: u64, tenth: u64, text: &str) -> Record {
    let line = LogLine { stream: Some(OutputStream::Stderr), ..LogLine::plain(text.to_owned()) };
    let at = Timestamp::from_nanos(tenth * SECOND / 10);
    Record { origin: origin(producer), seq, at, event: Event::Line(Box::new(line)) }
}

fn got(line: &Line<'_>) -> String {
    let mut id = Vec::new();
    line.write_id_in_producer(&mut id);
    let (id, text) = (String::from_utf8(id).unwrap(), String::from_utf8_lossy(line.message));
    format!("{}{id} {text}", line.origin.producer.uuid().as_u128())
}

/// What is done with an assembler.
#[derive(Debug, Clone)]
enum Act {
    Block(Vec<Record>),
    /// The clock, in tenths of a second.
    Clock(u64),
}

/// When the clock delivers what it may.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Clock {
    AsGiven,
    AfterEachBlock,
}

/// Of a block that is not taken to its end: it, and how many of its records are.
type Part<'a> = Option<(&'a [Record], usize)>;

/// Lines of the acts from a checkpoint on, and then of a part of a block, each with the last checkpoint that those
/// before it cover.
fn run(
    assembler: &mut Assembler,
    (acts, part): (&[Act], Part<'_>),
    from: &Checkpoint,
    clock: Clock,
) -> Vec<(String, Checkpoint)> {
    let (mut lines, mut covered, mut block) = (Vec::new(), from.clone(), 0);
    for act in acts {
        let mut new = Vec::new();
        match act {
            Act::Block(records) => {
                block += 1;
                let position = Position { xid: block, seq: 1 };
                if position <= from.low {
                    continue;
                }
                assembler.repeat_clocked(&mut |line| new.push(got(line)));
                assembler.begin_block(position);
                for record in records {
                    assembler.push(record, &mut |line| new.push(got(line)));
                }
                assembler.end_block();
                if clock == Clock::AfterEachBlock && assembler.joined_until().is_some() {
                    let now = Timestamp::from_nanos(u64::MAX);
                    assembler.deliver_joined(now, &mut |line| new.push(got(line)));
                }
            }
            Act::Clock(tenths) if clock == Clock::AsGiven => {
                if assembler.joined_until().is_some() {
                    let now = Timestamp::from_nanos(tenths * SECOND / 10);
                    assembler.deliver_joined(now, &mut |line| new.push(got(line)));
                }
            }
            Act::Clock(_) => continue,
        }
        lines.extend(new.into_iter().map(|line| (line, covered.clone())));
        covered = assembler.checkpoint().unwrap_or(covered);
    }
    if let Some((records, count)) = part {
        let mut new = Vec::new();
        assembler.repeat_clocked(&mut |line| new.push(got(line)));
        assembler.begin_block(Position { xid: block + 1, seq: 1 });
        for record in records.iter().take(count) {
            assembler.push(record, &mut |line| new.push(got(line)));
        }
        lines.extend(new.into_iter().map(|line| (line, covered.clone())));
    }
    lines
}

fn texts(lines: &[(String, Checkpoint)]) -> Vec<String> {
    lines.iter().map(|line| line.0.clone()).collect()
}

#[test]
fn a_stack_trace_is_one_line_whatever_comes_between() {
    let acts = [
        Act::Block(vec![
            line(1, 0, 0, "ERROR a"),
            line(2, 0, 0, "INFO x"),
            line(1, 1, 1, "  at b"),
        ]),
        Act::Block(vec![line(1, 2, 5, "  at c"), line(1, 3, 5, "INFO d"), line(1, 4, 30, "late")]),
        Act::Clock(90),
    ];
    let mut assembler = Assembler::new(wanted(Some("^[A-Z]+ "), 100), Checkpoint::default());
    let all = (&acts[..], None);
    let lines = texts(&run(&mut assembler, all, &Checkpoint::default(), Clock::AsGiven));
    let expected = ["1:0-2 ERROR a\n  at b\n  at c", "1:3 INFO d", "2:0 INFO x", "1:4 late"];
    assert_eq!(lines, expected);
    assert_eq!(assembler.joined_until(), None);
}

#[test]
fn the_limit_ends_a_joined_line_and_what_is_not_joined_passes_at_once() {
    let acts =
        [Act::Block(vec![line(1, 0, 0, "aaaa"), line(1, 1, 0, " bbbb"), line(1, 2, 0, " c")])];
    let joined = |start, limit| {
        let mut assembler = Assembler::new(wanted(start, limit), Checkpoint::default());
        texts(&run(&mut assembler, (&acts, None), &Checkpoint::default(), Clock::AsGiven))
    };
    assert_eq!(joined(Some("^[a-z]"), 8), ["1:0 aaaa"]);
    assert_eq!(joined(None, 8), ["1:0 aaaa", "1:1  bbbb", "1:2  c"]);
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let record = (1..3_u128, 0..12_u64, prop::sample::select(&["A", " b", " c", "D"][..]));
    let act = (prop::collection::vec(record, 1..5), prop::option::of(0..60_u64));
    prop::collection::vec(act, 1..8).prop_map(|acts| {
        let (mut seqs, mut now, mut made) = ([0; 3], 0, Vec::new());
        for (records, clock) in acts {
            let records = records.into_iter().map(|(producer, later, text)| {
                let seq = &mut seqs[usize::try_from(producer).unwrap()];
                *seq += 1;
                now += later;
                line(producer, *seq - 1, now, text)
            });
            made.push(Act::Block(records.collect()));
            // A clock that is behind or ahead, too.
            made.extend(clock.map(|later| Act::Clock(now + later)));
        }
        made.push(Act::Clock(now + 1000));
        made
    })
}

proptest! {
    /// A failed delivery leaves out as many lines as were delivered after the checkpoint that they cover, wherever it
    /// fails, and whatever the clock is by then.
    #[test]
    fn lines_that_are_read_again_come_in_the_same_order(
        acts in acts(), stop in 0..20_usize, count in 0..5_usize, covered in any::<prop::sample::Index>(),
    ) {
        let stop = stop.min(acts.len());
        let part = match acts.get(stop) {
            Some(Act::Block(records)) => Some((&records[..], count)),
            _ => None,
        };
        let start = Checkpoint::default();
        let mut assembler = Assembler::new(wanted(Some("^[A-Z]"), 20), start.clone());
        let first = run(&mut assembler, (&acts[..stop], part), &start, Clock::AsGiven);
        if !first.is_empty() {
            let from = covered.get(&first).1.clone();
            let begin = first.iter().position(|line| line.1 == from).unwrap();
            assembler.resume(from.clone());
            let again = texts(&run(&mut assembler, (&acts, None), &from, Clock::AfterEachBlock));
            let expected = texts(&first[begin..]);
            prop_assert_eq!(&again[..expected.len()], &expected[..]);
        }
    }

    /// A worker that begins anew may repeat lines, and loses none.
    #[test]
    fn a_crash_loses_no_line(acts in acts()) {
        let start = Checkpoint::default();
        let mut assembler = Assembler::new(wanted(Some("^[A-Z]"), 20), start.clone());
        let first = run(&mut assembler, (&acts, None), &start, Clock::AsGiven);
        for cut in 0..first.len() {
            let from = first[cut].1.clone();
            let mut second = Assembler::new(wanted(Some("^[A-Z]"), 20), from.clone());
            let again = run(&mut second, (&acts, None), &from, Clock::AsGiven);
            let mut seen = std::collections::BTreeSet::new();
            for (line, _) in first[..cut].iter().chain(&again) {
                let (id, _) = line.split_once(' ').unwrap();
                let (producer, seqs) = id.split_once(':').unwrap();
                let (low, high) = seqs.split_once('-').unwrap_or((seqs, seqs));
                let (low, high): (u64, u64) = (low.parse().unwrap(), high.parse().unwrap());
                seen.extend((low..=high).map(|seq| (producer.to_owned(), seq)));
            }
            let all = acts.iter().filter_map(|act| match act {
                Act::Block(records) => Some(records),
                Act::Clock(_) => None,
            });
            for record in all.flatten() {
                let producer = record.origin.producer.uuid().as_u128().to_string();
                prop_assert!(seen.contains(&(producer, record.seq)), "{record:?}");
            }
        }
    }
}
