//! One file of the log: a header in its first sector, then records, then zeros up to its size, which never changes.
//!
//! ```text
//! header: | "crcl-log" 8 | format 4 | store 16 | first record 8 | revision before it 8 | checksum before it 4 | size 8 |
//! record: | length 4 | checksum 4 | number 8 | revision before it 8 | compacted revision, or 0: 8 | changes |
//! ```
//! Both are cut into sectors (see `sector`), and a record begins with a new one. A record's checksum goes on from that of
//! the record before, so that none can be taken out or put in. `length` counts the bytes of its changes.

use std::io;

use super::codec::{Fields, Malformed, checksum};
use super::files::{Files, StoreFile, is_full};
use super::sector::{CONTENT, SECTOR, Salt, Sector, sectors_len, tag};
use super::{FORMAT, Place, StoreId};
use crate::Revision;
use crate::embedded::OpenError;
use crate::embedded::change::Change;

const MAGIC: &[u8; 8] = b"crcl-log";
const PREFIX: &str = "log-";
/// The bytes of a record before its changes.
const RECORD_HEAD: usize = 32;
/// Room is reserved in such steps.
const STEP: u64 = 1 << 20;
/// Files are read in such pieces, or larger ones where a record is.
const WINDOW: usize = 256 << 10;

/// The segment that is written to.
pub(super) struct Segment {
    file: StoreFile,
    salt: Salt,
    size: u64,
    /// Where the next record goes.
    end: u64,
    /// Up to where there is surely room; `None` where the file system does not say.
    reserved: Option<u64>,
}

/// Why a record was not appended.
#[derive(Debug)]
pub(super) enum AppendError {
    /// There is no room. The segment is as it was.
    Full(io::Error),
    /// What the disk has is unknown.
    Broken(&'static str, io::Error),
}

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) store: StoreId,
    /// Where the log was when the segment began.
    pub(super) before: Place,
    pub(super) size: u64,
}

/// A batch that was committed.
pub(super) struct Record {
    pub(super) after: Place,
    /// The oldest revision that can be read, if the record says so.
    pub(super) compacted: Option<Revision>,
    pub(super) changes: Vec<Change>,
}

/// What follows in a segment.
pub(super) enum Next {
    Record(Record),
    /// No record: up to the end there are zeros, after so many bytes of a record that was broken off.
    End {
        at: u64,
        torn: u64,
    },
}

/// The name of the segment that begins with this record.
pub(super) fn name(first: u64) -> String {
    format!("{PREFIX}{first:016x}")
}

/// The first record of the segment with this name.
pub(super) fn first_of(name: &str) -> Option<u64> {
    super::number_in(name, PREFIX)
}

/// The bytes of a record, and where the log is after it.
pub(super) fn encode(before: Place, compacted: Option<Revision>, changes: &[Change]) -> (Vec<u8>, Place) {
    let length: usize = changes.iter().map(Change::encoded_len).sum();
    let mut bytes = Vec::with_capacity(RECORD_HEAD + length);
    bytes.extend(u32::try_from(length).expect("a batch is smaller than 4 GiB").to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend((before.record + 1).to_le_bytes());
    bytes.extend(before.revision.to_le_bytes());
    bytes.extend(compacted.unwrap_or(0).to_le_bytes());
    changes.iter().for_each(|change| change.encode(&mut bytes));
    let sum = checksum(before.checksum, &[&bytes[..4], &bytes[8..]]);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
    let revision = changes.last().map_or(before.revision, |change| change.revision);
    (bytes, Place { record: before.record + 1, revision, checksum: sum })
}

impl Segment {
    /// Makes the segment that follows a place, with room for a record of so many bytes; it is on the disk afterwards. If
    /// that fails for want of room, there is no such segment.
    pub(super) fn create(files: &Files, store: StoreId, before: Place, size: u64, room: usize) -> io::Result<Self> {
        let first = before.record + 1;
        let size = size.max(SECTOR as u64 + sectors_len(room) as u64).next_multiple_of(SECTOR as u64);
        let new = format!("{}.new", name(first));
        // An earlier attempt may have failed.
        files.remove(&new)?;
        let file = files.create(&new)?;
        let salt = Salt::new(store, first);
        let write = || {
            file.set_len(size)?;
            file.write_at(&salt.cut(0, &Header { store, before, size }.encode(), 0), 0)?;
            file.sync()?;
            files.rename(&new, &name(first))
        };
        if let Err(err) = write() {
            // It is no part of the log, and the next attempt or start removes what is left.
            let _ = files.remove(&new);
            return Err(err);
        }
        // From here on the log before must not grow any more, so an error is final whatever its kind.
        let file = files.sync_names().and_then(|()| files.open(&name(first))).map_err(io::Error::other)?;
        Ok(Self { file, salt, size, end: SECTOR as u64, reserved: Some(SECTOR as u64) })
    }

    /// Goes on with a segment that was read to its end, and takes away what a broken write left there.
    pub(super) fn resume(file: StoreFile, header: &Header, end: u64, torn: u64) -> io::Result<Self> {
        if torn > 0 {
            file.erase(end, torn)?;
        }
        // What was read may not be on the disk yet, and is about to be shown to clients.
        file.sync()?;
        let salt = Salt::new(header.store, header.before.record + 1);
        Ok(Self { file, salt, size: header.size, end, reserved: Some(end) })
    }

    /// Whether a record of so many bytes still fits.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        self.end + sectors_len(bytes) as u64 <= self.size
    }

    /// How many bytes the log has here.
    pub(super) fn used(&self) -> u64 {
        self.end
    }

    /// Appends a record, which fits; it is on the disk afterwards.
    pub(super) fn append(&mut self, record: u64, bytes: &[u8]) -> Result<(), AppendError> {
        let sectors = self.salt.cut(record, bytes, self.end);
        self.reserve(self.end + sectors.len() as u64)?;
        if let Err(err) = self.file.write_at(&sectors, self.end) {
            return Err(self.undo(sectors.len() as u64, err));
        }
        self.file.sync().map_err(|err| AppendError::Broken("sync", err))?;
        self.end += sectors.len() as u64;
        Ok(())
    }

    /// Says whether there is room for another step.
    pub(super) fn probe(&mut self) -> Result<(), AppendError> {
        self.reserved = self.reserved.map(|_| self.end);
        self.reserve(self.size.min(self.end + STEP))
    }

    fn reserve(&mut self, end: u64) -> Result<(), AppendError> {
        let Some(reserved) = self.reserved.filter(|&reserved| reserved < end) else { return Ok(()) };
        let to = end.next_multiple_of(STEP).min(self.size);
        match self.file.reserve(reserved, to - reserved) {
            Ok(true) => self.reserved = Some(to),
            Ok(false) => self.reserved = None,
            Err(err) if is_full(&err) => return Err(AppendError::Full(err)),
            Err(err) => return Err(AppendError::Broken("reserve room", err)),
        }
        Ok(())
    }

    /// Takes away what a failed write left. If that works, only room was lacking.
    fn undo(&mut self, bytes: u64, err: io::Error) -> AppendError {
        let undone = self.file.erase(self.end, bytes).and_then(|()| self.file.sync());
        self.reserved = self.reserved.map(|_| self.end);
        if undone.is_ok() && is_full(&err) { AppendError::Full(err) } else { AppendError::Broken("write", err) }
    }
}

impl Header {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend(self.store.0);
        bytes.extend((self.before.record + 1).to_le_bytes());
        bytes.extend(self.before.revision.to_le_bytes());
        bytes.extend(self.before.checksum.to_le_bytes());
        bytes.extend(self.size.to_le_bytes());
        bytes
    }

    /// Returns the format, too.
    fn decode(content: &[u8]) -> Result<(u32, Self), Malformed> {
        let mut fields = Fields::of(content);
        if fields.array::<8>()? != *MAGIC {
            return Err(Malformed("it does not begin as a log does"));
        }
        let format = fields.u32()?;
        let store = StoreId(fields.array()?);
        let first = fields.u64()?.checked_sub(1).ok_or(Malformed("records are counted from 1"))?;
        let before = Place { record: first, revision: fields.u64()?, checksum: fields.u32()? };
        Ok((format, Self { store, before, size: fields.u64()? }))
    }
}

/// Reads a segment from its beginning.
pub(super) struct Reader {
    file: StoreFile,
    header: Header,
    salt: Salt,
    at: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl Reader {
    /// Reads the header of a segment that should follow a place in a store.
    pub(super) fn new(file: StoreFile, store: StoreId, before: Place) -> Result<Self, OpenError> {
        let path = file.path().to_owned();
        let damaged = |offset, problem: &str| OpenError::damaged(&path, offset, problem);
        let mut sector = [0; SECTOR];
        let length = file.len().map_err(OpenError::file("read", &path))?;
        if file.read_at(&mut sector, 0).map_err(OpenError::file("read", &path))? < SECTOR {
            return Err(damaged(length, "the file is cut short"));
        }
        let (format, header) = Header::decode(&sector[8..]).map_err(OpenError::malformed(&path, 0))?;
        let salt = Salt::new(header.store, header.before.record + 1);
        if !matches!(salt.look(&sector, 0), Sector::Whole { record: 0, .. }) {
            return Err(damaged(0, "its header is not what was written"));
        }
        if format != FORMAT {
            return Err(OpenError::Version { path, found: format, known: FORMAT });
        }
        if header.store != store {
            return Err(damaged(0, "it belongs to another store"));
        }
        if header.before != before {
            return Err(damaged(0, "it does not go on where the log before it ends"));
        }
        if length != header.size {
            return Err(damaged(length.min(header.size), &format!("it has {length} bytes, not {}", header.size)));
        }
        Ok(Self { file, header, salt, at: SECTOR as u64, window: Vec::new(), window_at: 0 })
    }

    /// Reads what comes after a place, up to which all was read.
    pub(super) fn next(&mut self, before: Place) -> Result<Next, OpenError> {
        let at = self.at;
        if at >= self.header.size {
            return Ok(Next::End { at, torn: 0 });
        }
        let mut bytes = Vec::with_capacity(CONTENT);
        let Some(needed) = self.first_sector(before.record + 1, &mut bytes)? else { return self.end(before) };
        while bytes.len() < needed {
            let sector_at = self.at;
            match self.sector(sector_at)? {
                Sector::Whole { record, content } if record == tag(before.record + 1) => {
                    bytes.extend_from_slice(content);
                }
                Sector::Empty => {
                    self.at = at;
                    return self.end(before);
                }
                _ => return Err(self.damaged(sector_at, "it does not have what was written there")),
            }
            self.at += SECTOR as u64;
        }
        bytes.truncate(needed);
        let record = decode(&bytes, before).map_err(OpenError::malformed(self.file.path(), at))?;
        Ok(Next::Record(record))
    }

    /// Where the reader is.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn header(&self) -> Header {
        self.header
    }

    /// Reads the first sector of a record and returns how many bytes the record has; `None` if there is no record.
    fn first_sector(&mut self, record: u64, bytes: &mut Vec<u8>) -> Result<Option<usize>, OpenError> {
        let at = self.at;
        let room = self.header.size - at;
        let malformed = OpenError::malformed(self.file.path(), at);
        let content = match self.sector(at)? {
            Sector::Empty => return Ok(None),
            Sector::Whole { record: found, content } if found == tag(record) => content,
            Sector::Whole { .. } => return Err(self.damaged(at, &format!("record {record} should be there"))),
            Sector::Damaged => return Err(self.damaged(at, "it does not have what was written there")),
        };
        let length = Fields::of(content).u32().map_err(malformed)?;
        let needed = RECORD_HEAD + length as usize;
        bytes.extend_from_slice(content);
        if sectors_len(needed) as u64 > room {
            return Err(self.damaged(at, &format!("record {record} is longer than the file")));
        }
        self.at += SECTOR as u64;
        Ok(Some(needed))
    }

    /// Sees that after the records that were read there is nothing but perhaps the next one, broken off.
    fn end(&mut self, before: Place) -> Result<Next, OpenError> {
        let begin = self.at;
        let (mut at, mut torn) = (begin, 0);
        while at < self.header.size {
            match self.sector(at)? {
                Sector::Empty => {}
                Sector::Whole { record, .. } if record == tag(before.record + 1) => torn = at + SECTOR as u64 - begin,
                Sector::Whole { .. } => {
                    let problem = format!("record {} is missing, and others follow at byte {at}", before.record + 1);
                    return Err(self.damaged(begin, &problem));
                }
                Sector::Damaged => return Err(self.damaged(at, "it does not have what was written there")),
            }
            at += SECTOR as u64;
        }
        Ok(Next::End { at: begin, torn })
    }

    fn sector(&mut self, at: u64) -> Result<Sector<'_>, OpenError> {
        let inside = |window_at: u64, length: usize| at >= window_at && at + SECTOR as u64 <= window_at + length as u64;
        if !inside(self.window_at, self.window.len()) {
            self.window.resize(WINDOW, 0);
            let read = self.file.read_at(&mut self.window, at);
            let length = read.map_err(OpenError::file("read", self.file.path()))?;
            self.window.truncate(length);
            self.window_at = at;
            if length < SECTOR {
                return Err(self.damaged(at + length as u64, "the file is cut short"));
            }
        }
        let begin = usize::try_from(at - self.window_at).expect("within the window");
        Ok(self.salt.look(&self.window[begin..begin + SECTOR], at))
    }

    fn damaged(&self, offset: u64, problem: &str) -> OpenError {
        OpenError::damaged(self.file.path(), offset, problem)
    }
}

/// Reads the bytes of the record that follows a place.
fn decode(bytes: &[u8], before: Place) -> Result<Record, Malformed> {
    let mut fields = Fields::of(bytes);
    let (_length, sum) = (fields.u32()?, fields.u32()?);
    if sum != checksum(before.checksum, &[&bytes[..4], &bytes[8..]]) {
        return Err(Malformed("the record does not follow the one before it"));
    }
    if fields.u64()? != before.record + 1 || fields.u64()? != before.revision {
        return Err(Malformed("the record is out of order"));
    }
    let compacted = Some(fields.u64()?).filter(|&compacted| compacted > 0);
    let (mut changes, mut revision) = (Vec::new(), before.revision);
    while !fields.is_empty() {
        let change = Change::decode(&mut fields)?;
        revision += 1;
        if change.revision != revision {
            return Err(Malformed("a change is out of order"));
        }
        changes.push(change);
    }
    if compacted.is_some_and(|compacted| compacted > revision) {
        return Err(Malformed("it compacts the future"));
    }
    let after = Place { record: before.record + 1, revision, checksum: sum };
    Ok(Record { after, compacted, changes })
}
