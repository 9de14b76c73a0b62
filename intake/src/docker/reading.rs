//! One answer with a container's log, and the lines of it that are not in the stream yet (pure).

use model::{Fields, LogLine};
use tokio::sync::OwnedSemaphorePermit;

use super::daemon::Container;
use super::frames::{Frame, FrameError, Frames};
use super::lines::Lines;
use super::position::Position;

/// What goes into one block, about.
const BATCH_BYTES: usize = 512 << 10;
const BATCH_LINES: usize = 4096;
/// Characters of a container's id that people see.
const SHORT_ID: usize = 12;

/// An answer of Docker's, and the lines of it that are not in the stream yet.
pub(super) struct Reading {
    frames: Frames,
    /// What is not complete yet.
    pub(super) lines: Lines,
    /// Lines that are to be appended.
    pub(super) ready: Vec<LogLine>,
    /// Bytes that were read since lines were appended.
    pub(super) ready_bytes: usize,
    /// While there are such.
    pub(super) buffer: Option<OwnedSemaphorePermit>,
    /// No piece has come yet.
    pub(super) is_empty: bool,
    /// What Docker said of its own.
    pub(super) complaint: Option<String>,
    /// Pieces from this time on are of a later run of the container.
    until: Option<u64>,
}

impl Reading {
    /// From a position on, up to the time `until`.
    pub(super) fn new(
        position: &Position,
        container: &Container,
        engine: Option<&str>,
        until: Option<u64>,
    ) -> Self {
        let Container { id, name, image, has_terminal, .. } = container;
        let id = id.get(..SHORT_ID).unwrap_or(id);
        let fields: Fields = [("container_id", id), ("container_name", name), ("image", image)]
            .into_iter()
            .collect();
        Self {
            frames: Frames::new(*has_terminal),
            lines: Lines::new(position, engine, fields),
            ready: Vec::new(),
            ready_bytes: 0,
            buffer: None,
            is_empty: true,
            complaint: None,
            until,
        }
    }

    /// Takes bytes of the answer.
    pub(super) fn take(&mut self, chunk: &[u8]) -> Result<(), FrameError> {
        self.frames.extend(chunk);
        while let Some(frame) = self.frames.next()? {
            self.frame(frame);
        }
        Ok(())
    }

    /// The answer has ended.
    pub(super) fn rest(&mut self) -> Result<(), FrameError> {
        if let Some(frame) = self.frames.rest()? {
            self.frame(frame);
        }
        Ok(())
    }

    fn frame(&mut self, frame: Frame) {
        self.is_empty &= !matches!(frame, Frame::Piece(_));
        match frame {
            Frame::Complaint(complaint) => self.complaint = Some(complaint),
            Frame::Piece(piece) if self.until.is_some_and(|until| piece.at >= until) => {}
            Frame::Piece(piece) => {
                self.ready_bytes += piece.text.len();
                self.lines.push(piece, &mut self.ready);
            }
        }
    }

    /// Whether a block is full.
    pub(super) fn is_full(&self) -> bool {
        self.ready_bytes >= BATCH_BYTES || self.ready.len() >= BATCH_LINES
    }
}
