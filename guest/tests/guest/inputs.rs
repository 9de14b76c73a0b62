//! Bytes for programs.

use std::fs;

use guest_protocol::{FromEdge, FromGuest, INITIAL_CREDIT};

use crate::edge::{Edge, exit_signal};
use crate::outputs::noise;

#[test]
fn sixteen_mebibytes_arrive_within_the_credit() {
    let mut edge = Edge::with_command("sleep 0.2; cat > $FOLDER/came", None);
    let expected = noise(16 << 20);
    let (mut rest, mut credit) = (expected.as_slice(), INITIAL_CREDIT as usize);
    while !rest.is_empty() {
        if credit == 0 {
            match edge.next() {
                Some(FromGuest::Credit(more)) => credit += more as usize,
                other => panic!("{other:?} instead of credit"),
            }
        }
        let (piece, after) = rest.split_at(rest.len().min(credit).min(50_000));
        edge.input(piece);
        credit -= piece.len();
        rest = after;
    }
    edge.send(&FromEdge::InputEnd);
    assert_eq!(edge.rest().end, Some(FromGuest::ExitCode(0)));
    assert!(fs::read(edge.folder.path().join("came")).unwrap() == expected);
}

#[test]
fn input_that_nobody_reads_gets_no_credit_but_signals_get_through() {
    let mut edge = Edge::with_command("sleep 60", None);
    for _ in 0..4 {
        edge.input(&noise(INITIAL_CREDIT as usize / 4));
    }
    edge.send(&FromEdge::Signal("TERM".to_owned()));
    let rest = edge.rest();
    assert_eq!(rest.end, Some(exit_signal("TERM")));
    let granted: u32 = rest
        .others
        .iter()
        .map(|frame| if let FromGuest::Credit(bytes) = frame { *bytes } else { 0 })
        .sum();
    assert!(granted <= 64 * 1024, "only what the pipe holds: {granted}");
}

#[test]
fn input_over_the_credit_ends_it() {
    let mut edge = Edge::with_command("sleep 60", None);
    for _ in 0..6 {
        edge.input(&noise(INITIAL_CREDIT as usize / 4));
    }
    while edge.next().is_some() {}
    assert!(!edge.close().success());
}

#[test]
fn half_close_lets_the_program_finish() {
    let mut edge = Edge::with_command("cat; echo end", None);
    edge.input(b"some");
    edge.send(&FromEdge::InputEnd);
    let rest = edge.rest();
    assert_eq!(rest.stdout, b"someend\n");
    assert_eq!(rest.end, Some(FromGuest::ExitCode(0)));
}

#[test]
fn closed_input_is_told_once() {
    let mut edge = Edge::with_command("exec <&-; sleep 0.3", None);
    edge.input(b"for nobody");
    edge.input(b"for nobody");
    let rest = edge.rest();
    let told = rest.others.iter().filter(|frame| **frame == FromGuest::InputClosed).count();
    assert_eq!((told, rest.end), (1, Some(FromGuest::ExitCode(0))));
}

#[test]
fn shell_without_a_terminal_reads_its_input() {
    let mut edge = Edge::with(guest_protocol::Program::Shell, None);
    edge.input(b"echo $((6 * 7))\nexit 4\n");
    let rest = edge.rest();
    assert_eq!((rest.stdout.as_slice(), rest.end), (&b"42\n"[..], Some(FromGuest::ExitCode(4))));
}
