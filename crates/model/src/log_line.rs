//! A line of an app's or a database's log, and what came with it.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::{OutputStream, Severity, Timestamp};

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogLine {
    /// The text, without a line end; it may have several lines where they belong together.
    pub text: Bytes,
    /// How severe it is, if that was said.
    pub severity: Option<Severity>,
    /// The output it was written to, if that is known.
    pub stream: Option<OutputStream>,
    /// When it was written, by the sender's clock, if that was said.
    pub sent_at: Option<Timestamp>,
    /// It goes on in the producer's next line of the same output.
    pub continued: bool,
    /// What else was said with it.
    pub fields: Fields,
}

impl LogLine {
    /// The field that names a drain by its mark ([`Id::hop`](crate::Id::hop)) which has delivered the line before it
    /// came in: that drain does not deliver it again.
    pub const LOOPED: &str = "spillway.looped";

    /// A line of which nothing is known but the text.
    #[must_use]
    pub fn plain(text: impl Into<Bytes>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// Whether nothing is known but the text.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.severity.is_none()
            && self.stream.is_none()
            && self.sent_at.is_none()
            && !self.continued
            && self.fields.is_empty()
    }
}

/// Names with values, packed: a line has many or none, and mostly they are only passed on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fields(Bytes);

/// Bytes are not packed fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the fields are cut off or not UTF-8")]
pub struct InvalidFields;

impl Fields {
    /// Names longer than this are cut.
    pub const LONGEST_NAME: usize = 255;

    /// Checks what was packed elsewhere.
    pub fn parse(packed: Bytes) -> Result<Self, InvalidFields> {
        let mut rest: &[u8] = &packed;
        while !rest.is_empty() {
            let (_, _, after) = split(rest).ok_or(InvalidFields)?;
            rest = after;
        }
        Ok(Self(packed))
    }

    /// As they are kept.
    #[must_use]
    pub const fn packed(&self) -> &Bytes {
        &self.0
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same in memory of their own.
    #[must_use]
    pub fn copied(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// Each name with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let (name, value, after) = split(rest)?;
            rest = after;
            Some((name, value))
        })
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Fields {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let mut packer = FieldsPacker::default();
        for (name, value) in fields {
            packer.push(name.as_ref(), value.as_ref());
        }
        packer.take()
    }
}

/// Packs the fields of one line after the other, into an allocation that many share.
#[derive(Debug, Default)]
pub struct FieldsPacker(BytesMut);

impl FieldsPacker {
    /// With room for so many bytes of fields, and as much again whenever that is used up.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self(BytesMut::with_capacity(bytes))
    }

    /// Adds a field of the line.
    pub fn push(&mut self, name: &str, value: &str) {
        let name = name.get(..name.floor_char_boundary(Fields::LONGEST_NAME)).unwrap_or(name);
        // A value that does not fit would be longer than any request.
        let Ok(length) = u32::try_from(value.len()) else { return };
        self.0.reserve(name.len() + value.len() + 5);
        self.0.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        self.0.put_slice(name.as_bytes());
        self.0.put_u32_le(length);
        self.0.put_slice(value.as_bytes());
    }

    /// The bytes that the line's fields have so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the line has no fields so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The line's fields; the next ones are another line's.
    pub fn take(&mut self) -> Fields {
        Fields(self.0.split().freeze())
    }
}

/// The first name, its value, and what follows.
fn split(packed: &[u8]) -> Option<(&str, &str, &[u8])> {
    let (&length, rest) = packed.split_first()?;
    let (name, rest) = rest.split_at_checked(length.into())?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (value, rest) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn fields_come_back_as_they_were(
            fields in prop::collection::vec((".{0,60}", ".{0,60}"), 0..5),
        ) {
            let packed: Fields = fields.iter().map(|(name, value)| (name, value)).collect();
            let parsed = Fields::parse(packed.packed().clone()).unwrap();
            let found: Vec<_> =
                parsed.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            prop_assert_eq!(found, fields);
        }

        #[test]
        fn lines_that_are_packed_together_have_their_own_fields(
            lines in prop::collection::vec(
                prop::collection::vec((".{0,20}", ".{0,20}"), 0..4), 0..20),
        ) {
            let mut packer = FieldsPacker::with_capacity(64);
            let packed: Vec<Fields> = lines
                .iter()
                .map(|line| {
                    for (name, value) in line {
                        packer.push(name, value);
                    }
                    packer.take()
                })
                .collect();
            for (line, fields) in lines.iter().zip(packed) {
                prop_assert_eq!(fields, line.iter().map(|(n, v)| (n, v)).collect::<Fields>());
            }
        }

        #[test]
        fn whatever_the_bytes_they_are_refused_or_read(
            bytes in prop::collection::vec(0..6_u8, 0..40),
        ) {
            if let Ok(fields) = Fields::parse(bytes.clone().into()) {
                let again: Fields = fields.iter().collect();
                prop_assert_eq!(&again.packed()[..], &bytes[..]);
            }
        }
    }
}
