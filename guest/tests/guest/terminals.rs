//! Programs on a terminal.

use std::time::Duration;

use guest_protocol::{FromEdge, FromGuest, Program, Pty};

use crate::edge::{Edge, comes, exit_signal, terminal};

#[test]
fn shell_echoes_and_has_the_size() {
    let pty = Pty { columns: 132, rows: 43, ..terminal() };
    let mut edge = Edge::with(Program::Shell, Some(pty));
    edge.input(b"stty size; echo $0-$TERM; tty\n");
    let shown = edge.until("/dev/pts/");
    assert!(shown.contains("stty size; echo"), "echo: {shown:?}");
    assert!(shown.contains("43 132\r\n"), "size: {shown:?}");
    assert!(shown.contains("-sh-vt100\r\n"), "login shell and TERM: {shown:?}");
    edge.input(b"exit 9\n");
    assert_eq!(edge.rest().end, Some(FromGuest::ExitCode(9)));
    assert!(edge.close().success());
}

#[test]
fn resize_reaches_the_program() {
    let line = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.02; done";
    let mut edge = Edge::with_command(line, Some(terminal()));
    edge.until("ready");
    edge.send(&FromEdge::Resize { columns: 120, rows: 40 });
    edge.until("40 120");
    assert_eq!(edge.rest().end, Some(FromGuest::ExitCode(0)));
}

#[test]
fn resize_gets_through_while_nobody_reads_the_output() {
    let line = "trap 'touch $FOLDER/resized' WINCH; yes & echo ready; while :; do wait; done";
    let mut edge = Edge::with_command(line, Some(terminal()));
    edge.until("ready");
    // The flood fills every buffer first.
    std::thread::sleep(Duration::from_millis(300));
    edge.send(&FromEdge::Resize { columns: 120, rows: 40 });
    let mark = edge.folder.path().join("resized");
    assert!(comes(Duration::from_secs(5), || mark.exists()));
    edge.send(&FromEdge::HangUp);
    assert_eq!(edge.rest().end, Some(exit_signal("HUP")));
}

#[test]
fn end_of_input_changes_nothing() {
    let mut edge = Edge::with_command("echo ready; read line; echo got $line", Some(terminal()));
    edge.until("ready");
    edge.send(&FromEdge::InputEnd);
    edge.input(b"more\n");
    edge.until("got more");
    assert_eq!(edge.rest().end, Some(FromGuest::ExitCode(0)));
}

#[test]
fn control_c_and_signals_reach_the_foreground() {
    let line = "trap 'echo interrupted' INT; echo ready; while :; do sleep 0.02; done";
    let mut edge = Edge::with_command(line, Some(terminal()));
    edge.until("ready");
    edge.input(b"\x03");
    edge.until("interrupted");
    edge.send(&FromEdge::Signal("INT".to_owned()));
    edge.until("interrupted");
    edge.send(&FromEdge::Signal("QUIT".to_owned()));
    let rest = edge.rest();
    assert!(matches!(rest.end, Some(FromGuest::ExitSignal { ref name, .. }) if name == "QUIT"));
}

#[test]
fn flood_is_complete() {
    let mut edge = Edge::with_command("seq 1 200000", Some(terminal()));
    let rest = edge.rest();
    assert_eq!(rest.end, Some(FromGuest::ExitCode(0)));
    let expected: String = (1..=200_000).map(|number| number.to_string() + "\r\n").collect();
    assert!(rest.stdout == expected.as_bytes(), "{} bytes", rest.stdout.len());
}

#[test]
fn hang_up_closes_the_terminal() {
    let mut edge = Edge::with(Program::Shell, Some(terminal()));
    edge.input(b"sleep 60 & echo pid=$!=\n");
    edge.until("pid=");
    edge.send(&FromEdge::HangUp);
    let rest = edge.rest();
    assert!(
        rest.end == Some(exit_signal("HUP")) || matches!(rest.end, Some(FromGuest::ExitCode(_))),
        "{:?}",
        rest.end
    );
    assert!(edge.close().success());
}
