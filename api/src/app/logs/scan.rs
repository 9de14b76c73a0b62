//! Records of some blocks that fit, in either direction. It unpacks, so it runs where that holds nobody up.

use log_stream::{Block, Position};

use super::cursor::Cursor;
use super::filter::Filter;
use super::line::LogLine;

/// What may still be looked at and found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Lines.
    pub(super) lines: usize,
    /// Bytes of lines. One more line is found, whatever its length.
    pub(super) bytes: usize,
    /// Bytes of blocks to unpack. One more is unpacked, whatever its size.
    pub(super) unpacked: usize,
}

impl Room {
    pub(super) const fn is_used_up(&self) -> bool {
        self.lines == 0 || self.bytes == 0 || self.unpacked == 0
    }
}

/// Lines in the order of the search, and where it has got.
pub(super) struct Scanned {
    pub(super) lines: Vec<(Cursor, LogLine)>,
    pub(super) reached: Cursor,
    pub(super) room: Room,
}

/// Looks at blocks, in the order of the search that begins at `from`, until there is no room.
pub(super) fn scan(
    blocks: &[(Position, Block)],
    filter: &Filter,
    from: Cursor,
    backwards: bool,
    mut room: Room,
) -> Scanned {
    let (mut lines, mut reached) = (Vec::new(), from);
    for (position, block) in blocks {
        if room.is_used_up() {
            break;
        }
        room.unpacked = room.unpacked.saturating_sub(block.header().uncompressed_bytes);
        let records = block.records().unwrap_or_else(|error| {
            // What cannot be read does not keep what can be from being seen.
            tracing::error!(%position, "a block of the log stream is left out of what is shown: {error}");
            Vec::new()
        });
        let indices = 0..u32::try_from(records.len()).unwrap_or(u32::MAX);
        let mut numbered: Vec<_> = indices.zip(&records).collect();
        // The search may begin within a block.
        numbered.retain(|(index, _)| from.is_after(*position, *index) == backwards);
        if backwards {
            numbered.reverse();
        }
        let mut is_through = true;
        for (index, record) in numbered {
            if !filter.takes(record) {
                continue;
            }
            if room.lines == 0 || room.bytes == 0 {
                is_through = false;
                break;
            }
            let line = LogLine::from(record);
            room.lines -= 1;
            room.bytes = room.bytes.saturating_sub(line.bytes());
            reached = Cursor::before(*position, if backwards { index } else { index + 1 });
            lines.push((Cursor::before(*position, index + 1), line));
        }
        if is_through {
            reached =
                if backwards { Cursor::before(*position, 0) } else { Cursor::after(*position) };
        }
    }
    Scanned { lines, reached, room }
}
