//! Counts the TLS records in which data comes (RFC 8446, section 5.1: type, version, length, content).

use std::io::{Read, Result, Write};
use std::net::TcpStream;

const HEADER: usize = 5;
const APPLICATION_DATA: u8 = 23;

/// A socket whose records are counted as they are read.
pub(super) struct CountedRecords {
    pub(super) socket: TcpStream,
    pub(super) records: Records,
}

/// Those that have begun.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) count: u64,
    header: [u8; HEADER],
    /// Of the header that is being read, so many bytes have come.
    begun: usize,
    /// Bytes that are to come of the record that is being read.
    left: usize,
}

impl CountedRecords {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { socket, records: Records::default() }
    }
}

impl Records {
    fn note(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            if let Some(place) = self.header.get_mut(self.begun) {
                *place = first;
            }
            self.begun += 1;
            bytes = rest;
            if self.begun == HEADER {
                let [kind, _, _, high, low] = self.header;
                self.count += u64::from(kind == APPLICATION_DATA);
                (self.begun, self.left) = (0, usize::from(u16::from_be_bytes([high, low])));
            }
        }
    }
}

impl Read for CountedRecords {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.socket.read(buffer)?;
        self.records.note(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

impl Write for CountedRecords {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        self.socket.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_however_they_come() {
        let record = |kind: u8, length: u16| {
            let mut bytes = vec![kind, 3, 3];
            bytes.extend(length.to_be_bytes());
            bytes.resize(HEADER + usize::from(length), kind);
            bytes
        };
        let stream = [record(22, 300), record(23, 0), record(23, 17), record(21, 2), record(23, 9)];
        let stream = stream.concat();
        for size in 1..stream.len() {
            let mut records = Records::default();
            stream.chunks(size).for_each(|piece| records.note(piece));
            assert_eq!((records.count, records.begun, records.left), (3, 0, 0));
        }
    }
}
