//! Pieces of a container's log in the bytes that Docker answers with (pure).
//!
//! Docker cuts a long line into pieces of 16 KiB, of which only the last has a line end. All pieces of a line
//! have the time of the first; it precedes each. Without a terminal every piece is a frame of its own: the output's
//! number, three zeros, the length. With one there are no frames, and a piece without a line end is followed by
//! the next one's time at once: the same time, to the nanosecond, which is how it is told from text.

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::{memchr, memmem};
use model::{OutputStream, Timestamp};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Far more than a frame has.
const FRAME_LIMIT: usize = 4 << 20;
const HEADER: usize = 8;
/// Where there are no frames, a piece is no longer than this.
const PIECE_LIMIT: usize = 64 << 10;
/// A time in front of a piece is no longer than this.
const TIME_LIMIT: usize = 40;

/// A line, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// The output.
    pub(super) output: OutputStream,
    /// When Docker read it, or the first piece of its line; in nanoseconds since the Unix epoch.
    pub(super) at: u64,
    /// As it was written, with its line end if it has one; never empty.
    pub(super) text: Bytes,
}

/// What there is in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// A piece of the log.
    Piece(Piece),
    /// Docker says something of its own: that it cannot read the log.
    Complaint(String),
}

/// An answer is not a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// A frame's head is not one.
    #[error("Docker's answer is not a log: a frame of the output {0} with {1} bytes")]
    Header(u8, usize),
    /// A frame does not begin with a time.
    #[error("Docker's answer is not a log with times")]
    NoTime,
}

/// Takes an answer apart.
#[derive(Debug)]
pub(super) struct Frames {
    is_framed: bool,
    buffer: BytesMut,
    /// The time of the piece that was given up to its limit.
    cut: Option<Bytes>,
}

impl Frames {
    /// Of a container with or without a terminal.
    pub(super) fn new(has_terminal: bool) -> Self {
        Self { is_framed: !has_terminal, buffer: BytesMut::new(), cut: None }
    }

    /// Takes more bytes of the answer.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next thing that is complete.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.is_framed { self.next_frame() } else { self.next_raw() }
    }

    /// What is left at the answer's end.
    pub(super) fn rest(&mut self) -> Result<Option<Frame>, FrameError> {
        let left = self.buffer.split();
        if self.is_framed || left.is_empty() {
            return Ok(None);
        }
        if let Some(time) = self.cut.take() {
            return raw(&time, left).map(Some);
        }
        match time_of(&left) {
            Some((at, length)) if left.len() > length => {
                let text = left.freeze().slice(length..);
                Ok(Some(Frame::Piece(Piece { output: OutputStream::Stdout, at, text })))
            }
            Some(_) => Ok(None),
            None => Ok(Some(complaint(&left))),
        }
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            let Some(&[output, _, _, _, a, b, c, d]) = self.buffer.first_chunk::<HEADER>() else {
                return Ok(None);
            };
            let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            if output > 3 || length > FRAME_LIMIT {
                return Err(FrameError::Header(output, length));
            }
            if self.buffer.len() < HEADER + length {
                return Ok(None);
            }
            self.buffer.advance(HEADER);
            let frame = self.buffer.split_to(length);
            let output = match output {
                1 => OutputStream::Stdout,
                2 => OutputStream::Stderr,
                3 => return Ok(Some(complaint(&frame))),
                _ => continue,
            };
            let (at, start) = time_of(&frame).ok_or(FrameError::NoTime)?;
            let text = frame.freeze().slice(start..);
            if !text.is_empty() {
                return Ok(Some(Frame::Piece(Piece { output, at, text })));
            }
        }
    }

    fn next_raw(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            let (time, start) = match &self.cut {
                Some(time) => (time.clone(), 0),
                None => match time_of(&self.buffer) {
                    Some((_, length)) => (
                        Bytes::copy_from_slice(self.buffer.get(..length).unwrap_or_default()),
                        length,
                    ),
                    None => return self.next_complaint(),
                },
            };
            let text = self.buffer.get(start..).unwrap_or_default();
            let line = memchr(b'\n', text).map(|at| at + 1);
            let within = text.get(..line.unwrap_or(text.len())).unwrap_or_default();
            // The next piece of the same line, if it comes before the line end.
            let piece = memmem::find(within, &time);
            let end = match piece.or(line) {
                Some(end) => end,
                // What may be the beginning of the next piece's time stays.
                None if text.len() >= PIECE_LIMIT => text.len() - time.len(),
                None => return Ok(None),
            };
            self.cut = (piece.is_none() && line.is_none()).then(|| time.clone());
            self.buffer.advance(start);
            let text = self.buffer.split_to(end);
            if !text.is_empty() {
                return raw(&time, text).map(Some);
            }
        }
    }

    fn next_complaint(&mut self) -> Result<Option<Frame>, FrameError> {
        match memchr(b'\n', &self.buffer) {
            Some(end) => {
                let line = self.buffer.split_to(end + 1);
                Ok(Some(complaint(&line)))
            }
            None if self.buffer.len() > PIECE_LIMIT => Err(FrameError::NoTime),
            None => Ok(None),
        }
    }
}

fn raw(time: &[u8], text: BytesMut) -> Result<Frame, FrameError> {
    let (at, _) = time_of(time).ok_or(FrameError::NoTime)?;
    Ok(Frame::Piece(Piece { output: OutputStream::Stdout, at, text: text.freeze() }))
}

fn complaint(text: &[u8]) -> Frame {
    Frame::Complaint(String::from_utf8_lossy(text).trim_end().chars().take(500).collect())
}

/// The time that bytes begin with, and the bytes that it takes with the space after it.
fn time_of(bytes: &[u8]) -> Option<(u64, usize)> {
    let space = memchr(b' ', bytes.get(..bytes.len().min(TIME_LIMIT))?)?;
    let text = std::str::from_utf8(bytes.get(..space)?).ok()?;
    Some((nanos(text)?, space + 1))
}

/// A time as Docker writes it. Its zero is before the Unix epoch.
pub(super) fn nanos(text: &str) -> Option<u64> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Some(Timestamp::from_date_time(at).nanos())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIME: &str = "2026-01-02T03:04:05.000000006Z ";
    const AT: u64 = 1_767_323_045_000_000_006;

    fn frame(output: u8, text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[output, 0, 0, 0], &length[..], text.as_bytes()].concat()
    }

    fn all(has_terminal: bool, bytes: &[u8], step: usize) -> Vec<Frame> {
        let (mut frames, mut found) = (Frames::new(has_terminal), Vec::new());
        for chunk in bytes.chunks(step) {
            frames.extend(chunk);
            while let Some(frame) = frames.next().unwrap() {
                found.push(frame);
            }
        }
        found.extend(frames.rest().unwrap());
        found
    }

    fn piece(output: OutputStream, text: &str) -> Frame {
        Frame::Piece(Piece { output, at: AT, text: text.to_owned().into() })
    }

    #[test]
    fn frames_are_pieces_wherever_they_are_cut() {
        let bytes = [
            frame(1, &format!("{TIME}out\n")),
            frame(2, &format!("{TIME}err")),
            frame(3, "Error grabbing logs: gone\n"),
        ]
        .concat();
        for step in 1..bytes.len() {
            let expected = [
                piece(OutputStream::Stdout, "out\n"),
                piece(OutputStream::Stderr, "err"),
                Frame::Complaint("Error grabbing logs: gone".to_owned()),
            ];
            assert_eq!(all(false, &bytes, step), expected);
        }
    }

    #[test]
    fn pieces_of_a_terminal_are_told_apart_by_their_time() {
        let other = "2026-01-02T03:04:05.000000007Z ";
        let bytes = format!("{TIME}one\r\n{TIME}two{TIME}{other}three\r\nError: gone\n{TIME}end");
        for step in 1..bytes.len() {
            let expected = [
                piece(OutputStream::Stdout, "one\r\n"),
                piece(OutputStream::Stdout, "two"),
                piece(OutputStream::Stdout, &format!("{other}three\r\n")),
                Frame::Complaint("Error: gone".to_owned()),
                piece(OutputStream::Stdout, "end"),
            ];
            assert_eq!(all(true, bytes.as_bytes(), step), expected, "{step}");
        }
    }

    #[test]
    fn bytes_of_a_terminal_that_look_like_a_frame_are_text() {
        let text = "\u{1}\0\0\0\0\0\0\u{2}ab\n";
        let bytes = format!("{TIME}{text}");
        assert_eq!(all(true, bytes.as_bytes(), 3), [piece(OutputStream::Stdout, text)]);
    }

    #[test]
    fn long_text_of_a_terminal_does_not_wait_for_its_end() {
        let text = "x".repeat(3 * PIECE_LIMIT);
        let bytes = format!("{TIME}{text}\n{TIME}next\n");
        let found = all(true, bytes.as_bytes(), 1000);
        assert!(found.len() > 3);
        let texts: Vec<u8> = found
            .iter()
            .flat_map(|frame| match frame {
                Frame::Piece(Piece { at: AT, text, .. }) => text.to_vec(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(String::from_utf8(texts).unwrap(), format!("{text}\nnext\n"));
    }

    #[test]
    fn frame_that_is_none_is_refused() {
        for bytes in [&[9, 0, 0, 0, 0, 0, 0, 1][..], &[1, 0, 0, 0, 255, 0, 0, 1]] {
            let mut frames = Frames::new(false);
            frames.extend(bytes);
            assert!(matches!(frames.next(), Err(FrameError::Header(..))));
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_taken_or_refused(
            bytes in prop::collection::vec(0..4_u8, 0..100), has_terminal: bool,
        ) {
            let mut frames = Frames::new(has_terminal);
            frames.extend(&bytes);
            while let Ok(Some(_)) = frames.next() {}
        }
    }
}
