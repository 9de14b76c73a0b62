//! Where a message ends in a connection's bytes (pure).
//!
//! A connection that begins with a digit counts octets (RFC 6587, section 3.4.1; RFC 5425); any other ends each
//! message with a line feed, as most senders do. Counts that turn out to be none are lines.
//!
//! Invariant: no byte is in two pieces; what is in none is a line end, a NUL beside one, or a count.

use std::ops::Range;

use memchr::memchr;

use crate::lanes::{LINE_LIMIT, boundary};

/// Digits of a count at most; more than anybody sends.
const COUNT_DIGITS: usize = 9;

/// A message, or a piece of one that is too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where it is.
    pub(crate) at: Range<usize>,
    /// It is the beginning of a message.
    pub(crate) begins: bool,
    /// The message goes on in the next piece.
    pub(crate) continued: bool,
}

/// Tells the messages of one connection apart.
#[derive(Debug, Default)]
pub(crate) struct Framer {
    framing: Framing,
    /// The next piece is not the beginning of a message.
    within: bool,
}

#[derive(Debug, Default, Clone, Copy)]
enum Framing {
    #[default]
    Unknown,
    /// So many bytes have no line feed.
    Lines { looked_at: usize },
    /// So many bytes of a message are to come.
    Counted { rest: usize },
}

/// What a count is.
enum Count {
    /// So many bytes after its own.
    Is(usize, usize),
    Incomplete,
    None,
}

impl Framer {
    /// Appends the pieces that the bytes have, and says how many bytes are done with. The others have to
    /// come first the next time. Of a message that is not complete, at most `longest` bytes remain.
    pub(crate) fn pieces(
        &mut self,
        bytes: &[u8],
        longest: usize,
        pieces: &mut Vec<Piece>,
    ) -> usize {
        let mut at = 0;
        loop {
            let before = at;
            match self.framing {
                Framing::Unknown => {
                    at = skip(bytes, at);
                    match bytes.get(at) {
                        None => return at,
                        Some(b'1'..=b'9') => self.framing = Framing::Counted { rest: 0 },
                        Some(_) => self.framing = Framing::Lines { looked_at: 0 },
                    }
                    continue;
                }
                Framing::Lines { looked_at } => {
                    at = self.line(bytes, at, looked_at, longest, pieces);
                }
                Framing::Counted { rest: 0 } => {
                    at = skip(bytes, at);
                    match count(bytes.get(at..).unwrap_or_default()) {
                        Count::Is(rest, digits) => {
                            at += digits;
                            self.framing = Framing::Counted { rest };
                        }
                        Count::Incomplete => return at,
                        Count::None => {
                            self.framing = Framing::Lines { looked_at: 0 };
                            continue;
                        }
                    }
                }
                Framing::Counted { rest } => at = self.counted(bytes, at, rest, longest, pieces),
            }
            if at == before {
                return at;
            }
        }
    }

    /// The last piece, when no more bytes come after these.
    pub(crate) fn end(&mut self, bytes: &[u8]) -> Option<Piece> {
        let mut pieces = Vec::new();
        self.push(bytes, 0..bytes.len(), false, &mut pieces);
        pieces.pop()
    }

    fn line(
        &mut self,
        bytes: &[u8],
        at: usize,
        looked_at: usize,
        longest: usize,
        pieces: &mut Vec<Piece>,
    ) -> usize {
        let rest = bytes.get(at..).unwrap_or_default();
        let found = memchr(b'\n', rest.get(looked_at..).unwrap_or_default());
        let (end, limit) = match found {
            Some(found) => (looked_at + found, LINE_LIMIT),
            None => (rest.len(), longest.min(LINE_LIMIT)),
        };
        if end > limit {
            let cut = boundary(rest, end.min(LINE_LIMIT).saturating_sub(1).max(1));
            self.push(bytes, at..at + cut, true, pieces);
            self.framing = Framing::Lines { looked_at: end - cut };
            return at + cut;
        }
        if found.is_none() {
            self.framing = Framing::Lines { looked_at: end };
            return at;
        }
        self.push(bytes, at..at + end, false, pieces);
        self.framing = Framing::Lines { looked_at: 0 };
        at + end + 1
    }

    fn counted(
        &mut self,
        bytes: &[u8],
        at: usize,
        rest: usize,
        longest: usize,
        pieces: &mut Vec<Piece>,
    ) -> usize {
        let there = bytes.get(at..).unwrap_or_default();
        let is_complete = there.len() >= rest;
        let (end, limit) =
            if is_complete { (rest, LINE_LIMIT) } else { (there.len(), longest.min(LINE_LIMIT)) };
        if end > limit {
            let cut = boundary(there, end.min(LINE_LIMIT).saturating_sub(1).max(1));
            self.push(bytes, at..at + cut, true, pieces);
            self.framing = Framing::Counted { rest: rest - cut };
            return at + cut;
        }
        if !is_complete {
            return at;
        }
        self.push(bytes, at..at + end, false, pieces);
        self.framing = Framing::Counted { rest: 0 };
        at + end
    }

    fn push(
        &mut self,
        bytes: &[u8],
        mut at: Range<usize>,
        continued: bool,
        pieces: &mut Vec<Piece>,
    ) {
        let begins = !self.within;
        self.within = continued;
        let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
        while !continued && !at.is_empty() && matches!(byte(at.end - 1), b'\n' | b'\r' | 0) {
            at.end -= 1;
        }
        while begins && !at.is_empty() && byte(at.start) == 0 {
            at.start += 1;
        }
        // The empty end of a long message says that it is one.
        if !at.is_empty() || !begins {
            pieces.push(Piece { at, begins, continued });
        }
    }
}

/// Past what stands between messages.
fn skip(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| matches!(byte, b'\n' | b'\r' | 0)).count()
}

fn count(bytes: &[u8]) -> Count {
    let mut count = 0;
    for (&byte, digits) in bytes.iter().zip(0..) {
        match byte {
            b'0'..=b'9' if digits < COUNT_DIGITS && (digits > 0 || byte != b'0') => {
                count = count * 10 + usize::from(byte - b'0');
            }
            b' ' if digits > 0 => return Count::Is(count, digits + 1),
            _ => return Count::None,
        }
    }
    Count::Incomplete
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds the bytes in parts; the messages, put together again.
    fn messages(parts: &[&[u8]], longest: usize) -> Vec<Vec<u8>> {
        let (mut framer, mut buffer) = (Framer::default(), Vec::new());
        let mut messages: Vec<Vec<u8>> = Vec::new();
        let mut take = |buffer: &[u8], pieces: Vec<Piece>| {
            for piece in pieces {
                assert!(piece.at.len() <= LINE_LIMIT);
                if piece.begins {
                    messages.push(Vec::new());
                }
                messages.last_mut().unwrap().extend(&buffer[piece.at]);
            }
        };
        for part in parts {
            buffer.extend_from_slice(part);
            let mut pieces = Vec::new();
            let done = framer.pieces(&buffer, longest, &mut pieces);
            take(&buffer, pieces);
            buffer.drain(..done);
            assert!(buffer.len() <= longest.max(COUNT_DIGITS));
        }
        let last = framer.end(&buffer);
        take(&buffer, last.into_iter().collect());
        messages
    }

    #[test]
    fn trailers_of_real_senders_are_taken_off() {
        let lines = [&b"\n<1>a\r\n<2>b\0\n\n<3>c\n\0<4>d"[..]];
        assert_eq!(messages(&lines, LINE_LIMIT), [b"<1>a", b"<2>b", b"<3>c", b"<4>d"]);
        let counted = [&b"5 <1>a\n\n4 <2>b5 <3>c\0"[..]];
        assert_eq!(messages(&counted, LINE_LIMIT), [b"<1>a", b"<2>b", b"<3>c"]);
    }

    #[test]
    fn a_count_that_is_none_begins_a_line() {
        let dates = [&b"2026-01-02 a\n2026-01-03 b\n"[..]];
        assert_eq!(messages(&dates, LINE_LIMIT), [b"2026-01-02 a", b"2026-01-03 b"]);
        let broken = [&b"2 ab<1>c\n1 d\n"[..]];
        assert_eq!(messages(&broken, LINE_LIMIT), [&b"ab"[..], b"<1>c", b"1 d"]);
        assert_eq!(messages(&[b"1234567890 x\ny"], LINE_LIMIT), [&b"1234567890 x"[..], b"y"]);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let long = "\u{20ac}".repeat(LINE_LIMIT);
        for bytes in [format!("{long}\n<1>x"), format!("{} {long}4 <1>x", long.len())] {
            let parts: Vec<&[u8]> = bytes.as_bytes().chunks(50_000).collect();
            for longest in [LINE_LIMIT, 1000] {
                let (mut framer, mut buffer) = (Framer::default(), Vec::new());
                for part in &parts {
                    buffer.extend_from_slice(part);
                    let mut pieces = Vec::new();
                    let done = framer.pieces(&buffer, longest, &mut pieces);
                    for piece in pieces {
                        assert!(std::str::from_utf8(&buffer[piece.at]).is_ok());
                    }
                    buffer.drain(..done);
                }
                assert_eq!(messages(&parts, longest), [long.as_bytes(), b"<1>x"]);
            }
        }
    }

    proptest! {
        #[test]
        fn messages_come_back_however_the_bytes_are_divided(
            texts in prop::collection::vec("[^\\n\\r\\x00]{1,40}", 1..20),
            counted: bool,
            sizes in prop::collection::vec(1..30_usize, 1..40),
            longest in 4..60_usize,
        ) {
            let texts: Vec<String> = texts.iter().map(|text| format!("<1>{text}")).collect();
            let bytes: String = texts
                .iter()
                .map(|text| if counted { format!("{} {text}", text.len()) } else { format!("{text}\n") })
                .collect();
            let (mut parts, mut rest) = (Vec::new(), bytes.as_bytes());
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (part, after) = rest.split_at((*size).min(rest.len()));
                parts.push(part);
                rest = after;
            }
            let found = messages(&parts, longest);
            prop_assert_eq!(found, texts.iter().map(|t| t.as_bytes().to_vec()).collect::<Vec<_>>());
        }

        #[test]
        fn whatever_the_bytes_no_piece_overlaps_another(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b' '), b'0'..=b'9', any::<u8>()], 0..200),
            longest in 1..50_usize,
        ) {
            let mut pieces = Vec::new();
            let done = Framer::default().pieces(&bytes, longest, &mut pieces);
            let mut before = 0;
            for piece in pieces {
                prop_assert!(piece.at.start >= before && piece.at.end <= done);
                before = piece.at.end;
            }
            prop_assert!(done <= bytes.len());
        }
    }
}
