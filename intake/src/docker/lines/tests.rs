//! Lines of pieces: whatever is cut where, and wherever reading begins again.

use proptest::prelude::*;

use super::*;

const STDOUT: OutputStream = OutputStream::Stdout;

fn piece(output: OutputStream, at: u64, text: &str) -> Piece {
    Piece { output, at, text: text.to_owned().into() }
}

type Named = Vec<(OutputStream, String)>;

/// The texts of the lines after a position; and after each piece, how many there are and the position.
fn read(position: &Position, pieces: &[Piece]) -> (Named, Vec<(usize, Position)>) {
    let mut lines = Lines::new(position, None, Fields::default());
    let (mut given, mut marks) = (Vec::new(), Vec::new());
    for piece in pieces {
        lines.push(piece.clone(), &mut given);
        let mut mark = position.clone();
        lines.mark(&mut mark);
        marks.push((given.len(), mark));
    }
    lines.finish(&mut given);
    (given.iter().map(named).collect(), marks)
}

fn named(line: &LogLine) -> (OutputStream, String) {
    (line.stream.unwrap(), String::from_utf8_lossy(&line.text).into_owned())
}

fn texts(pieces: &[Piece]) -> Vec<String> {
    read(&Position::default(), pieces).0.into_iter().map(|(_, text)| text).collect()
}

#[test]
fn pieces_of_one_time_are_one_line() {
    let pieces = [piece(STDOUT, 1, "a"), piece(STDOUT, 1, "b"), piece(STDOUT, 1, "c\n")];
    assert_eq!(texts(&pieces), ["abc"]);
}

#[test]
fn line_without_an_end_ends_where_a_later_one_begins() {
    assert_eq!(texts(&[piece(STDOUT, 1, "a"), piece(STDOUT, 2, "b\r\n")]), ["a", "b"]);
}

#[test]
fn position_does_not_pass_a_line_that_has_not_ended() {
    let pieces = [piece(STDOUT, 1, "a\n"), piece(STDOUT, 2, "b")];
    let (_, marks) = read(&Position::default(), &pieces);
    assert_eq!(marks[1].1.stdout, Some(Taken { at: 1, bytes: 2, more: true }));
    let (_, marks) = read(&Position::default(), &pieces[1..]);
    assert_eq!(marks[0].1.stdout, Some(Taken { at: 2, bytes: 0, more: true }));
}

#[test]
fn what_a_rotated_log_repeats_is_left_out() {
    let pieces: Vec<_> = (1..6).map(|at| piece(STDOUT, at, &format!("{at}\n"))).collect();
    for begin in 0..5 {
        let mut again = pieces.clone();
        again.extend_from_slice(&pieces[begin..]);
        again.push(piece(STDOUT, 9, "9\n"));
        assert_eq!(texts(&again), ["1", "2", "3", "4", "5", "9"]);
        let (_, marks) = read(&Position::default(), &pieces);
        for (given, position) in &marks {
            let (lines, _) = read(position, &again);
            assert_eq!(lines.len(), 6 - given, "from {begin} on, after {given}");
        }
    }
}

#[test]
fn lines_after_the_clock_was_set_back_are_lines() {
    let pieces = [piece(STDOUT, 10, "a\n"), piece(STDOUT, 5, "b\n"), piece(STDOUT, 6, "c\n")];
    assert_eq!(texts(&pieces), ["a", "b", "c"]);
}

#[test]
fn long_line_goes_on_where_it_was_cut() {
    let long = "x".repeat(LINE_LIMIT + 10);
    let pieces = [piece(STDOUT, 1, &long), piece(STDOUT, 1, "y\n")];
    let (_, marks) = read(&Position::default(), &pieces);
    assert_eq!(marks[0].0, 1);
    let limit = u64::try_from(LINE_LIMIT).unwrap();
    assert_eq!(marks[0].1.stdout, Some(Taken { at: 1, bytes: limit, more: true }));
    let (lines, _) = read(&marks[0].1, &pieces);
    assert_eq!(lines, [(STDOUT, format!("{}y", "x".repeat(10)))]);
}

/// Pieces as Docker writes them: each output's times rise, and a line's pieces share one.
fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let piece = (any::<bool>(), "[ab]{0,3}", any::<bool>(), 0..3_u64);
    let made = prop::collection::vec(piece, 1..40);
    let pieces = made.prop_map(|made| {
        let (mut clock, mut open) = (0, [None; 2]);
        let pieces = made.into_iter().filter_map(|(is_stderr, mut text, ends, later)| {
            clock += later + 1;
            let open = &mut open[usize::from(is_stderr)];
            let at = open.unwrap_or(clock);
            *open = (!ends).then_some(at);
            if ends {
                text.push('\n');
            }
            let output = if is_stderr { OutputStream::Stderr } else { STDOUT };
            (!text.is_empty()).then(|| piece_of(output, at, text))
        });
        pieces.collect::<Vec<_>>()
    });
    pieces.prop_filter("some pieces", |pieces| !pieces.is_empty())
}

fn piece_of(output: OutputStream, at: u64, text: String) -> Piece {
    Piece { output, at, text: text.into() }
}

proptest! {
    #[test]
    fn reading_again_from_anywhere_gives_each_line_once(pieces in pieces(), cut: prop::sample::Index) {
        let (whole, marks) = read(&Position::default(), &pieces);
        let (given, position) = &marks[cut.index(marks.len())];
        let since = position.since().map_or(0, Timestamp::nanos);
        let later: Vec<_> = pieces.iter().filter(|piece| piece.at >= since).cloned().collect();
        let (rest, _) = read(position, &later);
        for output in [STDOUT, OutputStream::Stderr] {
            let of = |lines: &[(OutputStream, String)]| -> Vec<String> {
                let lines = lines.iter().filter(|(of, _)| *of == output);
                lines.map(|(_, text)| text.clone()).collect()
            };
            prop_assert_eq!([of(&whole[..*given]), of(&rest)].concat(), of(&whole));
        }
    }
}
