//! What a file has, what of it is safe, and what else its sectors were given since.

use std::collections::BTreeMap;

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::disk::Mood;

/// What a disk writes as a whole or not at all.
const SECTOR: usize = 512;

/// The content of one file.
#[derive(Default)]
pub(crate) struct Content {
    now: Vec<u8>,
    safe: Vec<u8>,
    /// The sizes that it had since.
    sizes: Vec<usize>,
    /// What each sector had since, oldest first; shorter ones end in zeros.
    sectors: BTreeMap<usize, Vec<Vec<u8>>>,
}

impl Content {
    /// A file all of whose content is safe.
    pub(crate) fn safe(bytes: Vec<u8>) -> Self {
        Self { now: bytes.clone(), safe: bytes, ..Self::default() }
    }

    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let begin = usize::try_from(offset).unwrap();
        let end = begin + bytes.len();
        if end > self.now.len() {
            self.now.resize(end, 0);
            self.sizes.push(end);
        }
        self.now[begin..end].copy_from_slice(bytes);
        self.note(begin, end);
    }

    pub(crate) fn resize(&mut self, bytes: u64) {
        let size = usize::try_from(bytes).unwrap();
        let before = self.now.len();
        self.now.resize(size, 0);
        self.sizes.push(size);
        self.note(size, before);
    }

    pub(crate) fn erase(&mut self, offset: u64, bytes: u64) {
        let begin = usize::try_from(offset).unwrap().min(self.now.len());
        let end = (begin + usize::try_from(bytes).unwrap()).min(self.now.len());
        self.now[begin..end].fill(0);
        self.note(begin, end);
    }

    pub(crate) fn sync(&mut self) {
        self.safe.clone_from(&self.now);
        self.sizes.clear();
        self.sectors.clear();
    }

    /// Notes what the sectors of a range have now.
    fn note(&mut self, begin: usize, end: usize) {
        for sector in begin / SECTOR..end.div_ceil(SECTOR) {
            self.sectors.entry(sector).or_default().push(piece(&self.now, sector));
        }
    }

    /// What a power loss leaves; and, where that was not sure, in words.
    pub(crate) fn after(&self, mood: Mood, random: &mut StdRng) -> (Vec<u8>, Option<String>) {
        if self.sizes.is_empty() && self.sectors.is_empty() {
            return (self.safe.clone(), None);
        }
        let mut pick = |count: usize| match mood {
            Mood::Nothing => 0,
            Mood::Everything => count,
            _ => random.random_range(0..=count),
        };
        let picked = pick(self.sizes.len());
        let size = picked.checked_sub(1).map_or(self.safe.len(), |at| self.sizes[at]);
        let mut bytes = self.safe.clone();
        bytes.resize(size, 0);
        let mut words = format!("{size} bytes");
        for (&sector, versions) in &self.sectors {
            let picked = pick(versions.len());
            words += &format!(", {picked}/{} of sector {sector}", versions.len());
            let begin = sector * SECTOR;
            if let Some(at) = picked.checked_sub(1)
                && begin < size
            {
                let end = size.min(begin + SECTOR);
                bytes[begin..end].copy_from_slice(&versions[at][..end - begin]);
            }
        }
        (bytes, Some(words))
    }
}

/// A sector of a file, with zeros after the end.
fn piece(bytes: &[u8], sector: usize) -> Vec<u8> {
    let begin = (sector * SECTOR).min(bytes.len());
    let mut piece = bytes[begin..bytes.len().min(begin + SECTOR)].to_vec();
    piece.resize(SECTOR, 0);
    piece
}
