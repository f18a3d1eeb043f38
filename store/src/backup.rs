//! Backups: a whole store in one checksummed file, of either backend and for either.
//!
//! The file is a snapshot as `embedded/disk/snapshot.rs` draws it, so a checkpoint of an embedded store is a backup, too.
//! A backup is read to its end, and is whole, before anything is written anywhere.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::{StreamExt as _, stream};

use crate::embedded::change::Change;
use crate::embedded::disk::{
    self, Files, Lock, Place, Salvaged, SnapshotHeader, SnapshotReader, SnapshotWriter, StoreFile, StoreId, Until,
};
use crate::embedded::recovery::Recovered;
use crate::embedded::snapshot::Snapshot;
use crate::embedded::{Faults, LogOptions, OpenError};
use crate::etcd::EtcdStore;
use crate::{Error, Expected, Limits, Range, Revision, Store as _};

/// What of etcd is ours.
pub(crate) const PREFIX: &str = "/registry/";
/// Reading a store that is in use may meet the moment when files are replaced; it begins anew at most so often.
const TRIES: usize = 200;
/// So often the same thing may be wrong again before it is believed.
const SAME: usize = 9;
/// At most so many empty writes are made to bring etcd's revision up, unless more are allowed: it takes a thousand or more a
/// second.
pub const EMPTY_WRITES: u64 = 2_000_000;
/// So many writes to etcd are under way at once.
const WRITES: usize = 64;

/// What a store or backup has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Which store it is, or was made of.
    pub store: String,
    /// The newest revision.
    pub revision: Revision,
    /// The oldest revision that can be read.
    pub oldest: Revision,
    /// How many keys the newest revision has.
    pub entries: u64,
    /// The bytes of the files that were read.
    pub bytes: u64,
}

/// What a look at an embedded store found; all of it was as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub contents: Contents,
    pub state: State,
}

/// How an embedded store was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It was closed: this is all that there is.
    Closed,
    /// A process uses it: this is what was acknowledged when the look began.
    InUse,
    /// It was killed, or lost power. So many bytes at its end are of a write that was broken off, which the next start
    /// takes away.
    Unclosed { torn: u64 },
}

/// Why a backup was not made or not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The store or backup could not be read, or is damaged.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is something already.
    #[error("{place} exists: nothing is overwritten")]
    Exists { place: String },
    /// The system refused what was to be done to a file.
    #[error("{operation} {path}", path = path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// etcd failed.
    #[error("{operation}")]
    Etcd {
        operation: &'static str,
        #[source]
        source: Error,
    },
    /// etcd took so many entries before it failed.
    #[error("write {key} to etcd, which has {done} of {all} entries now: remove them, then try again")]
    Partly {
        key: String,
        done: u64,
        all: u64,
        #[source]
        source: Error,
    },
    /// Too many empty writes would be needed.
    #[error(
        "etcd is at revision {etcd}, and what goes there at {store}: bringing etcd there takes {needed} empty writes, a \
         thousand or more a second. Allow them (--empty-writes), or make the new etcd of a snapshot of an empty one, by `etcdutl \
         snapshot restore --bump-revision {store} --mark-compacted`"
    )]
    TooFar { etcd: Revision, store: Revision, needed: u64 },
    /// The revision to go on from is none.
    #[error("revision {revision} plus {bump} is too large")]
    Revision { revision: Revision, bump: u64 },
}

/// Whether a directory has, or had, an embedded store.
///
/// # Errors
/// When the directory may not be looked into.
pub fn has_store(directory: &Path) -> io::Result<bool> {
    directory.join(disk::MARK).try_exists()
}

/// Reads all of an embedded store and checks it. If it is in use, it checks what was acknowledged so far.
pub fn check(directory: &Path) -> Result<Report, OpenError> {
    let files = Files::new(directory, Faults::default());
    // Held while the files are read, so that nobody begins to use the store.
    let _lock = match Lock::take_existing(&files) {
        Err(OpenError::Locked { .. }) => {
            let loaded = load_in_use(&files)?;
            return Ok(Report { contents: contents(&loaded), state: State::InUse });
        }
        Ok(Some(lock)) => {
            disk::expect_store(&files, &lock)?;
            Some(lock)
        }
        Ok(None) => None,
        Err(err) => return Err(err),
    };
    let loaded = disk::load(&files, Until::End, &Limits::default())?;
    let state = if loaded.mark.closed { State::Closed } else { State::Unclosed { torn: loaded.torn() } };
    Ok(Report { contents: contents(&loaded), state })
}

/// Makes a backup of an embedded store, in use or not, as a new file. It has all that was acknowledged when this began.
pub fn of_directory(directory: &Path, to: &Path) -> Result<Contents, BackupError> {
    let files = Files::new(directory, Faults::default());
    let loaded = load_in_use(&files)?;
    let (store, place) = (loaded.mark.store, loaded.place);
    // History is of no use to a store that goes on elsewhere.
    let mut recovered = loaded.recovered;
    recovered.skip_to(place.revision);
    let snapshot = Snapshot::of(recovered);
    publish(to, |file| snapshot.write(file, store, place))?;
    verify(to)
}

/// Makes a backup of what a damaged embedded store has before the damage, as a new file. Returns what is wrong with the
/// rest, which is left out; `None` when nothing is. Nobody may be using the store.
pub fn of_damaged_directory(directory: &Path, to: &Path) -> Result<(Contents, Option<OpenError>), BackupError> {
    let files = Files::new(directory, Faults::default());
    let absent = || OpenError::Absent { path: directory.into() };
    let lock = Lock::take_existing(&files)?.ok_or_else(absent)?;
    let Salvaged { store, place, mut recovered, damage } = disk::salvage(&files, &lock, &Limits::default())?;
    recovered.skip_to(place.revision);
    let snapshot = Snapshot::of(recovered);
    publish(to, |file| snapshot.write(file, store, place))?;
    Ok((verify(to)?, damage))
}

/// Makes a backup of what etcd has below `/registry/`, at one revision, as a new file.
pub async fn of_etcd(store: &EtcdStore, to: &Path) -> Result<Contents, BackupError> {
    let failed = |source| BackupError::Etcd { operation: "read etcd", source };
    let revision = store.revision().await.map_err(failed)?;
    let id = StoreId::random().map_err(|source| BackupError::file("name", to)(source))?;
    let place = Place { record: 0, revision, checksum: 0 };
    let header = SnapshotHeader { store: id, place, oldest: revision, made: now().as_secs() };
    let unfinished = Unfinished::create(to)?;
    let written = |source| BackupError::file("write", to)(source);
    let mut writer = SnapshotWriter::new(&unfinished.file, &header).map_err(written)?;
    let mut after = None;
    loop {
        let changes = store.export(PREFIX, after.as_deref(), revision).await.map_err(failed)?;
        let Some(last) = changes.last() else { break };
        after = Some(last.key.to_string());
        changes.iter().try_for_each(|change| writer.state(change)).map_err(written)?;
    }
    writer.finish().map_err(written)?;
    unfinished.publish()?;
    verify(to)
}

/// Reads all of a backup and checks it.
pub fn verify(backup: &Path) -> Result<Contents, BackupError> {
    let (recovered, header, bytes) = read(backup)?;
    Ok(Contents {
        store: header.store.to_string(),
        revision: header.place.revision,
        oldest: header.oldest,
        entries: recovered.entries() as u64,
        bytes,
    })
}

/// Makes an embedded store of a backup, in a directory that has none. It goes on `bump` revisions after the backup's
/// newest one, so that no revision that clients have seen since is given out again; older ones are compacted.
pub fn to_directory(backup: &Path, directory: &Path, bump: u64) -> Result<Contents, BackupError> {
    let (mut recovered, header, _) = read(backup)?;
    let revision = bumped(header.place.revision, bump)?;
    recovered.skip_to(revision);
    let files = Files::new(directory, Faults::default());
    let mut lock = Lock::take(&files)?;
    disk::refuse_migrated(&files)?;
    let loaded = found(&files, &mut lock, recovered, revision)?;
    Ok(contents(&loaded))
}

fn bumped(revision: Revision, bump: u64) -> Result<Revision, BackupError> {
    // Many clients read revisions into signed numbers.
    let bumped = revision.checked_add(bump).filter(|&bumped| i64::try_from(bumped).is_ok());
    bumped.ok_or(BackupError::Revision { revision, bump })
}

/// Makes a store of what was read elsewhere, at its revision, in a directory that has none; reads it again.
pub(crate) fn found(
    files: &Files,
    lock: &mut Lock,
    recovered: Recovered,
    revision: Revision,
) -> Result<disk::Loaded, BackupError> {
    let directory = files.directory();
    if !disk::is_new(files, lock)? {
        return Err(BackupError::Exists { place: format!("a store in {}", directory.display()) });
    }
    // A store of its own: its files and those of the one that it was made of do not mix.
    let store = StoreId::random().map_err(BackupError::file("name the store in", directory))?;
    let place = Place { revision, ..Place::beginning(store) };
    let snapshot = Snapshot::of(recovered);
    let name = disk::checkpoint_name(place.record);
    let new = format!("{name}.new");
    let write = || {
        let file = files.create(&new)?;
        snapshot.write(&file, store, place)?;
        files.rename(&new, &name)
    };
    write().map_err(BackupError::file("write a checkpoint in", directory))?;
    disk::create(files, store, place, &LogOptions::default())?;
    lock.name(store)?;
    Ok(disk::load(files, Until::End, &Limits::default())?)
}

/// How far the revision of an etcd may be brought up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raise {
    /// So far beyond the backup's that none comes again which clients have seen since, by at most so many empty writes.
    Beyond { bump: u64, empty_writes: u64 },
    /// Not at all: clients that have seen later revisions wait for what comes after those, and miss what comes before.
    Not,
}

/// Writes the entries of a backup to an etcd that has nothing below `/registry/`. They get new revisions, all of them later
/// than what [`Raise`] says, and reads and watches of those before end as those of compacted revisions do. What has expired
/// since is left out. `tell` hears where etcd's revision is, and where it has to go. Returns what the backup has.
pub async fn to_etcd(
    backup: &Path,
    store: &EtcdStore,
    raise: Raise,
    tell: impl Fn(Revision, Revision),
) -> Result<Contents, BackupError> {
    let contents = verify(backup)?;
    expect_empty(store).await?;
    let (recovered, ..) = read(backup)?;
    let changes = Snapshot::of(recovered).into_newest();
    let etcd = |source| BackupError::Etcd { operation: "prepare etcd", source };
    if let Raise::Beyond { bump, empty_writes } = raise {
        let target = bumped(contents.revision, bump)?;
        expect_near(store.revision().await.map_err(etcd)?, target, empty_writes)?;
        let told = |from| {
            if from < target {
                tell(from, target);
            }
        };
        store.advance(target, told).await.map_err(etcd)?;
    }
    let all = changes.len() as u64;
    let written = write_all(&changes, store).await;
    written.map_err(|Unwritten { key, done, source }| BackupError::Partly { key, done, all, source })?;
    store.forget_past().await.map_err(etcd)?;
    Ok(contents)
}

/// Refuses to bring etcd's revision to another one by more than so many empty writes.
pub(crate) fn expect_near(etcd: Revision, store: Revision, most: u64) -> Result<(), BackupError> {
    let needed = store.saturating_sub(etcd);
    if needed > most { Err(BackupError::TooFar { etcd, store, needed }) } else { Ok(()) }
}

/// Refuses an etcd that has objects.
pub(crate) async fn expect_empty(store: &EtcdStore) -> Result<(), BackupError> {
    let range = Range { prefix: PREFIX.into(), limit: Some(1), ..Range::default() };
    let page = store.list(range).await.map_err(|source| BackupError::Etcd { operation: "read etcd", source })?;
    if page.entries.is_empty() { Ok(()) } else { Err(BackupError::Exists { place: format!("{PREFIX} in etcd") }) }
}

/// What could not be written to etcd, after so many other entries.
pub(crate) struct Unwritten {
    pub(crate) key: String,
    pub(crate) done: u64,
    pub(crate) source: Error,
}

/// Writes entries that etcd does not have, but for those that have expired.
pub(crate) async fn write_all(changes: &[Change], store: &EtcdStore) -> Result<(), Unwritten> {
    let mut written = stream::iter(changes)
        .map(|change| async move {
            let ttl = change.expires.map(|second| Duration::from_secs(second).saturating_sub(now()));
            if ttl.is_some_and(|ttl| ttl.is_zero()) {
                return Ok(());
            }
            let value = change.value.clone().unwrap_or_default();
            match store.put(&change.key, value.clone(), Expected::Absent, ttl).await {
                // A write of an attempt that was broken off, which came late.
                Err(Error::Conflict { current: Some(current), .. }) if current.value == value => Ok(()),
                put => put.map(drop).map_err(|source| (change.key.to_string(), source)),
            }
        })
        .buffer_unordered(WRITES);
    let mut done = 0;
    while let Some(outcome) = written.next().await {
        outcome.map_err(|(key, source)| Unwritten { key, done, source })?;
        done += 1;
    }
    Ok(())
}

/// A file under a name of its own until it is complete.
struct Unfinished<'a> {
    files: Files,
    file: StoreFile,
    name: String,
    to: &'a Path,
}

impl<'a> Unfinished<'a> {
    fn create(to: &'a Path) -> Result<Self, BackupError> {
        if to.symlink_metadata().is_ok() {
            return Err(BackupError::Exists { place: to.display().to_string() });
        }
        let no_name = || BackupError::file("write", to)(io::ErrorKind::IsADirectory.into());
        let name = to.file_name().and_then(|name| name.to_str()).ok_or_else(no_name)?;
        let name = format!("{name}.{}.unfinished", std::process::id());
        let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let files = Files::new(directory, Faults::default());
        let file = files.create(&name).map_err(BackupError::file("create", &files.path(&name)))?;
        Ok(Self { files, file, name, to })
    }

    /// Gives the file its name, which nothing may have.
    fn publish(self) -> Result<(), BackupError> {
        let publish = || {
            fs::hard_link(self.files.path(&self.name), self.to)?;
            self.files.sync_names()
        };
        publish().map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => BackupError::Exists { place: self.to.display().to_string() },
            _ => BackupError::file("write", self.to)(source),
        })
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        // What is left of it takes room, and is no backup.
        let _ = self.files.remove(&self.name);
    }
}

fn publish(to: &Path, write: impl FnOnce(&StoreFile) -> io::Result<u64>) -> Result<(), BackupError> {
    let unfinished = Unfinished::create(to)?;
    write(&unfinished.file).map_err(BackupError::file("write", to))?;
    unfinished.publish()
}

/// Reads a store that a process may be using: up to its mark, beginning anew when a checkpoint replaced files meanwhile.
/// Then other files are meant: what is wrong in the same words again and again is wrong.
fn load_in_use(files: &Files) -> Result<disk::Loaded, OpenError> {
    let (mut last, mut same) = (String::new(), 0);
    for _ in 1..TRIES {
        let err = match disk::load(files, Until::Mark, &Limits::default()) {
            Err(err) if err.is_missing() || matches!(err, OpenError::Damaged { .. }) => err,
            outcome => return outcome,
        };
        let words = err.to_string();
        same = if words == last { same + 1 } else { 0 };
        if same == SAME {
            return Err(err);
        }
        last = words;
    }
    disk::load(files, Until::Mark, &Limits::default())
}

fn read(backup: &Path) -> Result<(Recovered, SnapshotHeader, u64), OpenError> {
    let file = fs::File::open(backup).map_err(OpenError::file("open", backup))?;
    let reader = SnapshotReader::new(StoreFile::from_file(file, backup.into()))?;
    let (header, bytes) = (reader.header(), reader.len());
    let mut recovered = Recovered::starting_at(header.oldest);
    reader.read(|row| recovered.add(row))?;
    Ok((recovered, header, bytes))
}

fn contents(loaded: &disk::Loaded) -> Contents {
    Contents {
        store: loaded.mark.store.to_string(),
        revision: loaded.place.revision,
        oldest: loaded.recovered.oldest(),
        entries: loaded.recovered.entries() as u64,
        bytes: loaded.bytes(),
    }
}

pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl BackupError {
    fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { operation, path, source }
    }
}
