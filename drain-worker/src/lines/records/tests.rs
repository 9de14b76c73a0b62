//! Crashes at every point: what is delivered before, and again after, is everything in order.

use model::{EnvironmentTag, EphemeralSession, LogLine, SessionTag};
use proptest::prelude::*;

use super::*;
use crate::lines::Redraws;

/// A line as a receiver sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Got {
    producer: Id<Producer>,
    id: String,
    span: Option<Span>,
    seq: u64,
    message: Vec<u8>,
}

fn got(line: &Line<'_>) -> Got {
    let mut id = Vec::new();
    line.write_id(&mut id);
    Got {
        producer: line.origin.producer,
        id: String::from_utf8(id).unwrap(),
        span: line.span,
        seq: line.seq,
        message: line.message.to_vec(),
    }
}

fn wanted() -> Wanted {
    Wanted {
        sources: vec![Source::EphemeralSession],
        events_only: false,
        cuts: Cuts { limit: 16, redraws: Redraws::Keep },
        control_sequences: ControlSequences::Keep,
        open_limit: 1 << 20,
        apps: None,
        databases: None,
        multiline_start: None,
    }
}

fn origin() -> Arc<Origin> {
    let id: Id<EphemeralSession> = Id::generate();
    Arc::new(Origin {
        producer: id.producer(),
        source: Source::EphemeralSession,
        environment: EnvironmentTag {
            id: Id::generate(),
            handle: "production".parse().unwrap(),
            organization: Id::generate(),
        },
        app: None,
        database: None,
        session: Some(SessionTag {
            id,
            user: Id::generate(),
            user_email: "ada@example.com".to_owned(),
            user_name: "Ada".to_owned(),
        }),
    })
}

/// What one record does: session 0 to 2, kind, and bytes.
type Act = (usize, u8, Vec<u8>);

/// Blocks of records of three sessions.
fn blocks(acts: &[Vec<Act>]) -> Vec<Vec<Record>> {
    let origins = [origin(), origin(), origin()];
    let mut counts = [(0, [0, 0]); 3];
    let record = |(session, kind, bytes): &Act| {
        let (seq, offsets) = &mut counts[*session];
        let event = match kind {
            0 => Event::Shell,
            1 => Event::Exit(model::ExitStatus::Code(0)),
            3 => Event::Pause { stream: OutputStream::Stdout },
            4 => Event::Pause { stream: OutputStream::Stderr },
            kind => {
                let (stream, offset) = if *kind == 2 {
                    (OutputStream::Stderr, &mut offsets[1])
                } else {
                    (OutputStream::Stdout, &mut offsets[0])
                };
                let begun = *offset;
                *offset += bytes.len() as u64;
                Event::Output { stream, offset: begun, bytes: bytes.clone().into() }
            }
        };
        *seq += 1;
        Record {
            origin: origins[*session].clone(),
            seq: *seq - 1,
            at: Timestamp::from_nanos(*seq),
            event,
        }
    };
    let mut record = record;
    acts.iter().map(|acts| acts.iter().map(&mut record).collect()).collect()
}

/// Delivers blocks from a checkpoint until `crash` lines have come out; also gives the last
/// checkpoint that those lines cover.
fn deliver(
    blocks: &[Vec<Record>],
    wanted: &Wanted,
    from: &Checkpoint,
    crash: usize,
) -> (Vec<Got>, Checkpoint) {
    let mut assembler = Assembler::new(wanted.clone(), from.clone());
    let mut lines = Vec::new();
    let mut committed = from.clone();
    for (block, number) in blocks.iter().zip(1..) {
        let position = Position { xid: number, seq: 1 };
        if position <= from.low {
            continue;
        }
        assembler.begin_block(position);
        for record in block {
            assembler.push(record, &mut |line| lines.push(got(line)));
        }
        assembler.end_block();
        if lines.len() > crash {
            lines.truncate(crash);
            return (lines, committed);
        }
        if let Some(checkpoint) = assembler.checkpoint() {
            committed = checkpoint;
        }
    }
    (lines, assembler.checkpoint().unwrap_or(committed))
}

fn acts() -> impl Strategy<Value = Vec<Vec<Act>>> {
    let bytes = prop_oneof![
        3 => "[a-z]{1,10}\n",
        2 => "[a-z]{1,10}",
        1 => Just("1%\r2%\r".to_owned()),
        1 => Just("\n\n".to_owned()),
        1 => "[a-z]{20,40}",
    ];
    let act = (0..3_usize, 0..9_u8, bytes.prop_map(String::into_bytes));
    proptest::collection::vec(proptest::collection::vec(act, 0..5), 1..12)
}

proptest! {
    #[test]
    fn crashes_repeat_lines_and_lose_none(
        acts in acts(),
        crashes in proptest::collection::vec(0..60_usize, 0..4),
        joined in any::<bool>(),
    ) {
        let start = joined.then(|| destinations::regex("^[a-m]").unwrap());
        let wanted = Wanted { multiline_start: start, ..wanted() };
        let mut acts = acts;
        acts.push((0..3).map(|session| (session, 1, Vec::new())).collect());
        let blocks = blocks(&acts);
        let (whole, _) = deliver(&blocks, &wanted, &Checkpoint::default(), usize::MAX);
        let mut received: Vec<Got> = Vec::new();
        let mut from = Checkpoint::default();
        for crash in crashes.iter().copied().chain([usize::MAX]) {
            let (lines, committed) = deliver(&blocks, &wanted, &from, crash);
            received.extend(lines);
            from = committed;
        }
        for producer in whole.iter().map(|line| line.producer) {
            let expected: Vec<_> = whole.iter().filter(|line| line.producer == producer).collect();
            let mut next = 0;
            for line in received.iter().filter(|line| line.producer == producer) {
                // Every line is one of the undisturbed ones, and comes next or comes again.
                let at = expected.iter().position(|other| *other == line);
                prop_assert!(at.is_some(), "{line:?} was cut otherwise: {expected:?}");
                prop_assert!(at.unwrap() <= next, "gap before {line:?}");
                next = next.max(at.unwrap() + 1);
            }
            prop_assert_eq!(next, expected.len());
        }
        // Everything is committed at the end: one more start repeats nothing.
        prop_assert_eq!(deliver(&blocks, &wanted, &from, usize::MAX).0, Vec::new());
    }
}

#[test]
fn a_pause_cuts_the_unfinished_line_of_its_output_alone() {
    let acts = vec![
        vec![(0, 5, b"ab".to_vec()), (0, 2, b"x".to_vec())],
        vec![(0, 3, Vec::new())],
        vec![(0, 3, Vec::new()), (0, 5, b"c\n".to_vec()), (0, 2, b"y\n".to_vec())],
    ];
    let (lines, _) = deliver(&blocks(&acts), &wanted(), &Checkpoint::default(), usize::MAX);
    let messages: Vec<_> = lines.iter().map(|line| line.message.as_slice()).collect();
    assert_eq!(messages, [b"ab".as_slice(), b"c", b"xy"]);
}

#[test]
fn the_checkpoint_stays_before_a_line_that_is_open() {
    let acts = vec![
        vec![(0, 5, b"a\n".to_vec())],
        vec![(0, 5, b"b\nopen".to_vec())],
        vec![(1, 5, b"c\n".to_vec())],
    ];
    let blocks = blocks(&acts);
    let mut assembler = Assembler::new(wanted(), Checkpoint::default());
    for (block, number) in blocks.iter().zip(1..) {
        assembler.begin_block(Position { xid: number, seq: 1 });
        for record in block {
            assembler.push(record, &mut |_| {});
        }
        assembler.end_block();
    }
    let checkpoint = assembler.checkpoint().unwrap();
    assert_eq!((checkpoint.low.xid, checkpoint.high.xid), (1, 3));
    let producer = blocks[1][0].origin.producer;
    let text = serde_json::to_string(&checkpoint.open).unwrap();
    assert_eq!(text, format!("{{\"{producer}\":{{\"stdout\":4}}}}"));
    assert_eq!(serde_json::from_str::<OpenOffsets>(&text).unwrap(), checkpoint.open);
}

#[test]
fn lines_that_begin_nothing_go_on_the_line_before() {
    let acts = vec![
        vec![(0, 5, b"one\n tw".to_vec()), (0, 2, b"err\n".to_vec())],
        vec![(0, 5, b"o\n a line beyond the limit\nt".to_vec()), (1, 5, b"other\n".to_vec())],
        vec![(0, 5, b"hree\n".to_vec()), (0, 3, Vec::new()), (0, 5, b" four\n".to_vec())],
        vec![(0, 1, Vec::new()), (1, 1, Vec::new())],
    ];
    let start = Some(destinations::regex(r"^\S").unwrap());
    let wanted = Wanted { multiline_start: start, ..wanted() };
    let (lines, _) = deliver(&blocks(&acts), &wanted, &Checkpoint::default(), usize::MAX);
    let output: Vec<_> =
        lines.iter().filter_map(|line| line.span.map(|span| (line, span))).collect();
    let of = |channel| {
        let first = output[0].0.producer;
        let own = output
            .iter()
            .filter(|(line, span)| line.producer == first && span.channel == Some(channel));
        own.map(|(line, span)| {
            (String::from_utf8_lossy(&line.message).into_owned(), span.offset, span.continued)
        })
        .collect::<Vec<_>>()
    };
    let line = |text: &str, offset, continued| (text.to_owned(), offset, continued);
    assert_eq!(
        of(Channel::Stdout),
        [
            line("one\n two", 0, true),
            line(" a line beyond t", 9, true),
            line("he limit", 25, false),
            line("three", 34, false),
            line(" four", 40, false),
        ]
    );
    assert_eq!(of(Channel::Stderr), [line("err", 0, false)]);
}

#[test]
fn who_wants_events_only_gets_no_output_and_the_position_moves_on() {
    let acts = vec![
        vec![(0, 0, Vec::new()), (0, 5, b"printed\nand open".to_vec()), (0, 3, Vec::new())],
        vec![(0, 5, b" still".to_vec()), (0, 1, Vec::new()), (0, 2, b"x".to_vec())],
    ];
    let wanted = Wanted { events_only: true, ..wanted() };
    let mut assembler = Assembler::new(wanted, Checkpoint::default());
    let mut events = Vec::new();
    for (block, number) in blocks(&acts).iter().zip(1..) {
        let position = Position { xid: number, seq: 1 };
        assembler.begin_block(position);
        for record in block {
            assembler.push(record, &mut |line| events.push(line.event));
        }
        assembler.end_block();
        let all = Checkpoint { low: position, high: position, open: OpenOffsets::new() };
        assert_eq!(assembler.checkpoint(), Some(all));
    }
    assert_eq!(events, ["shell", "exit"]);
}

#[test]
fn of_lines_only_those_about_the_platform_itself_are_events() {
    let wanted =
        Wanted { sources: vec![Source::App, Source::Activity], events_only: true, ..wanted() };
    let taken = |source: Source, event: Event| {
        let origin = Arc::new(Origin { source, ..(*origin()).clone() });
        wanted.takes(&Record { origin, seq: 0, at: Timestamp::default(), event })
    };
    let line = || Event::Line(Box::new(LogLine::plain(b"a".as_slice())));
    assert!(taken(Source::Activity, line()) && !taken(Source::App, line()));
    assert!(taken(Source::App, Event::Shell) && !taken(Source::Database, Event::Shell));
}
