//! What was acknowledged: one sector, written anew after each commit and before its acknowledgement.
//!
//! ```text
//! | "crcl-mrk" 8 | format 4 | store 16 | closed 4 | record 8 | revision 8 | checksum of the record 4 | ... | checksum 4 |
//! ```
//! Nobody waits for it to reach the disk: a killed process leaves it exact, a power cut leaves one that the kernel wrote
//! some seconds before (30 by Linux's defaults). The log may have more than it says, never less. A closed store has just
//! that much.

use std::io;

use super::codec::{Fields, Malformed, checksum};
use super::files::{Files, StoreFile};
use super::sector::SECTOR;
use super::{FORMAT, Place, StoreId};
use crate::embedded::OpenError;

pub(crate) const NAME: &str = "store.mark";
/// The file before it is whole.
pub(super) const UNFINISHED: &str = "store.mark.new";
const MAGIC: &[u8; 8] = b"crcl-mrk";
const SUM_AT: usize = SECTOR - 4;
/// How often a mark is read anew that is perhaps being written just now.
const TRIES: usize = 100;

/// What the mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) store: StoreId,
    /// The store was closed, rather than being in use or killed.
    pub(crate) closed: bool,
    /// Up to here all was acknowledged.
    pub(crate) place: Place,
}

impl Mark {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend(self.store.0);
        bytes.extend(u32::from(self.closed).to_le_bytes());
        bytes.extend(self.place.record.to_le_bytes());
        bytes.extend(self.place.revision.to_le_bytes());
        bytes.extend(self.place.checksum.to_le_bytes());
        bytes.resize(SUM_AT, 0);
        let sum = checksum(0, &[&bytes]);
        bytes.extend(sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; SECTOR]) -> Result<(u32, Self), Malformed> {
        let mut fields = Fields::of(bytes);
        if fields.array::<8>()? != *MAGIC || Fields::of(&bytes[SUM_AT..]).u32()? != checksum(0, &[&bytes[..SUM_AT]]) {
            return Err(Malformed("it does not have what was written there"));
        }
        let format = fields.u32()?;
        let store = StoreId(fields.array()?);
        let closed = fields.u32()? != 0;
        let place = Place { record: fields.u64()?, revision: fields.u64()?, checksum: fields.u32()? };
        Ok((format, Self { store, closed, place }))
    }

    /// Reads the mark of a directory. Its owner may be writing it.
    pub(super) fn read(file: &StoreFile) -> Result<Self, OpenError> {
        let path = file.path().to_owned();
        let mut outcome = Err(Malformed("the file has another length"));
        for _ in 0..TRIES {
            let mut bytes = [0; SECTOR + 1];
            let length = file.read_at(&mut bytes, 0).map_err(OpenError::file("read", &path))?;
            if let (SECTOR, Some(sector)) = (length, bytes.first_chunk()) {
                outcome = Self::decode(sector);
            }
            if outcome.is_ok() {
                break;
            }
            std::thread::yield_now();
        }
        match outcome.map_err(OpenError::malformed(&path, 0))? {
            (FORMAT, mark) => Ok(mark),
            (found, _) => Err(OpenError::Version { path, found, known: FORMAT }),
        }
    }

    /// Makes the file of a new store, whole; it is on the disk afterwards, but for its name.
    pub(super) fn create(&self, files: &Files) -> io::Result<()> {
        let file = files.create(UNFINISHED)?;
        self.write(&file)?;
        file.sync()?;
        files.rename(UNFINISHED, NAME)
    }

    /// Replaces what the file says.
    pub(super) fn write(&self, file: &StoreFile) -> io::Result<()> {
        file.write_at(&self.encode(), 0)
    }
}
