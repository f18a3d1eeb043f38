//! A whole store in one file: what a checkpoint is, and a backup (of either backend).
//!
//! ```text
//! header: | "crcl-snp" 8 | format 4 | store 16 | record 8 | revision 8 | checksum of the record 4 |
//!         | oldest revision 8 | made at, in seconds since 1970: 8 | checksum 4 |
//! block:  | kind 4 | length 4 | checksum 4 | content |              as often as need be, the last one of kind END
//!
//! STATE   the entries as of the oldest revision, as changes in the order of their keys
//! EVENTS  the changes since, one for each revision, up to the newest
//! END     | how many entries 8 | how many changes 8 |
//! ```
//! A block's checksum goes on from the block before, the first one's from the header; so the last one stands for the whole
//! file. A backup of etcd has no record (0) and no changes: its revisions are etcd's.

use std::io;
use std::sync::Arc;

use super::codec::{Fields, Malformed, checksum};
use super::files::StoreFile;
use super::{FORMAT, Place, StoreId};
use crate::Revision;
use crate::embedded::OpenError;
use crate::embedded::change::{Change, Row};

const MAGIC: &[u8; 8] = b"crcl-snp";
const HEAD: usize = 68;
const BLOCK_HEAD: usize = 12;
/// A block is written once it has so many bytes.
const BLOCK: usize = 256 << 10;

const STATE: u32 = 1;
const EVENTS: u32 = 2;
const END: u32 = 3;

/// What a snapshot says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) store: StoreId,
    /// Where the log was.
    pub(crate) place: Place,
    /// The oldest revision that can be read.
    pub(crate) oldest: Revision,
    /// Seconds since 1970.
    pub(crate) made: u64,
}

/// Writes a snapshot. Without [`Writer::finish`] the file is none.
pub(crate) struct Writer<'a> {
    file: &'a StoreFile,
    at: u64,
    sum: u32,
    kind: u32,
    block: Vec<u8>,
    counts: [u64; 2],
}

impl<'a> Writer<'a> {
    pub(crate) fn new(file: &'a StoreFile, header: &Header) -> io::Result<Self> {
        let mut bytes = header.encode();
        let sum = checksum(0, &[&bytes]);
        bytes.extend(sum.to_le_bytes());
        file.write_at(&bytes, 0)?;
        let block = Vec::with_capacity(BLOCK + BLOCK / 8);
        Ok(Self { file, at: bytes.len() as u64, sum, kind: STATE, block, counts: [0; 2] })
    }

    /// Adds an entry of the oldest revision; keys ascend.
    pub(crate) fn state(&mut self, change: &Change) -> io::Result<()> {
        self.counts[0] += 1;
        self.add(STATE, change)
    }

    /// Adds the change of the next revision, after all entries.
    pub(crate) fn event(&mut self, change: &Change) -> io::Result<()> {
        self.counts[1] += 1;
        self.add(EVENTS, change)
    }

    /// Completes the file and returns its size; it is on the disk afterwards.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        self.kind = END;
        let [entries, changes] = self.counts.map(u64::to_le_bytes);
        self.block.extend(entries);
        self.block.extend(changes);
        self.flush()?;
        self.file.sync()?;
        Ok(self.at)
    }

    fn add(&mut self, kind: u32, change: &Change) -> io::Result<()> {
        if self.kind != kind || self.block.len() >= BLOCK {
            self.flush()?;
            self.kind = kind;
        }
        change.encode(&mut self.block);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let length = u32::try_from(self.block.len()).expect("a block is smaller than 4 GiB");
        let mut head = [0; BLOCK_HEAD];
        head[..4].copy_from_slice(&self.kind.to_le_bytes());
        head[4..8].copy_from_slice(&length.to_le_bytes());
        self.sum = checksum(self.sum, &[&head[..8], &self.block]);
        head[8..].copy_from_slice(&self.sum.to_le_bytes());
        self.file.write_at(&head, self.at)?;
        self.file.write_at(&self.block, self.at + BLOCK_HEAD as u64)?;
        self.at += (BLOCK_HEAD + self.block.len()) as u64;
        self.block.clear();
        Ok(())
    }
}

impl Header {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend(self.store.0);
        bytes.extend(self.place.record.to_le_bytes());
        bytes.extend(self.place.revision.to_le_bytes());
        bytes.extend(self.place.checksum.to_le_bytes());
        bytes.extend(self.oldest.to_le_bytes());
        bytes.extend(self.made.to_le_bytes());
        bytes
    }

    /// Returns the format and the checksum, too.
    fn decode(bytes: &[u8]) -> Result<(u32, Self, u32), Malformed> {
        let mut fields = Fields::of(bytes);
        if fields.array::<8>()? != *MAGIC {
            return Err(Malformed("it does not begin as a snapshot does"));
        }
        let format = fields.u32()?;
        let store = StoreId(fields.array()?);
        let place = Place { record: fields.u64()?, revision: fields.u64()?, checksum: fields.u32()? };
        let header = Self { store, place, oldest: fields.u64()?, made: fields.u64()? };
        let sum = fields.u32()?;
        if sum != checksum(0, &[&bytes[..HEAD - 4]]) {
            return Err(Malformed("its header is not what was written"));
        }
        if header.oldest == 0 || header.oldest > header.place.revision {
            return Err(Malformed("its revisions are out of order"));
        }
        Ok((format, header, sum))
    }
}

/// Reads a snapshot. Nothing is sure before the last row was read.
pub(crate) struct Reader {
    file: StoreFile,
    header: Header,
    length: u64,
    at: u64,
    sum: u32,
    kind: u32,
    counts: [u64; 2],
    last_key: Option<Arc<str>>,
}

impl Reader {
    pub(crate) fn new(file: StoreFile) -> Result<Self, OpenError> {
        let path = file.path().to_owned();
        let length = file.len().map_err(OpenError::file("read", &path))?;
        let mut bytes = [0; HEAD];
        if file.read_at(&mut bytes, 0).map_err(OpenError::file("read", &path))? < HEAD {
            return Err(OpenError::damaged(&path, length, "the file is cut short"));
        }
        let (format, header, sum) = Header::decode(&bytes).map_err(OpenError::malformed(&path, 0))?;
        if format != FORMAT {
            return Err(OpenError::Version { path, found: format, known: FORMAT });
        }
        Ok(Self { file, header, length, at: HEAD as u64, sum, kind: STATE, counts: [0; 2], last_key: None })
    }

    pub(crate) fn header(&self) -> Header {
        self.header
    }

    /// The size of the file.
    pub(crate) fn len(&self) -> u64 {
        self.length
    }

    /// Hands out every row; when this returns, all of the file is what was written. Returns how many entries and how
    /// many changes there were.
    pub(crate) fn read(mut self, mut each: impl FnMut(Row)) -> Result<(u64, u64), OpenError> {
        let mut block = Vec::new();
        loop {
            let begin = self.at;
            self.block(&mut block)?;
            let malformed = OpenError::malformed(self.file.path(), begin);
            if self.kind == END {
                self.end(&block).map_err(malformed)?;
                return Ok((self.counts[0], self.counts[1]));
            }
            self.rows(&block, &mut each).map_err(malformed)?;
        }
    }

    fn block(&mut self, block: &mut Vec<u8>) -> Result<(), OpenError> {
        let path = self.file.path().to_owned();
        let damaged = |problem: &str| OpenError::damaged(&path, self.at, problem);
        let mut head = [0; BLOCK_HEAD];
        if self.file.read_at(&mut head, self.at).map_err(OpenError::file("read", &path))? < BLOCK_HEAD {
            return Err(damaged("the file is cut short"));
        }
        let mut fields = Fields::of(&head);
        let mut field = || fields.u32().map_err(OpenError::malformed(&path, self.at));
        let (kind, length, sum) = (field()?, field()?, field()?);
        let content = self.at + BLOCK_HEAD as u64;
        if u64::from(length) > self.length.saturating_sub(content) {
            return Err(damaged("a block is longer than the file"));
        }
        block.resize(length as usize, 0);
        if self.file.read_at(block, content).map_err(OpenError::file("read", &path))? < block.len() {
            return Err(damaged("the file is cut short"));
        }
        if sum != checksum(self.sum, &[&head[..8], block]) {
            return Err(damaged("it does not have what was written there"));
        }
        if kind < self.kind || kind > END {
            return Err(damaged("a block is out of order"));
        }
        (self.sum, self.kind, self.at) = (sum, kind, content + u64::from(length));
        Ok(())
    }

    fn rows(&mut self, block: &[u8], each: &mut impl FnMut(Row)) -> Result<(), Malformed> {
        let mut fields = Fields::of(block);
        while !fields.is_empty() {
            let change = Change::decode(&mut fields)?;
            if self.kind == STATE {
                self.counts[0] += 1;
                if change.value.is_none() || change.revision > self.header.oldest {
                    return Err(Malformed("an entry is newer than the state"));
                }
                if self.last_key.as_deref().is_some_and(|last| *last >= *change.key) {
                    return Err(Malformed("keys are out of order"));
                }
                self.last_key = Some(change.key.clone());
                each(Row::State(change));
            } else {
                self.counts[1] += 1;
                if self.header.oldest.checked_add(self.counts[1]) != Some(change.revision) {
                    return Err(Malformed("a change is out of order"));
                }
                each(Row::Event(change));
            }
        }
        Ok(())
    }

    fn end(&self, block: &[u8]) -> Result<(), Malformed> {
        let mut fields = Fields::of(block);
        if [fields.u64()?, fields.u64()?] != self.counts || self.at != self.length || !fields.is_empty() {
            return Err(Malformed("it does not end where it should"));
        }
        if self.header.oldest + self.counts[1] != self.header.place.revision {
            return Err(Malformed("its last changes are missing"));
        }
        Ok(())
    }
}
