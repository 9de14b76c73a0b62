//! Frames survive any cutting; foreign bytes neither panic nor take memory.

use bytes::Bytes;
use guest_protocol::{
    DecodeError, Decoder, EncodeError, FromEdge, FromGuest, MAX_FRAME, MAX_OUTPUT, MAX_TEXT,
    MAX_VARIABLES, Output, Program, Pty, encode_edge, encode_guest, output_header,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn content(longest: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 1..=longest).prop_map(Bytes::from)
}

fn pty() -> impl Strategy<Value = Pty> {
    (any::<String>(), any::<u16>(), any::<u16>(), vec(any::<(u8, u32)>(), 0..60))
        .prop_map(|(term, columns, rows, modes)| Pty { term, columns, rows, modes })
}

fn program() -> impl Strategy<Value = Program> {
    prop_oneof![Just(Program::Shell), vec(any::<u8>(), 0..2000).prop_map(Program::Command)]
}

fn from_edge() -> impl Strategy<Value = FromEdge> {
    let environment = vec((any::<String>(), vec(any::<u8>(), 0..200)), 0..20);
    prop_oneof![
        (program(), environment, proptest::option::of(pty()))
            .prop_map(|(program, environment, pty)| FromEdge::Start { program, environment, pty }),
        content(70_000).prop_map(FromEdge::Input),
        Just(FromEdge::InputEnd),
        any::<(u16, u16)>().prop_map(|(columns, rows)| FromEdge::Resize { columns, rows }),
        any::<String>().prop_map(FromEdge::Signal),
        Just(FromEdge::HangUp),
    ]
}

fn from_guest() -> impl Strategy<Value = FromGuest> {
    prop_oneof![
        (any::<u32>(), any::<String>())
            .prop_map(|(version, token)| FromGuest::Hello { version, token }),
        Just(FromGuest::Started),
        any::<String>().prop_map(FromGuest::StartFailed),
        content(MAX_OUTPUT).prop_map(FromGuest::Stdout),
        content(MAX_OUTPUT).prop_map(FromGuest::Stderr),
        any::<u32>().prop_map(FromGuest::Credit),
        Just(FromGuest::InputClosed),
        any::<u32>().prop_map(FromGuest::ExitCode),
        (any::<String>(), any::<bool>())
            .prop_map(|(name, core_dumped)| FromGuest::ExitSignal { name, core_dumped }),
    ]
}

/// Feeds `bytes` in pieces, alternately by both ways in, and takes all frames after each.
fn decode<T>(
    bytes: &[u8],
    cuts: &[usize],
    next: impl Fn(&mut Decoder) -> Result<Option<T>, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let (mut decoder, mut frames, mut rest) = (Decoder::default(), Vec::new(), bytes);
    let mut cuts = cuts.iter().cycle();
    while !rest.is_empty() {
        let cut = (*cuts.next().unwrap_or(&1)).min(rest.len());
        let (piece, after) = rest.split_at(cut);
        if cut % 2 == 0 {
            decoder.push(piece);
        } else {
            decoder.buffer().extend_from_slice(piece);
        }
        rest = after;
        while let Some(frame) = next(&mut decoder)? {
            frames.push(frame);
        }
        assert!(decoder.buffer().len() <= MAX_FRAME + 5, "no more than one frame is held");
        assert!(decoder.buffer().capacity() <= 2 * MAX_FRAME, "memory only for what came");
    }
    Ok(frames)
}

proptest! {
    #[test]
    fn edge_frames_survive_any_cutting(
        frames in vec(from_edge(), 1..8),
        cuts in vec(1usize..100_000, 1..10),
    ) {
        let mut bytes = Vec::new();
        for frame in &frames {
            encode_edge(frame, &mut bytes).unwrap();
        }
        prop_assert_eq!(decode(&bytes, &cuts, Decoder::next_edge).unwrap(), frames);
    }

    #[test]
    fn guest_frames_survive_any_cutting(
        frames in vec(from_guest(), 1..8),
        cuts in vec(1usize..100_000, 1..10),
    ) {
        let mut bytes = Vec::new();
        for frame in &frames {
            encode_guest(frame, &mut bytes).unwrap();
        }
        prop_assert_eq!(decode(&bytes, &cuts, Decoder::next_guest).unwrap(), frames);
    }

    #[test]
    fn single_bytes_make_the_same_frames(frame in from_guest()) {
        let mut bytes = Vec::new();
        encode_guest(&frame, &mut bytes).unwrap();
        bytes.truncate(3000);
        let whole = decode(&bytes, &[bytes.len()], Decoder::next_guest).unwrap();
        prop_assert_eq!(decode(&bytes, &[1], Decoder::next_guest).unwrap(), whole);
    }

    #[test]
    fn any_bytes_are_frames_or_an_error(
        bytes in vec(any::<u8>(), 0..5000),
        cuts in vec(1usize..1000, 1..10),
    ) {
        drop(decode(&bytes, &cuts, Decoder::next_edge));
        drop(decode(&bytes, &cuts, Decoder::next_guest));
    }

    #[test]
    fn any_body_behind_an_honest_header_is_a_frame_or_an_error(
        kind in prop_oneof![1u8..=7, 0x80u8..=0x8a],
        body in vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..300),
        cuts in vec(1usize..1000, 1..10),
    ) {
        let mut bytes = vec![kind];
        bytes.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(body);
        drop(decode(&bytes, &cuts, Decoder::next_edge));
        drop(decode(&bytes, &cuts, Decoder::next_guest));
    }

    #[test]
    fn damaged_frames_never_panic(
        frame in from_edge(),
        damage in vec(any::<(usize, u8)>(), 1..4),
        cuts in vec(1usize..1000, 1..10),
    ) {
        let mut bytes = Vec::new();
        encode_edge(&frame, &mut bytes).unwrap();
        for (place, value) in damage {
            let length = bytes.len().min(200);
            bytes[place % length] = value;
        }
        drop(decode(&bytes, &cuts, Decoder::next_edge));
    }
}

#[test]
fn too_long_frame_is_refused_by_its_header() {
    for (kind, limit) in [(0x84, MAX_OUTPUT), (0x86, 4), (0x82, 0)] {
        let mut decoder = Decoder::default();
        decoder.push(&[kind]);
        decoder.push(&u32::try_from(limit + 1).unwrap().to_be_bytes());
        let length = limit + 1;
        assert_eq!(decoder.next_guest(), Err(DecodeError::TooLong { kind, length, limit }));
    }
    let mut decoder = Decoder::default();
    decoder.push(&[0x01, 0xff, 0xff, 0xff, 0xff]);
    assert!(matches!(decoder.next_edge(), Err(DecodeError::TooLong { limit: MAX_FRAME, .. })));
}

#[test]
fn frames_of_the_other_direction_are_refused() {
    let mut bytes = Vec::new();
    encode_edge(&FromEdge::HangUp, &mut bytes).unwrap();
    assert_eq!(decode(&bytes, &[1], Decoder::next_guest), Err(DecodeError::UnknownKind(6)));
}

#[test]
fn counts_are_refused_before_memory_is_taken() {
    let mut decoder = Decoder::default();
    // Start, shell, and four thousand million variables.
    decoder.push(&[0x01, 0, 0, 0, 5, 0, 0xff, 0xff, 0xff, 0xff]);
    assert!(matches!(decoder.next_edge(), Err(DecodeError::Malformed { kind: 1, .. })));
}

#[test]
fn encoder_refuses_what_the_decoder_would() {
    let start = |environment, program| FromEdge::Start { program, environment, pty: None };
    let mut bytes = vec![7];
    for frame in [
        start(vec![(String::new(), Vec::new()); MAX_VARIABLES + 1], Program::Shell),
        start(vec![("n".repeat(MAX_TEXT + 1), Vec::new())], Program::Shell),
        start(Vec::new(), Program::Command(vec![0; MAX_FRAME])),
        FromEdge::Signal("s".repeat(MAX_TEXT + 1)),
    ] {
        encode_edge(&frame, &mut bytes).unwrap_err();
        assert_eq!(bytes, [7], "nothing of a refused frame is left");
    }
    let long = FromGuest::Stdout(Bytes::from(vec![0; MAX_OUTPUT + 1]));
    assert_eq!(
        encode_guest(&long, &mut bytes),
        Err(EncodeError::TooLong { length: MAX_OUTPUT + 1, limit: MAX_OUTPUT })
    );
}

#[test]
fn outputs_without_bytes_are_no_frames() {
    let mut bytes = Vec::new();
    encode_guest(&FromGuest::Stdout(Bytes::new()), &mut bytes).unwrap();
    assert!(bytes.is_empty());
    let empty = output_header(Output::Stdout, 0);
    assert!(matches!(
        decode(&empty, &[5], Decoder::next_guest),
        Err(DecodeError::Malformed { kind: 0x84, .. })
    ));
}

#[test]
fn header_in_front_of_bytes_is_an_output_frame() {
    for (output, frame) in [
        (Output::Stdout, FromGuest::Stdout(Bytes::from_static(b"hello"))),
        (Output::Stderr, FromGuest::Stderr(Bytes::from_static(b"hello"))),
    ] {
        let bytes = [output_header(output, 5).as_slice(), b"hello"].concat();
        assert_eq!(decode(&bytes, &[3], Decoder::next_guest).unwrap(), [frame]);
    }
}
