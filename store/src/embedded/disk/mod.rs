//! The durable half of the embedded store: a log of checksummed records, and checkpoints that shorten it.
//!
//! ```text
//!  store.lock                     held by the one process that uses the store; says which store is here
//!  store.mark                     up to which record all was acknowledged, and whether the store was closed (`mark`)
//!  checkpoint-00000000000003e8    everything as of record 1000 (`snapshot`)
//!  log-00000000000003e9           records 1001 to 1350, then zeros (`segment`)
//!  log-0000000000000547           records 1351 to the newest, then zeros
//!
//!  commit ──▶ append a record to the last log ──▶ wait for the disk ──▶ write the mark ──▶ acknowledge
//!                 │ log longer than the last checkpoint
//!                 ▼
//!             begin a new log ──▶ write checkpoint-N.new beside the writer, wait for the disk, rename, wait
//!                                 ──▶ remove the checkpoint before and all logs up to record N
//! ```
//! A record is one commit: the changes of consecutive revisions. Records are numbered from 1, and each is checksummed
//! together with the checksum of the one before it, from the store's beginning on.
//!
//! What is read is checked, all of it, and is exactly what was acknowledged or refused with an error that names the file
//! and the byte ([`OpenError`]). One thing is forgiven, and told: at the very end of the last log of a store that was not
//! closed, the sectors of one further record, some of them empty and the others whole. A write that was broken off leaves
//! that; a flipped bit never does. What cannot be told apart from a broken write is an end of the log whose sectors became
//! zeros again. The mark bounds it: nothing that it counts may be missing. After a kill it counts every acknowledged
//! write, after a clean stop all there is, after a power cut all but those of the last seconds.

mod codec;
mod files;
mod load;
mod lock;
mod mark;
mod sector;
mod segment;
mod snapshot;
mod standing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::str::FromStr;

use tracing::warn;

pub(crate) use codec::{Malformed, checksum};
pub use files::{Effect, Faults, Operation, Outcome};
pub(crate) use files::{Files, StoreFile, is_full};
pub(crate) use load::{Loaded, Salvaged, Until, expect_store, is_new, load, salvage};
pub(crate) use lock::Lock;
pub(crate) use mark::{Mark, NAME as MARK};
pub(crate) use snapshot::{Header as SnapshotHeader, Reader as SnapshotReader, Writer as SnapshotWriter};
pub(crate) use standing::{refuse_migrated, remove_unfinished, set_standing, standing};

use super::change::Change;
use super::recovery::Recovered;
use super::{OpenError, Options};
use crate::Revision;
use segment::{AppendError, Segment};

/// The version of all files.
pub(crate) const FORMAT: u32 = 1;

/// Names a store for good.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoreId(pub(crate) [u8; 16]);

/// A place in the log: after this record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// How many records there were since the store began.
    pub(crate) record: u64,
    /// The newest revision.
    pub(crate) revision: Revision,
    /// The checksum of the record, and with it of all before it.
    pub(crate) checksum: u32,
}

/// How long the log and its files get.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The size of a log file.
    pub segment_bytes: u64,
    /// A checkpoint is made when the log since the last one is longer than this, and longer than that one.
    pub checkpoint_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: 8 << 20, checkpoint_bytes: 16 << 20 }
    }
}

/// Why a commit did not happen.
#[derive(Debug)]
pub(super) enum CommitError {
    /// There is no room. Nothing changed, and a later commit may succeed.
    Full(io::Error),
    /// What the disk has is unknown: nothing may be written any more.
    Broken(&'static str, io::Error),
}

/// The open, locked files of a store.
pub(super) struct Disk {
    files: Files,
    store: StoreId,
    options: LogOptions,
    segment: Segment,
    mark: StoreFile,
    /// Whether the last attempt to write the mark failed.
    mark_failed: bool,
    place: Place,
    /// Bytes of the logs before the segment that the last checkpoint does not cover.
    filled: u64,
    /// The last record that the last checkpoint covers, and its size.
    checkpoint: (u64, u64),
    _lock: Lock,
}

impl Disk {
    /// Opens, or creates, the store in a directory, and keeps every other process out of it.
    pub(super) fn open(options: &Options) -> Result<(Self, Recovered), OpenError> {
        let files = Files::new(&options.path, options.faults.clone());
        let mut lock = Lock::take(&files)?;
        refuse_migrated(&files)?;
        if is_new(&files, &lock)? {
            let store = StoreId::random().map_err(OpenError::file("name the store in", &options.path))?;
            create(&files, store, Place::beginning(store), &options.log)?;
        } else {
            // Whoever was here last may have been killed before it had waited for a name, and what is done next builds on it.
            files.sync_all_names().map_err(OpenError::file("sync", &options.path))?;
        }
        let loaded = load(&files, Until::End, &options.limits)?;
        lock.name(loaded.mark.store)?;
        Self::resume(files, lock, loaded, &options.log)
    }

    fn resume(files: Files, lock: Lock, loaded: Loaded, options: &LogOptions) -> Result<(Self, Recovered), OpenError> {
        let Loaded { mark, place, last, recovered, .. } = loaded;
        let path = files.path(&segment::name(last.header.before.record + 1));
        if last.torn > 0 {
            let (offset, bytes) = (last.end, last.torn);
            warn!(file = %path.display(), offset, bytes, "dropped a write that was broken off");
        }
        let file = files.open(&segment::name(last.header.before.record + 1)).map_err(OpenError::file("open", &path))?;
        let resumed = Segment::resume(file, &last.header, last.end, last.torn);
        let segment = resumed.map_err(OpenError::file("write", &path))?;
        for name in &loaded.superfluous {
            files.remove(name).map_err(OpenError::file("remove", &files.path(name)))?;
        }
        let path = files.path(mark::NAME);
        let file = files.open(mark::NAME).map_err(OpenError::file("open", &path))?;
        // Before anything is added to the log.
        let in_use = Mark { closed: false, place, ..mark };
        in_use.write(&file).and_then(|()| file.sync()).map_err(OpenError::file("write", &path))?;
        let disk = Self {
            files,
            store: mark.store,
            options: options.clone(),
            segment,
            mark: file,
            mark_failed: false,
            place,
            filled: loaded.filled,
            checkpoint: loaded.checkpoint.unwrap_or_default(),
            _lock: lock,
        };
        Ok((disk, recovered))
    }

    /// Appends a record; it is on the disk when this returns.
    pub(super) fn commit(&mut self, changes: &[Change], compacted: Option<Revision>) -> Result<(), CommitError> {
        let (bytes, after) = segment::encode(self.place, compacted, changes);
        if !self.segment.fits(bytes.len()) {
            self.begin_segment(bytes.len())?;
        }
        self.segment.append(after.record, &bytes)?;
        self.place = after;
        self.note();
        Ok(())
    }

    /// Sees, after a commit failed for want of room, whether there is some now.
    pub(super) fn probe(&mut self) -> Result<(), CommitError> {
        self.segment.probe()?;
        self.commit(&[], None)
    }

    /// Where the log is.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    pub(super) fn store(&self) -> StoreId {
        self.store
    }

    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    /// How much longer the log is than a checkpoint allows; 0 if it is not.
    pub(super) fn excess(&self) -> u64 {
        let (_, size) = self.checkpoint;
        (self.filled + self.segment.used()).saturating_sub(self.options.checkpoint_bytes.max(size))
    }

    /// Whether the log has records that no checkpoint covers.
    pub(super) fn has_log(&self) -> bool {
        self.place.record > self.checkpoint.0
    }

    /// Ends the segment, so that a checkpoint of now can replace it and those before it.
    pub(super) fn begin_checkpoint(&mut self) -> Result<(), CommitError> {
        self.begin_segment(0)
    }

    /// Takes note of a checkpoint of `record`, which replaced `filled` bytes of log.
    pub(super) fn end_checkpoint(&mut self, record: u64, size: u64, filled: u64) {
        self.checkpoint = (record, size);
        self.filled = self.filled.saturating_sub(filled);
    }

    /// Bytes of log before the segment.
    pub(super) fn filled(&self) -> u64 {
        self.filled
    }

    /// Says on the disk that this is all there is.
    pub(super) fn close(self) -> io::Result<()> {
        let closed = Mark { store: self.store, closed: true, place: self.place };
        closed.write(&self.mark)?;
        self.mark.sync()
    }

    fn begin_segment(&mut self, room: usize) -> Result<(), CommitError> {
        let made = Segment::create(&self.files, self.store, self.place, self.options.segment_bytes, room);
        let made = made.map_err(|err| {
            if is_full(&err) { CommitError::Full(err) } else { CommitError::Broken("begin a log file", err) }
        })?;
        self.mark.sync().map_err(|err| CommitError::Broken("sync the mark", err))?;
        self.filled += self.segment.used();
        self.segment = made;
        Ok(())
    }

    /// Writes the mark. The log is durable whether that works or not; without it less of the log is known to be there.
    fn note(&mut self) {
        let mark = Mark { store: self.store, closed: false, place: self.place };
        let outcome = mark.write(&self.mark);
        if let Err(err) = &outcome
            && !self.mark_failed
        {
            warn!(file = %self.mark.path().display(), error = err as &dyn std::error::Error, "the store's mark is old");
        }
        self.mark_failed = outcome.is_err();
    }
}

/// Makes the files of a store at a place; its mark last, so that a store is whole or not there.
pub(crate) fn create(files: &Files, store: StoreId, at: Place, options: &LogOptions) -> Result<(), OpenError> {
    let make = || {
        Segment::create(files, store, at, options.segment_bytes, 0)?;
        Mark { store, closed: true, place: at }.create(files)?;
        files.sync_all_names()
    };
    make().map_err(OpenError::file("create a store in", files.directory()))
}

/// The name of the checkpoint that covers all up to this record.
pub(crate) fn checkpoint_name(record: u64) -> String {
    format!("{CHECKPOINT}{record:016x}")
}

const CHECKPOINT: &str = "checkpoint-";

/// Removes what a checkpoint of `record`, which is on the disk, has replaced.
pub(super) fn remove_before(files: &Files, record: u64) -> io::Result<()> {
    for name in files.list()? {
        let older = number_in(&name, CHECKPOINT).is_some_and(|other| other < record)
            || segment::first_of(&name).is_some_and(|first| first <= record);
        if older {
            files.remove(&name)?;
        }
    }
    Ok(())
}

/// The number in a name that we gave.
fn number_in(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (format!("{number:016x}") == digits).then_some(number)
}

impl Place {
    /// Before the first record of a store. Its first write has revision 2, as in etcd.
    pub(crate) fn beginning(store: StoreId) -> Self {
        Self { record: 0, revision: 1, checksum: checksum(0, &[&store.0]) }
    }
}

impl StoreId {
    /// One that no other store has.
    pub(crate) fn random() -> io::Result<Self> {
        let mut id = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut id)?;
        Ok(Self(id))
    }
}

impl FromStr for StoreId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong = Malformed("it is not the name of a store");
        let number = u128::from_str_radix(text, 16).map_err(|_| wrong)?;
        let id = Self(number.to_be_bytes());
        if id.to_string() == text { Ok(id) } else { Err(wrong) }
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl From<AppendError> for CommitError {
    fn from(err: AppendError) -> Self {
        match err {
            AppendError::Full(err) => Self::Full(err),
            AppendError::Broken(operation, err) => Self::Broken(operation, err),
        }
    }
}
