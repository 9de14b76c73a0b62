//! Frames to bytes (pure), and what both directions know of the kinds.
//!
//! A frame that this module writes is one that the decoder takes: both ask [`limit`].

use bytes::BufMut;

use crate::{
    FromEdge, FromGuest, INITIAL_CREDIT, MAX_FRAME, MAX_MODES, MAX_OUTPUT, MAX_TEXT, MAX_VARIABLES,
    Output, Program, Pty,
};

/// The bytes of a frame before its body: kind and length.
pub const HEADER_LENGTH: usize = 5;

// The two directions have kinds of their own, so that frames sent the wrong way are refused.
pub(crate) const START: u8 = 0x01;
pub(crate) const INPUT: u8 = 0x02;
pub(crate) const INPUT_END: u8 = 0x03;
pub(crate) const RESIZE: u8 = 0x04;
pub(crate) const SIGNAL: u8 = 0x05;
pub(crate) const HANG_UP: u8 = 0x06;

pub(crate) const HELLO: u8 = 0x81;
pub(crate) const STARTED: u8 = 0x82;
pub(crate) const START_FAILED: u8 = 0x83;
pub(crate) const STDOUT: u8 = 0x84;
pub(crate) const STDERR: u8 = 0x85;
pub(crate) const CREDIT: u8 = 0x86;
pub(crate) const INPUT_CLOSED: u8 = 0x87;
pub(crate) const EXIT_CODE: u8 = 0x88;
pub(crate) const EXIT_SIGNAL: u8 = 0x89;

pub(crate) const SHELL: u8 = 0;
pub(crate) const COMMAND: u8 = 1;

/// The longest body that this kind may have, `None` for an unknown kind.
pub(crate) const fn limit(kind: u8) -> Option<usize> {
    Some(match kind {
        START => MAX_FRAME,
        INPUT => INITIAL_CREDIT as usize,
        STDOUT | STDERR => MAX_OUTPUT,
        INPUT_END | HANG_UP | STARTED | INPUT_CLOSED => 0,
        RESIZE | CREDIT | EXIT_CODE => 4,
        SIGNAL | START_FAILED => 4 + MAX_TEXT,
        HELLO => 8 + MAX_TEXT,
        EXIT_SIGNAL => 5 + MAX_TEXT,
        _ => return None,
    })
}

/// The frame holds more than the other side takes; nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Its body is too long.
    #[error("the frame has {length} bytes, more than the {limit} allowed")]
    TooLong {
        /// What it has.
        length: usize,
        /// What it may have.
        limit: usize,
    },
    /// `Start` has too many variables, terminal modes or bytes in a name.
    #[error("the frame has {count} {what}, more than the {limit} allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
}

/// Appends the frame to `into`. An input or output without bytes is no frame: nothing is appended.
pub fn encode_edge(frame: &FromEdge, into: &mut Vec<u8>) -> Result<(), EncodeError> {
    match frame {
        FromEdge::Start { program, environment, pty } => {
            check("variables", environment.len(), MAX_VARIABLES)?;
            let longest = environment.iter().map(|(name, _)| name.len()).max();
            check("bytes in a variable's name", longest.unwrap_or(0), MAX_TEXT)?;
            if let Some(pty) = pty {
                check("bytes in the terminal's name", pty.term.len(), MAX_TEXT)?;
                check("terminal modes", pty.modes.len(), MAX_MODES)?;
            }
            framed(START, into, |body| put_start(program, environment, pty.as_ref(), body))
        }
        FromEdge::Input(bytes) => raw(INPUT, bytes, into),
        FromEdge::InputEnd => framed(INPUT_END, into, |_| {}),
        FromEdge::Resize { columns, rows } => framed(RESIZE, into, |body| {
            body.put_u16(*columns);
            body.put_u16(*rows);
        }),
        FromEdge::Signal(name) => framed(SIGNAL, into, |body| put_bytes(name.as_bytes(), body)),
        FromEdge::HangUp => framed(HANG_UP, into, |_| {}),
    }
}

/// Appends the frame to `into`. An input or output without bytes is no frame: nothing is appended.
pub fn encode_guest(frame: &FromGuest, into: &mut Vec<u8>) -> Result<(), EncodeError> {
    match frame {
        FromGuest::Hello { version, token } => framed(HELLO, into, |body| {
            body.put_u32(*version);
            put_bytes(token.as_bytes(), body);
        }),
        FromGuest::Started => framed(STARTED, into, |_| {}),
        FromGuest::StartFailed(why) => {
            framed(START_FAILED, into, |body| put_bytes(why.as_bytes(), body))
        }
        FromGuest::Stdout(bytes) => raw(STDOUT, bytes, into),
        FromGuest::Stderr(bytes) => raw(STDERR, bytes, into),
        FromGuest::Credit(bytes) => framed(CREDIT, into, |body| body.put_u32(*bytes)),
        FromGuest::InputClosed => framed(INPUT_CLOSED, into, |_| {}),
        FromGuest::ExitCode(code) => framed(EXIT_CODE, into, |body| body.put_u32(*code)),
        FromGuest::ExitSignal { name, core_dumped } => framed(EXIT_SIGNAL, into, |body| {
            put_bytes(name.as_bytes(), body);
            body.put_u8(u8::from(*core_dumped));
        }),
    }
}

/// The header of a `Stdout` or `Stderr` frame, for a sender that has the bytes in place already and
/// would copy them with [`encode_guest`]. `length` is at most [`MAX_OUTPUT`] and not 0.
#[must_use]
pub const fn output_header(output: Output, length: u32) -> [u8; HEADER_LENGTH] {
    let kind = match output {
        Output::Stdout => STDOUT,
        Output::Stderr => STDERR,
    };
    let [a, b, c, d] = length.to_be_bytes();
    [kind, a, b, c, d]
}

fn check(what: &'static str, count: usize, limit: usize) -> Result<(), EncodeError> {
    if count > limit { Err(EncodeError::TooMany { what, count, limit }) } else { Ok(()) }
}

/// Writes the body first and its length afterwards; takes both back if the body is too long.
fn framed(
    kind: u8,
    into: &mut Vec<u8>,
    body: impl FnOnce(&mut Vec<u8>),
) -> Result<(), EncodeError> {
    let start = into.len();
    into.put_slice(&[kind, 0, 0, 0, 0]);
    body(into);
    let length = into.len() - start - HEADER_LENGTH;
    let limit = limit(kind).unwrap_or(0);
    match (u32::try_from(length), into.get_mut(start + 1..start + HEADER_LENGTH)) {
        (Ok(announced), Some(place)) if length <= limit => {
            place.copy_from_slice(&announced.to_be_bytes());
            Ok(())
        }
        _ => {
            into.truncate(start);
            Err(EncodeError::TooLong { length, limit })
        }
    }
}

/// No bytes are no frame.
fn raw(kind: u8, bytes: &[u8], into: &mut Vec<u8>) -> Result<(), EncodeError> {
    if bytes.is_empty() { Ok(()) } else { framed(kind, into, |body| body.put_slice(bytes)) }
}

fn put_start(
    program: &Program,
    environment: &[(String, Vec<u8>)],
    pty: Option<&Pty>,
    body: &mut Vec<u8>,
) {
    match program {
        Program::Shell => body.put_u8(SHELL),
        Program::Command(line) => {
            body.put_u8(COMMAND);
            put_bytes(line, body);
        }
    }
    put_count(environment.len(), body);
    for (name, value) in environment {
        put_bytes(name.as_bytes(), body);
        put_bytes(value, body);
    }
    body.put_u8(u8::from(pty.is_some()));
    if let Some(Pty { term, columns, rows, modes }) = pty {
        put_bytes(term.as_bytes(), body);
        body.put_u16(*columns);
        body.put_u16(*rows);
        put_count(modes.len(), body);
        for (opcode, argument) in modes {
            body.put_u8(*opcode);
            body.put_u32(*argument);
        }
    }
}

fn put_bytes(bytes: &[u8], body: &mut Vec<u8>) {
    put_count(bytes.len(), body);
    body.put_slice(bytes);
}

/// A count that does not fit into u32 belongs to a body that [`framed`] then refuses.
fn put_count(count: usize, body: &mut Vec<u8>) {
    body.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
}
