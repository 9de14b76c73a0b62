//! The frames on their way to the edge, in one buffer of fixed size.
//!
//! A program's output is read to the place from which it is sent: there is no copy between.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

use guest_protocol::{
    EncodeError, FromGuest, HEADER_LENGTH, MAX_OUTPUT, Output, encode_guest, output_header,
};
use rustix::io::Errno;

/// A full output frame.
const CAPACITY: usize = HEADER_LENGTH + MAX_OUTPUT;

/// What reading a program's output came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// This many bytes, more than none.
    Bytes(usize),
    /// There are none right now.
    Nothing,
    /// There will be none.
    End,
}

#[derive(Debug)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    /// What the connection has not taken yet; 0..0 if there is nothing.
    waiting: Range<usize>,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self { bytes: vec![0; CAPACITY], waiting: 0..0 }
    }
}

impl Outgoing {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Puts a control frame behind the others.
    pub(crate) fn put(&mut self, frame: &FromGuest) -> Result<(), EncodeError> {
        let mut encoded = Vec::new();
        encode_guest(frame, &mut encoded)?;
        let end = self.waiting.end + encoded.len();
        let place = self.bytes.get_mut(self.waiting.end..end).ok_or(EncodeError::TooLong {
            length: encoded.len(),
            limit: CAPACITY - self.waiting.end,
        })?;
        place.copy_from_slice(&encoded);
        self.waiting.end = end;
        Ok(())
    }

    /// Reads all there is now, up to [`MAX_OUTPUT`], as one frame. A terminal gives at most a page
    /// at a time and small writes come one by one, so it asks until there is nothing.
    pub(crate) fn put_output(&mut self, output: Output, source: BorrowedFd<'_>) -> Taken {
        let start = self.waiting.end;
        let Some((header, body)) =
            self.bytes.get_mut(start..).and_then(|room| room.split_at_mut_checked(HEADER_LENGTH))
        else {
            return Taken::Nothing;
        };
        let mut length = 0;
        let mut end = Taken::Nothing;
        while let Some(room) = body.get_mut(length..MAX_OUTPUT).filter(|room| !room.is_empty()) {
            match rustix::io::read(source, room) {
                Ok(0) => end = Taken::End,
                Ok(read) => {
                    length += read;
                    continue;
                }
                Err(Errno::AGAIN) => {}
                Err(Errno::INTR) => continue,
                // A terminal that no process has open any more answers EIO.
                Err(_) => end = Taken::End,
            }
            break;
        }
        match u32::try_from(length) {
            Ok(announced) if announced > 0 => {
                header.copy_from_slice(&output_header(output, announced));
                self.waiting.end = start + HEADER_LENGTH + length;
                Taken::Bytes(length)
            }
            _ => end,
        }
    }

    /// Writes until everything is written or, on a nonblocking socket, it takes no more.
    pub(crate) fn flush(&mut self, socket: &UnixStream) -> io::Result<()> {
        while let Some(bytes) = self.bytes.get(self.waiting.clone()).filter(|some| !some.is_empty())
        {
            match rustix::io::write(socket, bytes) {
                Ok(written) => self.waiting.start += written,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.waiting = 0..0;
        Ok(())
    }
}
