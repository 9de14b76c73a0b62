//! Where a page of logs ends and another begins.
//!
//! A cursor is a gap between two records: what is before it and what is after it together are all, whatever was
//! appended since. To callers it is opaque.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use log_stream::{Extent, Position};

/// The gap in front of the record `index` of the block at `position`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cursor {
    position: Position,
    index: u32,
}

impl Cursor {
    /// In front of a record.
    pub(super) const fn before(position: Position, index: u32) -> Self {
        Self { position, index }
    }

    /// After a block.
    pub(super) const fn after(position: Position) -> Self {
        Self { position, index: u32::MAX }
    }

    /// The same within what there is.
    pub(super) fn within(self, extent: &Extent) -> Self {
        self.clamp(Self::after(extent.after), Self::after(extent.end))
    }

    /// Blocks after this are after the gap, but for the first records of one.
    pub(super) const fn blocks_after(self) -> Position {
        if self.index == u32::MAX { self.position } else { just_before(self.position) }
    }

    /// Blocks at or before this are before the gap, but for the last records of one.
    pub(super) const fn blocks_end(self) -> Position {
        if self.index == 0 { just_before(self.position) } else { self.position }
    }

    /// Whether a record is before the gap.
    pub(super) fn is_after(self, position: Position, index: u32) -> bool {
        Self { position, index } < self
    }

    /// As callers see it.
    pub(crate) fn encode(self) -> String {
        let mut bytes = Vec::with_capacity(20);
        bytes.extend(self.position.xid.to_be_bytes());
        bytes.extend(self.position.seq.to_be_bytes());
        bytes.extend(self.index.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads what [`Self::encode`] wrote.
    pub(crate) fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (xid, rest) = bytes.split_first_chunk()?;
        let (seq, rest) = rest.split_first_chunk()?;
        let index = u32::from_be_bytes(rest.try_into().ok()?);
        let position = Position { xid: u64::from_be_bytes(*xid), seq: u64::from_be_bytes(*seq) };
        Some(Self { position, index })
    }
}

// Numbers of blocks begin with 1, so none is left out.
const fn just_before(position: Position) -> Position {
    Position { xid: position.xid, seq: position.seq.saturating_sub(1) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn cursors_come_back_as_they_were(xid: u64, seq: u64, index: u32) {
            let cursor = Cursor::before(Position { xid, seq }, index);
            prop_assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        }

        #[test]
        fn any_text_is_a_cursor_or_none(text in ".{0,40}") {
            if let Some(cursor) = Cursor::decode(&text) {
                prop_assert_eq!(cursor.encode(), text);
            }
        }
    }

    #[test]
    fn every_record_is_on_one_side() {
        let position = Position { xid: 7, seq: 3 };
        let earlier = Position { xid: 7, seq: 2 };
        for cursor in [0, 1, 5, u32::MAX].map(|index| Cursor::before(position, index)) {
            assert!(cursor.is_after(earlier, 9));
            assert_eq!(cursor.is_after(position, 4), cursor.index > 4);
            assert!(!cursor.is_after(Position { xid: 8, seq: 1 }, 0));
            // Its block is looked at from the side on which it has records.
            assert_eq!(cursor.blocks_after() < position, cursor.index < u32::MAX);
            assert_eq!(cursor.blocks_end() >= position, cursor.index > 0);
        }
    }
}
