//! Reads a store's directory, and checks every byte of it.

use super::files::Files;
use super::lock::Lock;
use super::mark::{self, Mark};
use super::segment::{self, Next, Reader};
use super::snapshot::Reader as SnapshotReader;
use super::{CHECKPOINT, Place, StoreId, checkpoint_name, number_in};
use crate::embedded::OpenError;
use crate::embedded::recovery::Recovered;
use crate::feed::Limits;

/// How far to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// To the end, as the store's only user.
    End,
    /// To what was acknowledged when the reading began, while someone may be using the store.
    Mark,
}

/// A store's content, and how it lies on the disk.
pub(crate) struct Loaded {
    pub(crate) mark: Mark,
    pub(crate) place: Place,
    pub(crate) recovered: Recovered,
    pub(super) last: LastSegment,
    /// The last record that the checkpoint covers, and the checkpoint's size.
    pub(super) checkpoint: Option<(u64, u64)>,
    /// Bytes of the logs before the last.
    pub(super) filled: u64,
    /// Files that are no part of the store any more.
    pub(super) superfluous: Vec<String>,
}

/// The segment where the log ends.
pub(super) struct LastSegment {
    pub(super) header: segment::Header,
    pub(super) end: u64,
    /// How many bytes a broken write left after the end.
    pub(super) torn: u64,
}

impl Loaded {
    /// How many bytes of checkpoint and log were read.
    pub(crate) fn bytes(&self) -> u64 {
        self.checkpoint.map_or(0, |(_, size)| size) + self.filled + self.last.end
    }

    /// How many bytes at the end of the log are of a write that was broken off.
    pub(crate) fn torn(&self) -> u64 {
        self.last.torn
    }
}

/// The names in a directory that are a store's.
pub(super) struct Names {
    mark: bool,
    checkpoints: Vec<u64>,
    segments: Vec<u64>,
    /// Beginnings of files that were never put in place.
    unfinished: Vec<String>,
    /// Files of a version that used SQLite.
    outdated: bool,
}

impl Names {
    pub(super) fn read(files: &Files) -> Result<Self, OpenError> {
        let mut found = Self {
            mark: false,
            checkpoints: Vec::new(),
            segments: Vec::new(),
            unfinished: Vec::new(),
            outdated: false,
        };
        for name in files.list().map_err(OpenError::file("list", files.directory()))? {
            let stem = name.strip_suffix(".new");
            let is_ours = |stem| number_in(stem, CHECKPOINT).or(segment::first_of(stem)).is_some();
            if name == mark::UNFINISHED || stem.is_some_and(is_ours) {
                found.unfinished.push(name);
            } else if let Some(record) = number_in(&name, CHECKPOINT) {
                found.checkpoints.push(record);
            } else if let Some(first) = segment::first_of(&name) {
                found.segments.push(first);
            } else if name == mark::NAME {
                found.mark = true;
            } else if name.starts_with("store.db") {
                found.outdated = true;
            }
        }
        found.checkpoints.sort_unstable();
        found.segments.sort_unstable();
        Ok(found)
    }

    /// All of them, the mark first.
    pub(super) fn all(self) -> impl Iterator<Item = String> {
        let mark = self.mark.then(|| mark::NAME.to_owned());
        let checkpoints = self.checkpoints.into_iter().map(checkpoint_name);
        let segments = self.segments.into_iter().map(segment::name);
        mark.into_iter().chain(checkpoints).chain(segments).chain(self.unfinished)
    }
}

/// Whether a directory has no store and never had one. Removes what is left of a creation that was cut short.
pub(crate) fn is_new(files: &Files, lock: &Lock) -> Result<bool, OpenError> {
    let names = Names::read(files)?;
    if names.mark {
        return Ok(false);
    }
    if lock.has_name() {
        return Err(OpenError::Gone { path: files.directory().into() });
    }
    if names.outdated {
        return Err(OpenError::Outdated { path: files.directory().into() });
    }
    let no_mark = || OpenError::damaged(&files.path(mark::NAME), 0, "the file is missing");
    if !names.checkpoints.is_empty() || names.segments.iter().any(|&first| first != 1) {
        return Err(no_mark());
    }
    let mut leftovers = names.unfinished;
    if !names.segments.is_empty() {
        // The mark is made last. Before it nothing can have been written to the log.
        if has_records(files, &segment::name(1))? {
            return Err(no_mark());
        }
        leftovers.push(segment::name(1));
    }
    for name in leftovers {
        files.remove(&name).map_err(OpenError::file("remove", &files.path(&name)))?;
    }
    Ok(true)
}

/// Refuses a directory that has no store, with the reason.
pub(crate) fn expect_store(files: &Files, lock: &Lock) -> Result<(), OpenError> {
    let names = Names::read(files)?;
    let path = files.directory().to_owned();
    match (names.mark, lock.has_name()) {
        (true, _) => Ok(()),
        (false, true) => Err(OpenError::Gone { path }),
        (false, false) if names.outdated => Err(OpenError::Outdated { path }),
        (false, false) => Err(OpenError::Absent { path }),
    }
}

/// Whether a segment has anything but a header.
fn has_records(files: &Files, name: &str) -> Result<bool, OpenError> {
    let path = files.path(name);
    let file = files.open_to_read(name).map_err(OpenError::file("open", &path))?;
    let mut bytes = vec![0; 64 << 10];
    let mut at = super::sector::SECTOR as u64;
    loop {
        let count = file.read_at(&mut bytes, at).map_err(OpenError::file("read", &path))?;
        if count == 0 {
            return Ok(false);
        }
        if bytes[..count].iter().any(|&byte| byte != 0) {
            return Ok(true);
        }
        at += count as u64;
    }
}

/// Reads a store. Changes nothing.
pub(crate) fn load(files: &Files, until: Until, limits: &Limits) -> Result<Loaded, OpenError> {
    let mark = read_mark(files)?;
    let (mut log, Found { checkpoint, segments, superfluous }) = begin(files, mark, until, limits)?;
    let last = log.read(&segments)?;
    let Log { recovered, place, filled, .. } = log;
    Ok(Loaded { mark, place, recovered, last, checkpoint, filled, superfluous })
}

/// A store as far as its log is whole, and what is wrong with the rest.
pub(crate) struct Salvaged {
    pub(crate) store: StoreId,
    pub(crate) place: Place,
    pub(crate) recovered: Recovered,
    pub(crate) damage: Option<OpenError>,
}

/// Reads as much of a damaged store as there is before the damage. Fails when that lies in the checkpoint.
pub(crate) fn salvage(files: &Files, lock: &Lock, limits: &Limits) -> Result<Salvaged, OpenError> {
    let (mark, mut damage) = match (read_mark(files), lock.store()) {
        (Ok(mark), _) => (mark, None),
        (Err(err), Some(store)) => (Mark { store, closed: false, place: Place::beginning(store) }, Some(err)),
        (Err(err), None) => return Err(err),
    };
    let (mut log, found) = begin(files, mark, Until::End, limits)?;
    if let Err(err) = log.read(&found.segments) {
        damage = Some(err);
    }
    Ok(Salvaged { store: mark.store, place: log.place, recovered: log.recovered, damage })
}

fn read_mark(files: &Files) -> Result<Mark, OpenError> {
    let path = files.path(mark::NAME);
    match files.open_to_read(mark::NAME) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            Err(OpenError::Absent { path: files.directory().into() })
        }
        opened => Mark::read(&opened.map_err(OpenError::file("open", &path))?),
    }
}

/// What there is to read, beside the log's beginning.
struct Found {
    checkpoint: Option<(u64, u64)>,
    segments: Vec<u64>,
    superfluous: Vec<String>,
}

/// Reads the checkpoint, if there is one.
fn begin<'a>(files: &'a Files, mark: Mark, until: Until, limits: &'a Limits) -> Result<(Log<'a>, Found), OpenError> {
    let names = Names::read(files)?;
    let (recovered, place, checkpoint) = match names.checkpoints.last() {
        Some(&record) => read_checkpoint(files, mark, record)?,
        None => {
            let place = Place::beginning(mark.store);
            (Recovered::starting_at(place.revision), place, None)
        }
    };
    let mut superfluous = names.unfinished.clone();
    let older = names.checkpoints.iter().rev().skip(1).map(|&record| checkpoint_name(record));
    superfluous.extend(older);
    let passed = names.segments.partition_point(|&first| first <= place.record);
    superfluous.extend(names.segments[..passed].iter().map(|&first| segment::name(first)));
    let log = Log { files, mark, until, limits, recovered, place, filled: 0 };
    Ok((log, Found { checkpoint, segments: names.segments[passed..].to_vec(), superfluous }))
}

/// A checkpoint's content, where it leaves the log, and what it covers with how many bytes.
type Checkpoint = (Recovered, Place, Option<(u64, u64)>);

fn read_checkpoint(files: &Files, mark: Mark, record: u64) -> Result<Checkpoint, OpenError> {
    let name = checkpoint_name(record);
    let path = files.path(&name);
    let file = files.open_to_read(&name).map_err(OpenError::file("open", &path))?;
    let size = file.len().map_err(OpenError::file("read", &path))?;
    let reader = SnapshotReader::new(file)?;
    let header = reader.header();
    if header.store != mark.store {
        return Err(OpenError::damaged(&path, 0, "it belongs to another store"));
    }
    if header.place.record != record {
        return Err(OpenError::damaged(&path, 0, "it is another checkpoint than its name says"));
    }
    let mut recovered = Recovered::starting_at(header.oldest);
    reader.read(|row| recovered.add(row))?;
    Ok((recovered, header.place, Some((record, size))))
}

/// The reading of the log.
struct Log<'a> {
    files: &'a Files,
    mark: Mark,
    until: Until,
    limits: &'a Limits,
    recovered: Recovered,
    place: Place,
    filled: u64,
}

impl Log<'_> {
    /// Reads segments, of which the first should follow the place.
    fn read(&mut self, segments: &[u64]) -> Result<LastSegment, OpenError> {
        for (position, &first) in segments.iter().enumerate() {
            if first != self.place.record + 1 {
                break;
            }
            let name = segment::name(first);
            let path = self.files.path(&name);
            let file = self.files.open_to_read(&name).map_err(OpenError::file("open", &path))?;
            let mut reader = Reader::new(file, self.mark.store, self.place)?;
            let (end, torn) = self.read_segment(&mut reader)?;
            let next = segments.get(position + 1);
            if next.is_none() || self.is_enough() {
                let last = LastSegment { header: reader.header(), end, torn };
                self.check_end(&last).map_err(|problem| OpenError::damaged(&path, end, problem))?;
                return Ok(last);
            }
            if torn > 0 || next != Some(&(self.place.record + 1)) {
                let problem = format!("record {} is missing, and a later log follows", self.place.record + 1);
                return Err(OpenError::damaged(&path, end, problem));
            }
            self.filled += end;
        }
        let path = self.files.path(&segment::name(self.place.record + 1));
        Err(OpenError::damaged(&path, 0, "the file is missing, or a checkpoint in place of it is"))
    }

    /// Reads a segment's records and returns where they end, and how many bytes a broken write left there.
    fn read_segment(&mut self, reader: &mut Reader) -> Result<(u64, u64), OpenError> {
        while !self.is_enough() {
            match reader.next(self.place)? {
                Next::End { at, torn } => return Ok((at, torn)),
                Next::Record(record) => {
                    self.place = record.after;
                    record.changes.into_iter().for_each(|change| self.recovered.event(change));
                    record.compacted.into_iter().for_each(|revision| self.recovered.forget(revision));
                    // The log may be far longer than what is kept of history.
                    self.recovered.trim(self.limits);
                }
            }
        }
        Ok((reader.at(), 0))
    }

    fn is_enough(&self) -> bool {
        self.until == Until::Mark && self.place.record >= self.mark.place.record
    }

    /// Compares where the log ends with what the mark says.
    fn check_end(&self, last: &LastSegment) -> Result<(), String> {
        let (found, marked) = (self.place, self.mark.place);
        if found.record < marked.record {
            let (found, marked) = (found.revision, marked.revision);
            return Err(format!("the log ends at revision {found}, but {marked} was acknowledged"));
        }
        if found.record == marked.record && found != marked {
            return Err("the log is not the one that was acknowledged".into());
        }
        if self.mark.closed && self.until == Until::End && (found != marked || last.torn > 0) {
            return Err("the log goes on after the store was closed".into());
        }
        Ok(())
    }
}
