//! Protobuf, field by field (pure; protobuf.dev, "Encoding").
//!
//! A message with millions of tiny parts would be many times its size once it is decoded: here its parts are looked at
//! one after the other, and nothing is built of them.

use bytes::Bytes;

/// What has been sent is no protobuf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not protobuf")]
pub(super) struct NotProtobuf;

/// A field's value, as far as anybody here wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// A varint.
    Number(u64),
    /// A string, bytes or a message.
    Bytes(Bytes),
    /// Something of a fixed length.
    Other,
}

/// The fields of a message that are not read yet.
#[derive(Debug, Clone)]
pub(super) struct Message(Bytes);

impl Message {
    pub(super) const fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The next field's number and value.
    fn next(&mut self) -> Result<Option<(u64, Value)>, NotProtobuf> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.skip(8)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| NotProtobuf)?;
                Value::Bytes(self.split(length)?)
            }
            5 => self.skip(4)?,
            // Groups, which nothing here has.
            _ => return Err(NotProtobuf),
        };
        Ok(Some((key >> 3, value)))
    }

    /// Calls a function with each field.
    pub(super) fn each<E: From<NotProtobuf>>(
        mut self,
        mut each: impl FnMut(u64, Value) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some((number, value)) = self.next()? {
            each(number, value)?;
        }
        Ok(())
    }

    /// The last value of a field that is bytes.
    pub(super) fn last(self, wanted: u64) -> Result<Option<Bytes>, NotProtobuf> {
        let mut last = None;
        self.each(|number, value| {
            if let Value::Bytes(bytes) = value
                && number == wanted
            {
                last = Some(bytes);
            }
            Ok::<_, NotProtobuf>(())
        })?;
        Ok(last)
    }

    fn varint(&mut self) -> Result<u64, NotProtobuf> {
        let mut number = 0;
        for (at, &byte) in self.0.iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.split(at + 1)?;
                return Ok(number);
            }
        }
        Err(NotProtobuf)
    }

    fn skip(&mut self, length: usize) -> Result<Value, NotProtobuf> {
        self.split(length).map(|_| Value::Other)
    }

    fn split(&mut self, length: usize) -> Result<Bytes, NotProtobuf> {
        if length > self.0.len() { Err(NotProtobuf) } else { Ok(self.0.split_to(length)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    #[derive(Clone, PartialEq, prost::Message)]
    struct Sample {
        #[prost(uint64, tag = "1")]
        number: u64,
        #[prost(fixed64, tag = "2")]
        fixed: u64,
        #[prost(bytes = "vec", repeated, tag = "300")]
        parts: Vec<Vec<u8>>,
    }

    fn read(bytes: Vec<u8>) -> Result<Vec<(u64, Value)>, NotProtobuf> {
        let mut found = Vec::new();
        Message::new(bytes.into()).each(|number, value| {
            found.push((number, value));
            Ok::<_, NotProtobuf>(())
        })?;
        Ok(found)
    }

    proptest! {
        #[test]
        fn what_prost_writes_is_read(
            number in 1_u64..,
            fixed in 1_u64..,
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..4),
        ) {
            let sample = Sample { number, fixed, parts: parts.clone() };
            let mut wanted = vec![(1, Value::Number(number)), (2, Value::Other)];
            wanted.extend(parts.into_iter().map(|part| (300, Value::Bytes(part.into()))));
            prop_assert_eq!(read(sample.encode_to_vec()), Ok(wanted));
        }

        #[test]
        fn whatever_the_bytes_they_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            drop(read(bytes));
        }
    }
}
