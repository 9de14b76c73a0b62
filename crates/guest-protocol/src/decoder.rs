//! Bytes to frames: fed in any pieces, answers whole frames.
//!
//! Invariant: what it holds is bounded by one frame and one read, however long the other side says
//! its frames are; memory is taken for bytes that came, never for bytes that were announced.

use bytes::{Buf, Bytes, BytesMut};

use crate::codec::{
    COMMAND, CREDIT, EXIT_CODE, EXIT_SIGNAL, HANG_UP, HEADER_LENGTH, HELLO, INPUT, INPUT_CLOSED,
    INPUT_END, RESIZE, SHELL, SIGNAL, START, START_FAILED, STARTED, STDERR, STDOUT, limit,
};
use crate::{FromEdge, FromGuest, MAX_MODES, MAX_TEXT, MAX_VARIABLES, Program, Pty};

/// Room for a full output frame and the beginning of the next one. The bytes of frames point into
/// this memory, so it is taken in pieces of this size: larger ones would be kept longer by a reader
/// that is behind.
const CHUNK: usize = 128 * 1024;

/// Less room than this is not worth a read.
const SMALL: usize = 16 * 1024;

/// What came is not a frame that this side takes. The connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No such kind in this direction.
    #[error("a frame has the unknown kind {0:#04x}")]
    UnknownKind(u8),
    /// The header announces more than this kind may have.
    #[error("a frame of kind {kind:#04x} announces {length} bytes, more than the {limit} allowed")]
    TooLong {
        /// The kind.
        kind: u8,
        /// What it announces.
        length: usize,
        /// What it may have.
        limit: usize,
    },
    /// The body is not what its kind says.
    #[error("a frame of kind {kind:#04x} is malformed: {what}")]
    Malformed {
        /// The kind.
        kind: u8,
        /// What is wrong.
        what: &'static str,
    },
}

/// Takes bytes as they come and answers frames.
///
/// Read into [`Decoder::buffer`] (or [`Decoder::push`]), then take frames until there is none, then
/// read again. Inputs and outputs are not copied: they point into the memory that was read into.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Where to read into: append only. It has room for at least 16 KiB.
    pub fn buffer(&mut self) -> &mut BytesMut {
        if self.buffer.capacity() - self.buffer.len() < SMALL {
            self.buffer.reserve(CHUNK);
        }
        &mut self.buffer
    }

    /// Appends a copy of bytes that came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame of the edge's, for the guest; `None` until more bytes come.
    pub fn next_edge(&mut self) -> Result<Option<FromEdge>, DecodeError> {
        let Some((kind, mut body)) = self.next_frame(START..=HANG_UP)? else { return Ok(None) };
        edge(kind, &mut body)
            .and_then(|frame| body.end(frame))
            .map(Some)
            .map_err(|what| malformed(kind, what))
    }

    /// The next whole frame of the guest's, for the edge; `None` until more bytes come.
    pub fn next_guest(&mut self) -> Result<Option<FromGuest>, DecodeError> {
        let Some((kind, mut body)) = self.next_frame(HELLO..=EXIT_SIGNAL)? else { return Ok(None) };
        guest(kind, &mut body)
            .and_then(|frame| body.end(frame))
            .map(Some)
            .map_err(|what| malformed(kind, what))
    }

    fn next_frame(
        &mut self,
        kinds: std::ops::RangeInclusive<u8>,
    ) -> Result<Option<(u8, Body)>, DecodeError> {
        let Some(header) = self.buffer.first_chunk::<HEADER_LENGTH>() else {
            return match self.buffer.first() {
                Some(kind) if !kinds.contains(kind) => Err(DecodeError::UnknownKind(*kind)),
                _ => Ok(None),
            };
        };
        let [kind, a, b, c, d] = *header;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let limit =
            limit(kind).filter(|_| kinds.contains(&kind)).ok_or(DecodeError::UnknownKind(kind))?;
        if length > limit {
            return Err(DecodeError::TooLong { kind, length, limit });
        }
        if self.buffer.len() < HEADER_LENGTH + length {
            return Ok(None);
        }
        self.buffer.advance(HEADER_LENGTH);
        Ok(Some((kind, Body(self.buffer.split_to(length).freeze()))))
    }
}

fn malformed(kind: u8, what: &'static str) -> DecodeError {
    DecodeError::Malformed { kind, what }
}

type Parsed<T> = Result<T, &'static str>;

fn edge(kind: u8, body: &mut Body) -> Parsed<FromEdge> {
    Ok(match kind {
        START => FromEdge::Start {
            program: match body.u8()? {
                SHELL => Program::Shell,
                COMMAND => Program::Command(body.bytes()?.to_vec()),
                _ => return Err("unknown program"),
            },
            environment: body.list(MAX_VARIABLES, "too many variables", |body| {
                Ok((body.text()?, body.bytes()?.to_vec()))
            })?,
            pty: if body.bool()? { Some(body.pty()?) } else { None },
        },
        INPUT => FromEdge::Input(body.rest()?),
        INPUT_END => FromEdge::InputEnd,
        RESIZE => FromEdge::Resize { columns: body.u16()?, rows: body.u16()? },
        SIGNAL => FromEdge::Signal(body.text()?),
        HANG_UP => FromEdge::HangUp,
        _ => return Err("unknown kind"),
    })
}

fn guest(kind: u8, body: &mut Body) -> Parsed<FromGuest> {
    Ok(match kind {
        HELLO => FromGuest::Hello { version: body.u32()?, token: body.text()? },
        STARTED => FromGuest::Started,
        START_FAILED => FromGuest::StartFailed(body.text()?),
        STDOUT => FromGuest::Stdout(body.rest()?),
        STDERR => FromGuest::Stderr(body.rest()?),
        CREDIT => FromGuest::Credit(body.u32()?),
        INPUT_CLOSED => FromGuest::InputClosed,
        EXIT_CODE => FromGuest::ExitCode(body.u32()?),
        EXIT_SIGNAL => FromGuest::ExitSignal { name: body.text()?, core_dumped: body.bool()? },
        _ => return Err("unknown kind"),
    })
}

/// The rest of a body that is being read.
struct Body(Bytes);

const SHORT: &str = "it ends too early";

impl Body {
    fn u8(&mut self) -> Parsed<u8> {
        self.0.try_get_u8().map_err(|_| SHORT)
    }

    fn u16(&mut self) -> Parsed<u16> {
        self.0.try_get_u16().map_err(|_| SHORT)
    }

    fn u32(&mut self) -> Parsed<u32> {
        self.0.try_get_u32().map_err(|_| SHORT)
    }

    fn bool(&mut self) -> Parsed<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err("neither yes nor no"),
        }
    }

    fn bytes(&mut self) -> Parsed<Bytes> {
        let length = self.u32()? as usize;
        if length > self.0.len() { Err(SHORT) } else { Ok(self.0.split_to(length)) }
    }

    fn text(&mut self) -> Parsed<String> {
        let bytes = self.bytes()?;
        if bytes.len() > MAX_TEXT {
            return Err("a text is too long");
        }
        String::from_utf8(bytes.into()).map_err(|_| "a text is not UTF-8")
    }

    /// Takes no memory by the announced count: an item takes bytes that are there, or it fails.
    fn list<T>(
        &mut self,
        limit: usize,
        too_many: &'static str,
        item: impl Fn(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        let count = self.u32()? as usize;
        if count > limit { Err(too_many) } else { (0..count).map(|_| item(self)).collect() }
    }

    fn pty(&mut self) -> Parsed<Pty> {
        Ok(Pty {
            term: self.text()?,
            columns: self.u16()?,
            rows: self.u16()?,
            modes: self
                .list(MAX_MODES, "too many terminal modes", |body| Ok((body.u8()?, body.u32()?)))?,
        })
    }

    /// Everything that is left; empty inputs and outputs mean nothing and would cost work for free.
    fn rest(&mut self) -> Parsed<Bytes> {
        if self.0.is_empty() { Err("it is empty") } else { Ok(self.0.split_off(0)) }
    }

    fn end<T>(&self, frame: T) -> Parsed<T> {
        if self.0.is_empty() { Ok(frame) } else { Err("bytes are left over") }
    }
}
