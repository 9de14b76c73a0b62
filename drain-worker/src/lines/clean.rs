//! Control sequences: what a terminal obeys and does not show (ECMA-48, xterm's ctlseqs).
//!
//! Invariant: only whole sequences within one piece are taken out. The text after an introducer
//! that never ends stays readable, so nobody hides a line behind one.

use std::borrow::Cow;

use serde::Deserialize;

/// What becomes of control sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ControlSequences {
    /// Delivered as they are.
    Keep,
    /// Taken out: CSI, OSC, DCS, SOS, PM, APC, two-byte escapes, C0 but TAB and LF, DEL, C1.
    Strip,
}

impl ControlSequences {
    /// The text as the option wants it.
    pub(crate) fn apply(self, text: &[u8]) -> Cow<'_, [u8]> {
        if self == Self::Keep || is_plain(text) { Cow::Borrowed(text) } else { strip(text).into() }
    }
}

/// Whether there is surely no control in the text. Whole runs of bytes are looked at without a stop
/// in between, which the compiler does many bytes at a time.
fn is_plain(text: &[u8]) -> bool {
    let odd = |byte: u8| matches!(byte, 0..0x20 | 0x7f | 0xc2) && !matches!(byte, b'\t' | b'\n');
    let any = |run: &[u8]| run.iter().fold(false, |any, &byte| any | odd(byte));
    let (runs, rest) = text.as_chunks::<32>();
    !runs.iter().any(|run| any(run)) && !any(rest)
}

/// What begins at a place in the text.
enum Token {
    /// A byte to show.
    Text,
    /// A control of this many bytes.
    Control(usize),
    /// The beginning of a control whose rest has not come, with the length of its introducer.
    Unfinished(usize),
}

fn strip(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(&byte) = rest.first() {
        let skip = match token(rest) {
            Token::Text => {
                out.push(byte);
                1
            }
            Token::Control(length) | Token::Unfinished(length) => length,
        };
        rest = rest.get(skip..).unwrap_or_default();
    }
    out
}

/// Where an unfinished control sequence or UTF-8 character at the end of `text` begins.
pub(super) fn unfinished(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        match token(rest) {
            Token::Text => at += 1,
            Token::Control(length) => at += length,
            Token::Unfinished(_) => return Some(at),
        }
    }
    let start = text.len().saturating_sub(3);
    (start..text.len()).find(|&at| {
        let tail = text.get(at..).unwrap_or_default();
        let leads = tail.first().is_some_and(|&byte| byte >= 0xc2);
        leads
            && std::str::from_utf8(tail)
                .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    })
}

const fn is_c0(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t' && byte != b'\n') || byte == 0x7f
}

fn token(text: &[u8]) -> Token {
    match *text {
        [0x1b] => Token::Unfinished(1),
        [0x1b, kind @ (b'[' | b']' | b'P' | b'X' | b'^' | b'_'), ..] => sequence(text, kind, 2, 1),
        [0x1b, ..] => escape(text),
        // C1 as UTF-8: each stands for ESC and the byte 0x40 lower.
        [0xc2, c1 @ 0x80..=0x9f, ..] => match c1 - 0x40 {
            kind @ (b'[' | b']' | b'P' | b'X' | b'^' | b'_') => sequence(text, kind, 2, 2),
            _ => Token::Control(2),
        },
        [byte, ..] if is_c0(byte) => Token::Control(1),
        _ => Token::Text,
    }
}

/// ESC, intermediates, a final byte; an ESC that begins nothing is dropped alone.
fn escape(text: &[u8]) -> Token {
    let mut length = 1;
    loop {
        match text.get(length) {
            Some(0x20..=0x2f) => length += 1,
            Some(0x30..=0x7e) => return Token::Control(length + 1),
            Some(_) => return Token::Control(1),
            None => return Token::Unfinished(1),
        }
    }
}

/// The sequence of `kind` whose introducer has `introducer` bytes, of which `drop` go if it never
/// ends. It looks no further than the next introducer, so a row of them costs no more than its
/// length.
fn sequence(text: &[u8], kind: u8, introducer: usize, drop: usize) -> Token {
    let mut at = introducer;
    while let Some(&byte) = text.get(at) {
        if kind == b'[' {
            match byte {
                0x20..=0x3f => at += 1,
                0x40..=0x7e => return Token::Control(at + 1),
                _ => return Token::Control(drop),
            }
            continue;
        }
        match (byte, text.get(at + 1)) {
            (0x07, _) if kind == b']' => return Token::Control(at + 1),
            (0x1b, Some(b'\\')) | (0xc2, Some(0x9c)) => return Token::Control(at + 2),
            (0x1b | 0xc2, None) => return Token::Unfinished(drop),
            (0x1b | 0x18 | 0x1a, _) | (0xc2, Some(0x80..=0x9f)) => return Token::Control(drop),
            _ => at += 1,
        }
    }
    Token::Unfinished(drop)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stripped(text: &str) -> String {
        String::from_utf8_lossy(&ControlSequences::Strip.apply(text.as_bytes())).into_owned()
    }

    #[test]
    fn whole_sequences_go_and_text_stays() {
        for (raw, text) in [
            ("\x1b[1;31mred\x1b[0m", "red"),
            ("\x1b]0;title\x07a", "a"),
            ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("\x1bP1$r0m\x1b\\a\x1b_apc\x1b\\b\x1b^pm\x1b\\c\x1bXsos\x1b\\d", "abcd"),
            ("\x1b(B\x1b=\x1b7a\x1b#8b", "ab"),
            ("a\x08\x07\x00\x7fb\tc", "ab\tc"),
            ("\u{9b}31mred\u{9d}0;t\u{9c}!\u{85}", "red!"),
            ("\u{a9} \u{20ac}", "\u{a9} \u{20ac}"),
        ] {
            assert_eq!(stripped(raw), text, "{raw:?}");
        }
    }

    #[test]
    fn nothing_hides_behind_an_introducer_without_an_end() {
        assert_eq!(stripped("\x1b]0;rm -rf /"), "]0;rm -rf /");
        assert_eq!(stripped("\x1bPhidden"), "Phidden");
        assert_eq!(stripped("\x1b[12"), "[12");
        assert_eq!(stripped("\x1b]a\x1b[1mb"), "]ab");
    }

    #[test]
    fn kept_text_is_untouched() {
        let raw = b"\x1b[1m\xff\x00";
        assert_eq!(&*ControlSequences::Keep.apply(raw), raw);
    }

    #[test]
    fn unfinished_tails_are_found() {
        assert_eq!(unfinished(b"ab\x1b[3"), Some(2));
        assert_eq!(unfinished(b"ab\xe2\x82"), Some(2));
        assert_eq!(unfinished(b"ab\xc2"), Some(2));
        assert_eq!(unfinished(b"ab\xff"), None);
        assert_eq!(unfinished("ab\u{20ac}".as_bytes()), None);
        assert_eq!(unfinished(b"ab\x1b[31m"), None);
    }

    proptest! {
        #[test]
        fn stripping_leaves_no_control_and_invents_nothing(
            text in proptest::collection::vec(
                prop_oneof![Just(0x1b_u8), Just(b'['), Just(b']'), Just(0xc2), Just(0x9b), any::<u8>()],
                0..200,
            )
        ) {
            let out = ControlSequences::Strip.apply(&text).into_owned();
            prop_assert!(!out.iter().any(|&byte| is_c0(byte)));
            let mut from = text.iter();
            prop_assert!(out.iter().all(|byte| from.any(|other| other == byte)));
        }
    }
}
