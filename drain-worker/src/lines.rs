//! Bytes to lines (pure).
//!
//! Terminals print bytes, endpoints want lines. A line ends at LF (CR LF, too), at the length
//! limit, at a pause or at the session's end. A lone CR redraws a line.
//!
//! Invariants: pieces follow each other without a gap, so concatenated they are the input; and
//! where a piece ends depends on the bytes alone, never on how they were cut into records. (Pauses
//! and ends stand in the stream: at them the caller calls [`Cutter::take`].)

use memchr::{memchr, memchr2};
use serde::Deserialize;

mod clean;
mod records;
mod shape;

pub(crate) use clean::ControlSequences;
pub(crate) use records::{Assembler, Channel, Checkpoint, Line, Span, Wanted};
pub(crate) use shape::{Extras, Said, Shaper};

/// What becomes of a line that is redrawn by lone CRs, such as a progress bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Redraws {
    /// Every redraw is a line.
    Keep,
    /// Only what stands at the line's end.
    Last,
}

/// How bytes are cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cuts {
    /// A line without an end is delivered in pieces of about this many bytes.
    pub(crate) limit: usize,
    /// What a lone CR does.
    pub(crate) redraws: Redraws,
}

/// Where a piece ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Bytes in the piece, its line end included.
    pub(crate) length: usize,
    /// The line goes on in the next piece.
    pub(crate) continued: bool,
}

/// A sequence that is cut in two reads as rubbish in both pieces, so the limit cuts before it; but
/// a longer one is no terminal's, and must not make pieces arbitrarily small.
const LONGEST_UNSPLIT: usize = 256;

/// The bytes of one stream that are not a piece yet.
#[derive(Debug, Default)]
pub(crate) struct Cutter {
    pending: Vec<u8>,
    searched: usize,
}

impl Cutter {
    pub(crate) const fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Adds bytes; gives each piece that they complete to `emit`.
    pub(crate) fn push(&mut self, bytes: &[u8], cuts: Cuts, mut emit: impl FnMut(&[u8], Cut)) {
        if self.pending.is_empty() {
            // Whole lines, the usual case, are not copied.
            let rest = cut_all(bytes, 0, cuts, &mut emit);
            self.pending.extend_from_slice(rest);
        } else {
            self.pending.extend_from_slice(bytes);
            let rest = cut_all(&self.pending, self.searched, cuts, &mut emit).len();
            let done = self.pending.len() - rest;
            self.pending.drain(..done);
        }
        self.searched = self.pending.len();
    }

    /// The bytes that are left, as a piece: after a pause or at the end.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.searched = 0;
        std::mem::take(&mut self.pending)
    }
}

fn cut_all<'a>(
    bytes: &'a [u8],
    mut searched: usize,
    cuts: Cuts,
    emit: &mut impl FnMut(&[u8], Cut),
) -> &'a [u8] {
    let mut rest = bytes;
    while let Some(cut) = next_cut(rest, searched, cuts) {
        let (piece, after) = rest.split_at(cut.length);
        emit(piece, cut);
        rest = after;
        searched = 0;
    }
    rest
}

/// Where the first piece of `bytes` ends, if its end is there; nothing was found in the first
/// `searched` bytes before.
fn next_cut(bytes: &[u8], searched: usize, cuts: Cuts) -> Option<Cut> {
    let line_end = |length| Some(Cut { length, continued: false });
    // The line end itself may stand just past the limit.
    let head = bytes.get(..=cuts.limit).unwrap_or(bytes);
    match cuts.redraws {
        Redraws::Last => {
            if let Some(at) = memchr(b'\n', head.get(searched..)?) {
                return line_end(searched + at + 1);
            }
        }
        Redraws::Keep => {
            // A CR at the end of what was searched may be a lone one by now.
            let mut from = searched.saturating_sub(1);
            // The usual line has no CR but in its end.
            let rest = head.get(from..)?;
            if let Some(at) = memchr(b'\n', rest) {
                let line = rest.get(..at).unwrap_or_default();
                if memchr(b'\r', line.strip_suffix(b"\r").unwrap_or(line)).is_none() {
                    return line_end(from + at + 1);
                }
            }
            while let Some(at) = memchr2(b'\r', b'\n', head.get(from..)?) {
                let at = from + at;
                if head.get(at) == Some(&b'\n') {
                    return line_end(at + 1);
                }
                match bytes.get(at + 1) {
                    // What follows the last byte within the limit is known when the limit cuts.
                    None => break,
                    Some(_) if at >= cuts.limit => break,
                    Some(b'\r' | b'\n') => {}
                    // CRs that begin a piece belong to the redraw that follows them.
                    Some(_) if head.iter().take(at).all(|&byte| byte == b'\r') => {}
                    Some(_) => return line_end(at + 1),
                }
                from = at + 1;
            }
        }
    }
    (bytes.len() > cuts.limit).then(|| limit_cut(bytes.get(..cuts.limit).unwrap_or(bytes), cuts))
}

/// Where to end a piece that has no line end: after a redraw, or else not within a character or
/// a control sequence.
fn limit_cut(piece: &[u8], cuts: Cuts) -> Cut {
    if cuts.redraws == Redraws::Last
        && let Some(at) = memchr::memrchr(b'\r', piece)
        && piece.iter().take(at).any(|&byte| byte != b'\r')
    {
        return Cut { length: at + 1, continued: false };
    }
    let tail_start = piece.len().saturating_sub(LONGEST_UNSPLIT);
    let tail = piece.get(tail_start..).unwrap_or_default();
    let cut = clean::unfinished(tail).map_or(piece.len(), |at| tail_start + at);
    Cut { length: if cut == 0 { piece.len() } else { cut }, continued: true }
}

/// Divides what is one line, whatever is in it, at the limit; says of each piece whether it goes on.
fn pieces(mut rest: &[u8], limit: usize) -> impl Iterator<Item = (&[u8], bool)> {
    let cuts = Cuts { limit, redraws: Redraws::Keep };
    let mut is_done = false;
    std::iter::from_fn(move || {
        if is_done {
            return None;
        }
        let Some(head) = rest.get(..limit).filter(|head| head.len() < rest.len()) else {
            is_done = true;
            return Some((rest, false));
        };
        let (piece, after) = rest.split_at(limit_cut(head, cuts).length);
        rest = after;
        Some((piece, true))
    })
}

/// What a piece says: without its line end and without the CRs of redraws; of several redraws, the
/// last that is not empty.
fn text(piece: &[u8]) -> &[u8] {
    let piece = piece.strip_suffix(b"\n").unwrap_or(piece);
    let piece = piece.strip_suffix(b"\r").unwrap_or(piece);
    if memchr(b'\r', piece).is_none() {
        return piece;
    }
    piece.rsplit(|&byte| byte == b'\r').find(|part| !part.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(chunks: &[&[u8]], cuts: Cuts) -> Vec<(Vec<u8>, bool)> {
        let mut cutter = Cutter::default();
        let mut pieces = Vec::new();
        for chunk in chunks {
            cutter.push(chunk, cuts, |piece, cut| pieces.push((piece.to_vec(), cut.continued)));
        }
        let rest = cutter.take();
        if !rest.is_empty() {
            pieces.push((rest, false));
        }
        pieces
    }

    fn texts(input: &str, redraws: Redraws) -> Vec<String> {
        pieces(&[input.as_bytes()], Cuts { limit: 64, redraws })
            .iter()
            .map(|(piece, _)| String::from_utf8_lossy(text(piece)).into_owned())
            .collect()
    }

    #[test]
    fn lines_end_at_lf_and_cr_lf_and_empty_lines_count() {
        assert_eq!(texts("a\n\r\n\nb\r\nc\r\r\nd", Redraws::Keep), ["a", "", "", "b", "c", "d"]);
        assert_eq!(texts("a\n\r\n\nb\r\nc\r\r\nd", Redraws::Last), ["a", "", "", "b", "c", "d"]);
    }

    #[test]
    fn a_lone_cr_redraws() {
        for bar in ["1%\r2%\r3%\n", "\r1%\r2%\r3%\n", "1%\r2%\r3%\r\n"] {
            assert_eq!(texts(bar, Redraws::Keep), ["1%", "2%", "3%"], "{bar:?}");
            assert_eq!(texts(bar, Redraws::Last), ["3%"], "{bar:?}");
        }
    }

    #[test]
    fn the_limit_cuts_neither_characters_nor_control_sequences() {
        let cuts = Cuts { limit: 8, redraws: Redraws::Keep };
        let cut = |input: &str| pieces(&[input.as_bytes()], cuts)[0].0.clone();
        assert_eq!(cut("1234567\u{20ac}89"), b"1234567");
        assert_eq!(cut("12345\x1b[31mred"), b"12345");
        assert_eq!(cut("123456789"), b"12345678");
        assert_eq!(cut("12345678\n9"), b"12345678\n");
        assert_eq!(cut("12345678\r9"), b"12345678");
    }

    fn terminal_bytes() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            4 => "[a-z ]{0,6}".prop_map(String::into_bytes),
            2 => Just(b"\n".to_vec()),
            2 => Just(b"\r\n".to_vec()),
            2 => Just(b"\r".to_vec()),
            1 => Just("\u{20ac}\u{1f600}".as_bytes().to_vec()),
            1 => Just(b"\x1b[1;31m".to_vec()),
            1 => Just(b"\x1b]0;title\x07".to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..4),
        ];
        proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn pieces_are_the_input_however_it_arrives(
            input in terminal_bytes(),
            splits in proptest::collection::vec(0usize..200, 0..20),
            limit in 1usize..40,
            last in any::<bool>(),
        ) {
            let redraws = if last { Redraws::Last } else { Redraws::Keep };
            let cuts = Cuts { limit, redraws };
            let mut splits: Vec<usize> = splits.iter().map(|at| at % (input.len() + 1)).collect();
            splits.extend([0, input.len()]);
            splits.sort_unstable();
            let chunks: Vec<&[u8]> = splits.windows(2).map(|at| &input[at[0]..at[1]]).collect();

            let whole = pieces(&[&input], cuts);
            prop_assert_eq!(&pieces(&chunks, cuts), &whole);
            let single: Vec<&[u8]> = input.chunks(1).collect();
            prop_assert_eq!(&pieces(&single, cuts), &whole);
            let joined: Vec<u8> = whole.iter().flat_map(|(piece, _)| piece.clone()).collect();
            prop_assert_eq!(joined, input);
            prop_assert!(whole.iter().all(|(piece, _)| !piece.is_empty() && piece.len() <= limit + 1));
        }
    }
}
