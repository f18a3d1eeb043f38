//! The revisioned key-value store, etcd's model: keys, values, one global revision.
//!
//! Invariant: moves bytes and revisions; never parses a value.
//!
//! Two backends, held to one conformance suite (`tests/conformance`): [`embedded`], a directory or just memory in this
//! process, and [`etcd`], a cluster. Revision 1 is the empty beginning; where a revision is asked for, 0 is read as 1.
#![forbid(unsafe_code)]

pub mod backup;
pub mod embedded;
pub mod etcd;
mod feed;
pub mod migration;
mod standing;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

pub use feed::Limits;

/// Keys and values that together are larger than this are refused (etcd's default limit for a request, 1.5 MiB).
pub const MAX_ENTRY_BYTES: usize = 3 << 19;

/// A store-wide logical time: each committed write has the next one. Never 0 for a write.
pub type Revision = u64;

/// A key's value at some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Arc<str>,
    pub value: Bytes,
    /// The write that created the key (it starts anew after a delete).
    pub create_revision: Revision,
    /// The write that made this value.
    pub mod_revision: Revision,
}

/// What a write expects to find; a write whose expectation fails changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The key must not exist.
    Absent,
    /// The key must exist and its value be from this revision.
    Revision(Revision),
}

/// A range read: all keys that begin with `prefix`, in byte order.
#[derive(Clone, Debug, Default)]
pub struct Range {
    pub prefix: String,
    /// Skips keys up to and including this one (for paging).
    pub after: Option<String>,
    /// At most so many entries; `None` for all.
    pub limit: Option<usize>,
    /// Reads as of this revision; `None` for the newest.
    pub revision: Option<Revision>,
}

/// What a range read found.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The revision that was read: the newest committed one, or the one asked for.
    pub revision: Revision,
    pub entries: Vec<Entry>,
    /// How many entries of the range lie after the last one returned.
    pub remaining: u64,
}

/// One step of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// A key was created or changed.
    Put {
        entry: Entry,
        /// The value it replaces, unless it was created or the old value is no longer known.
        previous: Option<Entry>,
    },
    /// A key was deleted, or expired.
    Delete { key: Arc<str>, revision: Revision, previous: Option<Entry> },
    /// Every event up to this revision has been delivered.
    Progress(Revision),
}

impl WatchEvent {
    /// The revision of the change, or up to which there was none.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put { entry, .. } => entry.mod_revision,
            Self::Delete { revision, .. } | Self::Progress(revision) => *revision,
        }
    }

    /// The key that changed; `None` for [`WatchEvent::Progress`].
    pub fn key(&self) -> Option<&Arc<str>> {
        match self {
            Self::Put { entry, .. } => Some(&entry.key),
            Self::Delete { key, .. } => Some(key),
            Self::Progress(_) => None,
        }
    }

    /// The entry before the change, if there was one and it is known.
    pub fn previous(&self) -> Option<&Entry> {
        match self {
            Self::Put { previous, .. } | Self::Delete { previous, .. } => previous.as_ref(),
            Self::Progress(_) => None,
        }
    }
}

/// Why an operation did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The expectation of a write failed. `current` is what is there instead.
    #[error("{key} is not as expected")]
    Conflict { key: String, current: Option<Box<Entry>> },
    /// The revision asked for is older than what history still holds.
    #[error("revision {asked} is compacted (oldest is {oldest})")]
    Compacted { asked: Revision, oldest: Revision },
    /// The revision asked for has not happened yet.
    #[error("revision {asked} is in the future (newest is {newest})")]
    Future { asked: Revision, newest: Revision },
    /// The reader of a watch is too slow; it must list again.
    #[error("watch fell behind")]
    TooSlow,
    /// The store cannot be reached, cannot work or is shutting down. Nothing was written.
    #[error("store unavailable: {reason}")]
    Unavailable { reason: String },
    /// The store did not say what came of a write: it may have happened, or may happen yet.
    #[error("outcome of the write unknown: {reason}")]
    Unknown { reason: String },
    /// The value or key is larger than the store takes.
    #[error("{key}: {size} bytes, at most {limit}")]
    TooLarge { key: String, size: usize, limit: usize },
    /// The value at a key is there, but cannot be read (or written) as the layer above the store wants it: it is sealed
    /// otherwise, or damaged.
    #[error("{key} cannot be read")]
    Unreadable {
        key: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The disk, database or protocol failed.
    #[error("{operation}")]
    Backend {
        operation: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The events of a watch, in revision order without a gap. The stream ends after an error.
pub type WatchStream = BoxStream<'static, Result<WatchEvent, Error>>;

/// A revisioned key-value store. Every implementation passes the crate's conformance suite.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The newest value of `key`.
    async fn get(&self, key: &str) -> Result<Option<Entry>, Error>;

    /// Reads a range, consistently at one revision.
    async fn list(&self, range: Range) -> Result<Page, Error>;

    /// Writes `value` if `expected` holds and returns the write's revision, once it is durable. With `ttl` the key is
    /// deleted that long after this write (at a second's granularity, never early).
    async fn put(&self, key: &str, value: Bytes, expected: Expected, ttl: Option<Duration>) -> Result<Revision, Error>;

    /// Deletes `key` if its value is from `expected`, and returns the delete's revision, once it is durable.
    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, Error>;

    /// Streams every event of keys under `prefix` with a revision greater than `after`; `None` for from now on.
    /// Sends [`WatchEvent::Progress`] on [`Store::request_progress`], once a replay of the past has caught up, and now
    /// and then while other keys are written. A revision that is compacted is refused here or by the first item.
    async fn watch(&self, prefix: &str, after: Option<Revision>) -> Result<WatchStream, Error>;

    /// The newest committed revision.
    async fn revision(&self) -> Result<Revision, Error>;

    /// Asks that open watches soon send [`WatchEvent::Progress`] with a revision not below the newest one.
    async fn request_progress(&self) -> Result<(), Error>;

    /// Forgets history before `revision`: older reads and watches get [`Error::Compacted`]. So does this if they
    /// already would, or if history begins just there.
    async fn compact(&self, revision: Revision) -> Result<(), Error>;

    /// Fails when the store could not serve a read and a write now.
    async fn check(&self) -> Result<(), Error>;

    /// Finishes the writes under way and ends all watches. Writes fail afterwards, and of a store in this process
    /// everything is on the disk, in files that a copy may be made of.
    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}
