//! Tags, varints and lengths.

use super::Error;

/// How a field lies in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Varint,
    Fixed64,
    Bytes,
    GroupStart,
    GroupEnd,
    Fixed32,
}

/// Takes fields off the front of a message.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Number and wire type of the next field; `None` at the end.
    pub(crate) fn tag(&mut self) -> Result<Option<(u32, Wire)>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Bytes,
            3 => Wire::GroupStart,
            4 => Wire::GroupEnd,
            5 => Wire::Fixed32,
            other => return Err(Error::new(format!("illegal wireType {other}"))),
        };
        match u32::try_from(tag >> 3) {
            Ok(number) if number > 0 => Ok(Some((number, wire))),
            _ => Err(Error::new(format!("illegal tag {} (wire type {})", tag >> 3, tag & 7))),
        }
    }

    /// An unsigned integer of up to ten bytes.
    pub(crate) fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0_u64;
        for at in 0..10 {
            let byte = *self.rest.get(at).ok_or_else(end)?;
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        Err(Error::new("integer overflow"))
    }

    /// Bytes after their length.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let length = usize::try_from(self.varint()?).map_err(|_| end())?;
        self.take(length)
    }

    /// Bytes that are UTF-8.
    pub(crate) fn text(&mut self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Error::new("string is not valid UTF-8"))
    }

    pub(crate) fn fixed64(&mut self) -> Result<u64, Error> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(bytes.try_into().expect("eight bytes were taken")))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Passes over a field that nobody asked for.
    pub(crate) fn skip(&mut self, number: u32, wire: Wire) -> Result<(), Error> {
        match wire {
            Wire::GroupStart => self.skip_group(number),
            Wire::GroupEnd => Err(Error::new(format!("wiretype end group for non-group {number}"))),
            _ => self.skip_value(wire),
        }
    }

    fn skip_value(&mut self, wire: Wire) -> Result<(), Error> {
        match wire {
            Wire::Varint => self.varint().map(drop),
            Wire::Fixed64 => self.take(8).map(drop),
            Wire::Fixed32 => self.take(4).map(drop),
            Wire::Bytes => self.bytes().map(drop),
            Wire::GroupStart | Wire::GroupEnd => Ok(()),
        }
    }

    fn skip_group(&mut self, number: u32) -> Result<(), Error> {
        let mut open = 1_usize;
        while open > 0 {
            let (_, wire) = self.tag()?.ok_or_else(|| Error::new(format!("group {number} does not end")))?;
            match wire {
                Wire::GroupStart => open += 1,
                Wire::GroupEnd => open -= 1,
                _ => self.skip_value(wire)?,
            }
        }
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(end)?;
        self.rest = rest;
        Ok(taken)
    }
}

fn end() -> Error {
    Error::new("unexpected EOF")
}

/// Puts fields behind each other.
#[derive(Default)]
pub(crate) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// Writes behind what is there.
    pub(super) fn behind(out: Vec<u8>) -> Self {
        Self { out }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// Bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub(crate) fn varint(&mut self, value: u64) {
        let (bytes, length) = varint(value);
        self.out.extend_from_slice(&bytes[..length]);
    }

    pub(super) fn tag(&mut self, number: u32, wire: u64) {
        self.varint(u64::from(number) << 3 | wire);
    }

    pub(crate) fn integer(&mut self, number: u32, value: i64) {
        self.tag(number, 0);
        self.varint(value.cast_unsigned());
    }

    pub(crate) fn double(&mut self, number: u32, value: f64) {
        self.tag(number, 1);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.tag(number, 2);
        self.varint(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    /// A message. Its length is only known behind it, so a long message moves once to make room.
    pub(crate) fn nested(
        &mut self,
        number: u32,
        write: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.tag(number, 2);
        let at = self.out.len();
        self.out.push(0);
        write(self)?;
        let (bytes, length) = varint((self.out.len() - at - 1) as u64);
        self.out[at] = bytes[0];
        if length > 1 {
            self.out.splice(at + 1..at + 1, bytes[1..length].iter().copied());
        }
        Ok(())
    }
}

fn varint(mut value: u64) -> ([u8; 10], usize) {
    let mut bytes = [0; 10];
    for (at, byte) in bytes.iter_mut().enumerate() {
        if value < 0x80 {
            *byte = value as u8;
            return (bytes, at + 1);
        }
        *byte = (value & 0x7f) as u8 | 0x80;
        value >>= 7;
    }
    (bytes, 10)
}
