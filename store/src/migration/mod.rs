//! Moves what a cluster stores between an embedded store and etcd, once nobody uses either.
//!
//! ```text
//!  target: "unfinished" ──▶ its revision is brought to the source's ──▶ entries ──▶ both are compared
//!                           ──▶ source: "moved" ──▶ target: says nothing any more
//! ```
//! Values are moved as they are, sealed ones too. No revision that a client has seen is given out again: the target goes on
//! from the source's newest one, and watches from before end as those of compacted revisions do. In etcd every entry is from
//! a new revision, later than all that the source gave out. Neither store is served while it is half-done ([`Standing`]); a
//! migration that was broken off at any moment begins anew when it is run again, with the source as it was.

mod compare;

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::backup::{self, BackupError, Unwritten};
use crate::embedded::change::{Change, Row};
use crate::embedded::disk::{self, Files, Lock, Until};
use crate::embedded::recovery::Recovered;
use crate::embedded::snapshot::Snapshot;
use crate::embedded::{Faults, OpenError};
use crate::etcd::EtcdStore;
use crate::standing::Standing;
use crate::{Error, Limits, Range, Revision, Store as _};
use compare::compare;

/// API servers that use etcd have keys here, which end some seconds after they do.
const SERVERS: &str = "/registry/masterleases/";
/// How long those of servers that were killed take at most to end.
pub const PATIENCE: Duration = Duration::from_secs(25);
const PAUSE: Duration = Duration::from_millis(500);

/// An etcd cluster, and what to call it.
pub struct Place<'a> {
    pub store: &'a EtcdStore,
    /// Its endpoints, for people.
    pub name: &'a str,
    /// How long API servers that were killed may take to end there ([`PATIENCE`]).
    pub patience: Duration,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// API servers may still be using etcd; their keys there end if they do not.
    WaitingForServers,
    /// An earlier attempt is removed from the target.
    BeginningAnew,
    /// etcd's revision is brought up by empty writes.
    Raising { from: Revision, to: Revision },
    /// So many entries are written.
    Writing { entries: u64 },
    /// Both sides are read and compared.
    Comparing,
}

/// What was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// How many entries both sides have.
    pub entries: u64,
    /// How many bytes their keys and values have.
    pub bytes: u64,
    /// Of keys and values on both sides.
    pub checksum: u32,
    /// The newest revision of the source, and of the target.
    pub revisions: (Revision, Revision),
}

/// Why nothing was moved.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// A store cannot be read or made.
    #[error(transparent)]
    Store(#[from] BackupError),
    /// API servers use etcd.
    #[error("etcd is used by API servers at {servers}: stop them, and try again")]
    InUse { servers: String },
    /// The source is no whole store, or not the newest one.
    #[error("the source was moved to {to}: move it from there")]
    SourceMoved { to: String },
    /// The source is what a migration has left.
    #[error("the source has what a migration that was broken off has left: run that again")]
    SourceUnfinished,
    /// The source has a key that is no object's.
    #[error("the source has the key {key}, which is none of a cluster's")]
    Foreign { key: String },
    /// An entry could not be written.
    #[error("write {key} to etcd, which has {done} of {all} entries now: running this again begins anew")]
    Partly {
        key: String,
        done: u64,
        all: u64,
        #[source]
        source: Error,
    },
    /// The sides are not the same in the end.
    #[error("{key} is not the same on both sides: somebody writes to one of them. The source is as it was")]
    Differs { key: String },
}

impl From<OpenError> for MigrationError {
    fn from(err: OpenError) -> Self {
        Self::Store(err.into())
    }
}

/// Moves an embedded store that nobody uses to an etcd that has no objects. At most `empty_writes` are made to bring etcd to
/// the store's revision. The store's directory stays, and says where everything is now.
pub async fn to_etcd(
    directory: &Path,
    to: &Place<'_>,
    empty_writes: u64,
    tell: impl Fn(Step),
) -> Result<Moved, MigrationError> {
    let files = Files::new(directory, Faults::default());
    let absent = || OpenError::Absent { path: directory.into() };
    let lock = Lock::take_existing(&files)?.ok_or_else(absent)?;
    disk::expect_store(&files, &lock)?;
    let unfinished = to.store.standing().await.map_err(etcd)? == Some(Standing::Unfinished);
    refuse_source(disk::standing(&files)?, unfinished)?;
    let loaded = disk::load(&files, Until::End, &Limits::default())?;
    let revision = loaded.place.revision;
    let source = newest(loaded.recovered, revision)?;
    until_unused(to, &tell).await?;
    if unfinished {
        tell(Step::BeginningAnew);
        to.store.remove_all(backup::PREFIX).await.map_err(etcd)?;
    }
    backup::expect_empty(to.store).await?;
    backup::expect_near(to.store.revision().await.map_err(etcd)?, revision, empty_writes)?;
    to.store.set_standing(Some(&Standing::Unfinished)).await.map_err(etcd)?;
    let raised = to.store.advance(revision, |from| {
        if from < revision {
            tell(Step::Raising { from, to: revision });
        }
    });
    raised.await.map_err(etcd)?;
    let all = source.len() as u64;
    tell(Step::Writing { entries: all });
    let written = backup::write_all(&source, to.store).await;
    written.map_err(|Unwritten { key, done, source }| MigrationError::Partly { key, done, all, source })?;
    tell(Step::Comparing);
    let target = to.store.revision().await.map_err(etcd)?;
    let moved = compared(&source, &read_all(to.store, target).await?, (revision, target))?;
    to.store.forget_past().await.map_err(etcd)?;
    disk::set_standing(&files, Some(&Standing::Moved(format!("etcd at {}", to.name))))?;
    to.store.set_standing(None).await.map_err(etcd)?;
    Ok(moved)
}

/// Moves what an etcd has that no API server uses to an embedded store in a directory that has none. etcd keeps all of it, and
/// says where it is now.
pub async fn to_directory(from: &Place<'_>, directory: &Path, tell: impl Fn(Step)) -> Result<Moved, MigrationError> {
    let files = Files::new(directory, Faults::default());
    let mut lock = Lock::take(&files)?;
    let unfinished = disk::standing(&files)? == Some(Standing::Unfinished);
    refuse_source(from.store.standing().await.map_err(etcd)?, unfinished)?;
    until_unused(from, &tell).await?;
    if unfinished {
        tell(Step::BeginningAnew);
        disk::remove_unfinished(&files, &mut lock)?;
    }
    if !disk::is_new(&files, &lock)? {
        return Err(BackupError::Exists { place: format!("a store in {}", directory.display()) }.into());
    }
    disk::set_standing(&files, Some(&Standing::Unfinished))?;
    let revision = from.store.revision().await.map_err(etcd)?;
    let source = read_all(from.store, revision).await?;
    tell(Step::Writing { entries: source.len() as u64 });
    let mut recovered = Recovered::starting_at(revision);
    source.into_iter().for_each(|change| recovered.add(Row::State(change)));
    let loaded = backup::found(&files, &mut lock, recovered, revision)?;
    tell(Step::Comparing);
    let revisions = (revision, loaded.place.revision);
    let target = newest(loaded.recovered, revision)?;
    // As it is now: nobody may have written meanwhile.
    let now = from.store.revision().await.map_err(etcd)?;
    let moved = compared(&target, &read_all(from.store, now).await?, revisions)?;
    from.store.set_standing(Some(&Standing::Moved(directory.display().to_string()))).await.map_err(etcd)?;
    disk::set_standing(&files, None)?;
    Ok(moved)
}

fn etcd(source: Error) -> MigrationError {
    MigrationError::Store(BackupError::Etcd { operation: "prepare etcd", source })
}

/// A source that says it was moved is one whose migration was broken off at its very end, if the target is unfinished.
fn refuse_source(standing: Option<Standing>, target_is_unfinished: bool) -> Result<(), MigrationError> {
    match standing {
        None => Ok(()),
        Some(Standing::Moved(_)) if target_is_unfinished => Ok(()),
        Some(Standing::Moved(to)) => Err(MigrationError::SourceMoved { to }),
        Some(Standing::Unfinished) => Err(MigrationError::SourceUnfinished),
    }
}

/// The entries of a store, which must all be a cluster's.
fn newest(mut recovered: Recovered, revision: Revision) -> Result<Vec<Change>, MigrationError> {
    recovered.skip_to(revision);
    let entries = Snapshot::of(recovered).into_newest();
    match entries.iter().find(|change| !change.key.starts_with(backup::PREFIX)) {
        Some(foreign) => Err(MigrationError::Foreign { key: foreign.key.to_string() }),
        None => Ok(entries),
    }
}

/// Waits until no API server says that it uses etcd.
async fn until_unused(place: &Place<'_>, tell: &impl Fn(Step)) -> Result<(), MigrationError> {
    let end = Instant::now() + place.patience;
    let mut told = false;
    loop {
        let range = Range { prefix: SERVERS.into(), limit: Some(9), ..Range::default() };
        let entries = place.store.list(range).await.map_err(etcd)?.entries;
        if entries.is_empty() {
            return Ok(());
        }
        if Instant::now() >= end {
            let servers: Vec<&str> = entries.iter().map(|entry| &entry.key[SERVERS.len()..]).collect();
            return Err(MigrationError::InUse { servers: servers.join(", ") });
        }
        if !std::mem::replace(&mut told, true) {
            tell(Step::WaitingForServers);
        }
        sleep(PAUSE).await;
    }
}

/// All entries of a cluster in etcd.
async fn read_all(store: &EtcdStore, revision: Revision) -> Result<Vec<Change>, MigrationError> {
    let mut all: Vec<Change> = Vec::new();
    loop {
        let after = all.last().map(|change| change.key.to_string());
        let page = store.export(backup::PREFIX, after.as_deref(), revision).await.map_err(etcd)?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

fn compared(source: &[Change], target: &[Change], revisions: (Revision, Revision)) -> Result<Moved, MigrationError> {
    let compared = compare(source, target, backup::now()).map_err(|key| MigrationError::Differs { key })?;
    let compare::Compared { entries, bytes, checksum } = compared;
    Ok(Moved { entries, bytes, checksum, revisions })
}
