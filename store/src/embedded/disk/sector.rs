//! The pieces of a segment of the log: a disk writes a sector as a whole or not at all.
//!
//! So each has its own checksum. A write that a power cut or a kill broke off leaves whole sectors and empty ones; any
//! other sector was damaged later. A checksum begins with the store, the segment and the sector's place in it, so that a
//! sector from elsewhere is damage, too.

use super::StoreId;
use super::codec::checksum;

/// Bytes of a sector.
pub(super) const SECTOR: usize = 512;
/// Bytes of content in a sector, after its checksum and its record's number.
pub(super) const CONTENT: usize = SECTOR - 8;
const EMPTY: [u8; SECTOR] = [0; SECTOR];

/// What the checksums in a segment begin with.
#[derive(Clone, Copy)]
pub(super) struct Salt(u32);

/// What a sector has.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sector<'a> {
    /// Nothing was written to it.
    Empty,
    /// A piece of the record whose number ends in these bits.
    Whole { record: u32, content: &'a [u8] },
    /// Something was written to it, but not this.
    Damaged,
}

impl Salt {
    /// The salt of the segment that begins with this record.
    pub(super) fn new(store: StoreId, first: u64) -> Self {
        Self(checksum(0, &[&store.0, &first.to_le_bytes()]))
    }

    fn checksum(self, at: u64, rest: &[u8]) -> u32 {
        // Sectors are far fewer than 2^32, so each of a segment begins differently; the factor is odd.
        let place = u32::try_from(at / SECTOR as u64).unwrap_or(u32::MAX);
        checksum(self.0.wrapping_add(place.wrapping_mul(0x9e37_79b1)), &[rest])
    }

    /// Cuts the bytes of a record into sectors that begin at byte `at`.
    pub(super) fn cut(self, record: u64, bytes: &[u8], at: u64) -> Vec<u8> {
        let mut sectors = Vec::with_capacity(sectors_len(bytes.len()));
        for content in bytes.chunks(CONTENT) {
            let begin = sectors.len();
            sectors.extend([0; 4]);
            sectors.extend(tag(record).to_le_bytes());
            sectors.extend_from_slice(content);
            sectors.resize(begin + SECTOR, 0);
            let sum = self.checksum(at + begin as u64, &sectors[begin + 4..]);
            sectors[begin..begin + 4].copy_from_slice(&sum.to_le_bytes());
        }
        sectors
    }

    /// Looks at the sector at byte `at`.
    pub(super) fn look(self, sector: &[u8], at: u64) -> Sector<'_> {
        if sector == EMPTY {
            return Sector::Empty;
        }
        let Some((sum, rest)) = sector.split_first_chunk() else { return Sector::Damaged };
        if sector.len() != SECTOR || u32::from_le_bytes(*sum) != self.checksum(at, rest) {
            return Sector::Damaged;
        }
        let Some((record, content)) = rest.split_first_chunk() else { return Sector::Damaged };
        Sector::Whole { record: u32::from_le_bytes(*record), content }
    }
}

/// How a record's sectors name it: neighbours never have the same.
pub(super) fn tag(record: u64) -> u32 {
    (record & u64::from(u32::MAX)) as u32
}

/// How many bytes the sectors of so many bytes have.
pub(super) fn sectors_len(bytes: usize) -> usize {
    bytes.div_ceil(CONTENT) * SECTOR
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId([7; 16]);

    #[test]
    fn a_sector_is_whole_only_where_it_was_written_and_as_it_was() {
        let salt = Salt::new(STORE, 9);
        let sectors = salt.cut(12, &[5; 600], 1024);
        assert_eq!(sectors.len(), 2 * SECTOR);
        assert_eq!(salt.look(&sectors[..SECTOR], 1024), Sector::Whole { record: 12, content: &[5; CONTENT] });
        assert_eq!(salt.look(&sectors[..SECTOR], 1536), Sector::Damaged);
        assert_eq!(Salt::new(STORE, 8).look(&sectors[..SECTOR], 1024), Sector::Damaged);
        assert_eq!(Salt::new(StoreId([8; 16]), 9).look(&sectors[..SECTOR], 1024), Sector::Damaged);
        assert_eq!(salt.look(&EMPTY, 1024), Sector::Empty);
        assert_eq!(salt.look(&sectors[..100], 1024), Sector::Damaged);
    }

    #[test]
    fn every_flipped_bit_is_damage() {
        let salt = Salt::new(STORE, 1);
        let mut sector = salt.cut(1, b"what was written", 0);
        for bit in 0..SECTOR * 8 {
            sector[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(salt.look(&sector, 0), Sector::Damaged, "bit {bit}");
            sector[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
