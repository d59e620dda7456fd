//! Protobuf fields by number, for the few messages that containerd-shim-protos 0.12 lacks.

use protobuf::rt::WireType;
use protobuf::{CodedInputStream, CodedOutputStream, Message};

/// One field of a message that we know only by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Varints: integers, enums, booleans.
    Number(u64),
    /// Strings, bytes and nested messages.
    Bytes(Vec<u8>),
}

impl Value {
    /// As a boolean or `None` if it is not a number.
    pub fn flag(&self) -> Option<bool> {
        self.number().map(|n| n != 0)
    }

    /// As a number.
    pub fn number(&self) -> Option<u64> {
        match self {
            Value::Number(n) => Some(*n),
            Value::Bytes(_) => None,
        }
    }

    /// As text; bytes that are not UTF-8 are an error of the sender, seen as absent.
    pub fn text(&self) -> Option<String> {
        match self {
            Value::Bytes(bytes) => String::from_utf8(bytes.clone()).ok(),
            Value::Number(_) => None,
        }
    }
}

/// All fields of a message in order. Fixed-width fields are skipped: none of our messages has any.
pub fn fields(bytes: &[u8]) -> Result<Vec<(u32, Value)>, protobuf::Error> {
    let mut input = CodedInputStream::from_bytes(bytes);
    let mut found = Vec::new();
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        let (number, wire_type) = (tag >> 3, WireType::new(tag & 7));
        match wire_type {
            Some(WireType::Varint) => {
                found.push((number, Value::Number(input.read_raw_varint64()?)))
            }
            Some(WireType::LengthDelimited) => {
                found.push((number, Value::Bytes(input.read_bytes()?)))
            }
            Some(other) => input.skip_field(other)?,
            None => {
                return Err(protobuf::Error::from(std::io::Error::other(
                    "unknown wire type",
                )));
            }
        }
    }
    Ok(found)
}

/// Writes a message field by field. Writing to memory can't fail, so nothing here returns an error.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// An empty message.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every field of a generated message.
    pub fn message(&mut self, message: &impl Message) {
        if let Ok(bytes) = message.write_to_bytes() {
            self.0.extend_from_slice(&bytes);
        }
    }

    /// A string field.
    pub fn text(&mut self, field: u32, text: &str) {
        self.append(|out| out.write_string(field, text));
    }

    /// An unsigned field, left out when it is zero.
    #[cfg(test)]
    pub fn number(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.append(|out| out.write_uint64(field, value));
        }
    }

    /// A nested message.
    pub fn nested(&mut self, field: u32, fill: impl FnOnce(&mut Writer)) {
        let mut inner = Writer::new();
        fill(&mut inner);
        self.append(|out| out.write_bytes(field, &inner.0));
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn append(&mut self, write: impl FnOnce(&mut CodedOutputStream<'_>) -> protobuf::Result<()>) {
        let mut out = CodedOutputStream::vec(&mut self.0);
        let written = write(&mut out).and_then(|()| out.flush());
        debug_assert!(written.is_ok(), "a vector takes every byte");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut message = Writer::new();
        message.number(1, 7);
        message.number(2, 0);
        message.nested(3, |inner| inner.text(1, "x"));
        let read = fields(&message.into_bytes()).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0], (1, Value::Number(7)));
        assert_eq!(read[1], (3, Value::Bytes(vec![0x0a, 1, b'x'])));
    }

    #[test]
    fn truncated_messages_are_errors() {
        assert!(fields(&[0x0a, 5, b'x']).is_err());
        assert!(fields(&[0x08]).is_err());
    }
}
