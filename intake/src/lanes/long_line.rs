//! Lines that are too long for one record (pure).

use model::{Fields, LogLine};

/// A longer line is split.
pub(crate) const LINE_LIMIT: usize = 1 << 20;

/// A line that is too long, in pieces. Only the first has its fields: they may be long, too.
pub(crate) fn split(mut line: LogLine) -> impl Iterator<Item = LogLine> {
    let mut rest = Some(std::mem::take(&mut line.text));
    std::iter::from_fn(move || {
        let mut text = rest.take()?;
        let mut piece = line.clone();
        if text.len() > LINE_LIMIT {
            let end = boundary(&text, LINE_LIMIT);
            piece.text = text.split_to(end);
            piece.continued = true;
            rest = Some(text);
            line.fields = Fields::default();
        } else {
            piece.text = text;
        }
        Some(piece)
    })
}

/// The last place up to `at` that is not within a character of UTF-8.
pub(crate) fn boundary(bytes: &[u8], at: usize) -> usize {
    let is_inner = |at: &usize| bytes.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    (at.saturating_sub(3)..=at).rev().find(|at| !is_inner(at)).unwrap_or(at)
}
