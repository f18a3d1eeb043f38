//! Changes as bytes, in the log and in snapshots alike, and the careful reading of bytes that may be anything.
//!
//! ```text
//! 0           4             8          16                 24        32
//! | key bytes | value bytes | revision | created at revision | expires | key | value |
//! ```
//! Numbers are little-endian. A delete has `u32::MAX` for the length of its value; what never expires has 0 there.

use bytes::Bytes;

use crate::embedded::change::Change;

/// The bytes of a change beside its key and value.
pub(crate) const CHANGE_BYTES: usize = 32;
const DELETED: u32 = u32::MAX;

/// What is wrong with bytes whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl Change {
    /// How many bytes [`Change::encode`] adds.
    pub(crate) fn encoded_len(&self) -> usize {
        CHANGE_BYTES + self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }

    pub(crate) fn encode(&self, to: &mut Vec<u8>) {
        // An entry is far smaller than 4 GiB: the store refuses larger ones, and a message of etcd cannot hold one.
        let length = |bytes: usize| u32::try_from(bytes).expect("an entry is smaller than 4 GiB");
        to.extend(length(self.key.len()).to_le_bytes());
        to.extend(self.value.as_ref().map_or(DELETED, |value| length(value.len())).to_le_bytes());
        to.extend(self.revision.to_le_bytes());
        to.extend(self.create_revision.to_le_bytes());
        to.extend(self.expires.unwrap_or(0).to_le_bytes());
        to.extend_from_slice(self.key.as_bytes());
        to.extend_from_slice(self.value.as_deref().unwrap_or_default());
    }

    pub(crate) fn decode(from: &mut Fields<'_>) -> Result<Self, Malformed> {
        let key_length = from.u32()?;
        let value_length = from.u32()?;
        let (revision, create_revision, expires) = (from.u64()?, from.u64()?, from.u64()?);
        let key = std::str::from_utf8(from.bytes(key_length as usize)?).map_err(|_| Malformed("a key is not UTF-8"))?;
        let value = match value_length {
            DELETED => None,
            length => Some(Bytes::copy_from_slice(from.bytes(length as usize)?)),
        };
        if create_revision > revision || (value.is_some() && create_revision == 0) {
            return Err(Malformed("a key was created after it was written"));
        }
        Ok(Self { revision, create_revision, expires: (expires > 0).then_some(expires), key: key.into(), value })
    }
}

/// Takes fields off the front of bytes; never takes more than there are.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed("a field reaches beyond its end"))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Malformed("a field reaches beyond its end"))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }
}

/// A CRC-32 (IEEE) that goes on from an earlier one: bytes elsewhere, or after something else, have another.
pub(crate) fn checksum(earlier: u32, parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(earlier);
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change() -> impl Strategy<Value = Change> {
        let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
        (".{0,9}", value, 1u64.., prop::option::of(1u64..)).prop_map(|(key, value, revision, expires)| Change {
            revision,
            create_revision: revision,
            expires,
            key: key.into(),
            value: value.map(Into::into),
        })
    }

    proptest! {
        #[test]
        fn changes_read_as_they_were_written(changes in prop::collection::vec(change(), 0..5)) {
            let mut bytes = Vec::new();
            changes.iter().for_each(|change| change.encode(&mut bytes));
            prop_assert_eq!(bytes.len(), changes.iter().map(Change::encoded_len).sum::<usize>());
            let mut fields = Fields::of(&bytes);
            for change in changes {
                prop_assert_eq!(Change::decode(&mut fields), Ok(change));
            }
            prop_assert!(fields.is_empty());
        }

        #[test]
        fn any_bytes_are_a_change_or_malformed(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut fields = Fields::of(&bytes);
            while Change::decode(&mut fields).is_ok() {}
        }

        #[test]
        fn lengths_beyond_the_end_are_malformed(change in change(), key in any::<u32>(), value in 0..DELETED) {
            let mut bytes = Vec::new();
            change.encode(&mut bytes);
            bytes[..4].copy_from_slice(&key.to_le_bytes());
            bytes[4..8].copy_from_slice(&value.to_le_bytes());
            let fits = CHANGE_BYTES as u64 + u64::from(key) + u64::from(value) <= bytes.len() as u64;
            prop_assert!(fits || Change::decode(&mut Fields::of(&bytes)).is_err());
        }
    }
}
