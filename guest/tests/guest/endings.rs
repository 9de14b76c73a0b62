//! How programs, edges and guests end.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use guest_protocol::{FromEdge, FromGuest, Program};
use rustix::process::{Pid, Signal, kill_process};

use crate::edge::{Edge, comes, exit_signal, runs, terminal};

#[test]
fn exit_codes_are_the_programs() {
    for code in [0, 1, 127, 255] {
        let mut edge = Edge::with_command(&format!("exit {code}"), None);
        assert_eq!(edge.rest().end, Some(FromGuest::ExitCode(code)));
        let start = Instant::now();
        assert!(edge.close().success());
        assert!(start.elapsed() < Duration::from_secs(1), "it waits for nothing then");
    }
}

#[test]
fn signals_that_end_the_program_are_told() {
    for pty in [None, Some(terminal())] {
        let mut edge = Edge::with_command("kill -KILL $$", pty);
        assert_eq!(edge.rest().end, Some(exit_signal("KILL")));
    }
}

#[test]
fn signal_reaches_the_whole_group() {
    let mut edge = Edge::with_command("sleep 60 | sleep 60; echo not reached", None);
    std::thread::sleep(Duration::from_millis(100));
    edge.send(&FromEdge::Signal("NONSENSE".to_owned()));
    edge.send(&FromEdge::Signal("INT".to_owned()));
    let rest = edge.rest();
    assert_eq!((rest.stdout.as_slice(), rest.end), (&b""[..], Some(exit_signal("INT"))));
}

#[test]
fn program_that_ignores_hang_ups_is_gone_three_seconds_after_its_edge() {
    for pty in [None, Some(terminal())] {
        let line = "trap '' HUP; echo pid $$; while :; do sleep 0.1; done";
        let mut edge = Edge::with_command(line, pty);
        let shown = edge.until("\n");
        let pid = shown.split_whitespace().last().unwrap().to_owned();
        assert!(runs(&pid));
        let start = Instant::now();
        assert!(!edge.close().success());
        assert!(comes(Duration::from_secs(1), || !runs(&pid)));
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
}

#[test]
fn hang_up_kills_what_ignores_it() {
    let mut edge = Edge::with_command("trap '' HUP; echo ready; while :; do sleep 0.1; done", None);
    edge.until("ready");
    edge.send(&FromEdge::HangUp);
    assert_eq!(edge.rest().end, Some(exit_signal("KILL")));
}

#[test]
fn termination_of_the_guest_ends_the_program_and_is_not_told_as_its_exit() {
    let mut edge = Edge::with_command("echo pid $$; sleep 60", None);
    let pid = edge.until("\n").split_whitespace().last().unwrap().to_owned();
    let guest = Pid::from_raw(i32::try_from(edge.guest.id()).unwrap()).unwrap();
    kill_process(guest, Signal::TERM).unwrap();
    assert_eq!(edge.next(), None);
    assert!(comes(Duration::from_secs(3), || !runs(&pid)));
    assert!(!edge.close().success());
}

#[test]
fn frames_that_make_no_sense_end_it() {
    let again = [0x01, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0];
    for nonsense in [&[0x84, 0, 0, 0, 1, 0][..], &[0xff; 5], &[0x02, 0, 0, 0, 0], &again] {
        let mut edge = Edge::with_command("echo pid $$; sleep 60", None);
        let pid = edge.until("\n").split_whitespace().last().unwrap().to_owned();
        edge.send_bytes(nonsense);
        while edge.next().is_some() {}
        assert!(comes(Duration::from_secs(3), || !runs(&pid)), "{nonsense:?}");
        assert!(!edge.close().success());
    }
}

#[test]
fn first_frame_must_be_start() {
    let mut edge = Edge::new();
    edge.send(&FromEdge::InputEnd);
    assert_eq!(edge.next(), None);
    assert!(!edge.close().success());
}

#[test]
fn hang_up_before_start_ends_it() {
    let mut edge = Edge::new();
    edge.send(&FromEdge::HangUp);
    assert_eq!(edge.next(), None);
    assert!(edge.close().success());
}

#[test]
fn variables_that_cannot_be_set_are_explained() {
    for name in ["A=B".to_owned(), "=".repeat(guest_protocol::MAX_TEXT)] {
        let mut edge = Edge::new();
        let environment = vec![(name, Vec::new())];
        edge.send(&FromEdge::Start { program: Program::Shell, environment, pty: None });
        let Some(FromGuest::StartFailed(why)) = edge.rest().end else { panic!("it starts") };
        assert!(why.starts_with("the variable \""), "{why}");
        assert!(edge.close().success());
    }
}

#[test]
fn without_token_or_socket_it_fails() {
    let run = |token: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_guest"));
        command.arg("/no/such/socket").stderr(Stdio::piped());
        if let Some(token) = token {
            command.env(guest_protocol::TOKEN_VARIABLE, token);
        }
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(run(None).contains("the token is missing"));
    assert!(run(Some("a")).contains("/no/such/socket: the edge's socket cannot be reached"));
}
