//! Bytes from programs.

use std::fs;
use std::time::{Duration, Instant};

use guest_protocol::{FromGuest, Program};

use crate::edge::{Edge, runs, terminal};

/// Bytes without a pattern.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn sixty_four_mebibytes_are_exact_for_a_slow_reader() {
    let mut edge = Edge::new();
    let expected = noise(64 << 20);
    fs::write(edge.folder.path().join("noise"), &expected).unwrap();
    edge.start(Program::Command(b"cat $FOLDER/noise".to_vec()), None);
    assert_eq!(edge.next(), Some(FromGuest::Started));
    let mut came = Vec::new();
    loop {
        match edge.next() {
            Some(FromGuest::Stdout(bytes)) => {
                if came.len() >> 22 != (came.len() + bytes.len()) >> 22 {
                    std::thread::sleep(Duration::from_millis(30));
                }
                came.extend_from_slice(&bytes);
            }
            Some(FromGuest::InputClosed) => {}
            other => {
                assert_eq!(other, Some(FromGuest::ExitCode(0)));
                break;
            }
        }
    }
    assert!(came == expected, "{} of {} bytes", came.len(), expected.len());
}

#[test]
fn standard_error_is_apart() {
    let mut edge = Edge::with_command("echo out; echo err >&2", None);
    let rest = edge.rest();
    assert_eq!((rest.stdout.as_slice(), rest.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
}

#[test]
fn flood_on_one_output_does_not_starve_the_other() {
    let mut edge = Edge::with_command("yes & sleep 0.1; echo here >&2; sleep 60", None);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !matches!(edge.next(), Some(FromGuest::Stderr(_))) {
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn small_writes_are_complete() {
    let mut edge =
        Edge::with_command("i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done", None);
    let expected: String = (0..20_000).map(|number| number.to_string() + "\n").collect();
    assert!(edge.rest().stdout == expected.as_bytes());
}

#[test]
fn process_left_behind_with_the_output_does_not_hold_the_session() {
    for pty in [None, Some(terminal())] {
        let line = "trap '' HUP; sleep 60 & echo $!";
        let start = Instant::now();
        let mut edge = Edge::with_command(line, pty);
        let rest = edge.rest();
        assert_eq!(rest.end, Some(FromGuest::ExitCode(0)));
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        // In a container it ends with the guest, which is the first process there.
        let pid = String::from_utf8(rest.stdout).unwrap().trim().to_owned();
        assert!(runs(&pid));
        let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
}

#[test]
fn process_left_behind_that_writes_for_ever_does_not_hold_the_session() {
    let mut edge = Edge::with_command("yes & sleep 0.1", None);
    assert_eq!(edge.rest().end, Some(FromGuest::ExitCode(0)));
}

#[test]
fn all_output_goes_before_the_exit_status() {
    for pty in [None, Some(terminal())] {
        for _ in 0..20 {
            let mut edge = Edge::with_command("printf last", pty.clone());
            assert_eq!(edge.rest().stdout, b"last");
        }
    }
}

#[test]
fn program_has_neither_the_token_nor_the_connection() {
    for pty in [None, Some(terminal())] {
        let mut edge = Edge::with_command("env; ls -l /proc/self/fd", pty);
        let shown = String::from_utf8(edge.rest().stdout).unwrap();
        assert!(shown.contains("FOLDER="), "{shown}");
        assert!(!shown.contains("secret"), "{shown}");
        assert!(!shown.contains("socket:"), "{shown}");
    }
}
