//! The embedded backend: SQLite as the durable log, reads and watches from memory.
//!
//! Writes go through one writer that commits many at once. Reads, lists and watches never touch the disk:
//! they use an index of the newest entries and a bounded history of events. An idle store does not wake up.

mod checkpoint;
mod database;
mod expiry;
mod index;
mod recovery;
mod tree;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};

use crate::feed::{Feed, Limits};
use crate::{Entry, Error, Expected, MAX_ENTRY_BYTES, Page, Range, Revision, Store, WatchStream};
use checkpoint::Checkpointer;
use database::Database;
use index::Index;
use recovery::Recovered;
use writer::{Command, Disk, Write, Writer, gone};

/// At most so many writes wait for the writer; more wait for a place in the queue.
const QUEUE: usize = 4096;

/// Where an embedded store lives and how much it keeps.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory of the database; it is created if need be, and belongs to one process at a time.
    pub path: PathBuf,
    pub limits: Limits,
}

impl Options {
    /// A store in this directory with the default limits.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), limits: Limits::default() }
    }
}

/// Why an embedded store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory does not exist and could not be made.
    #[error("create store directory {path}", path = path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A file of the store could not be opened for writing.
    #[error("open {path} for writing", path = path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Another process has the store open.
    #[error("{path} is locked: another process uses this store", path = path.display())]
    Locked { path: PathBuf },
    /// The file is damaged, or not a database of ours.
    #[error("{path} is not a Coracle store", path = path.display())]
    Foreign { path: PathBuf },
    /// The file was written by a newer version.
    #[error("{path} has schema version {found}; this build knows up to {known}", path = path.display())]
    Version { path: PathBuf, found: i64, known: i64 },
    /// There is a write-ahead log but no database that it belongs to.
    #[error("{path} has lost the store.db it belongs to: bring that back, or remove the file", path = path.display())]
    Orphan { path: PathBuf },
    /// A part of the log is gone.
    #[error("{path} lacks the change after revision {after}: restore it from a backup", path = path.display())]
    Gap { path: PathBuf, after: Revision },
    /// The database failed.
    #[error("open store {path}", path = path.display())]
    Database {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    /// The writer's thread could not be started.
    #[error("start the store's writer thread")]
    Thread(#[source] io::Error),
}

/// A store in this process; dropping it waits until what was acknowledged is safely closed.
pub struct EmbeddedStore {
    index: Arc<Index>,
    places: Arc<Semaphore>,
    /// Bounded by `places`; `None` once dropped.
    queue: Option<mpsc::Sender<Command>>,
    writer: Option<JoinHandle<()>>,
}

impl EmbeddedStore {
    /// Opens the store in a directory, or creates it. Blocks for as long as it takes to read the log.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let database = Database::open(&options.path)?;
        let recovered = recovery::recover(&database)?;
        let checkpointer = Checkpointer::start(database.path())?;
        Self::start(recovered, Some(Disk { checkpointer, database }), options.limits)
    }

    /// A new store without a disk; it ends with the process.
    pub fn in_memory() -> Self {
        Self::in_memory_with(Limits::default())
    }

    /// A new store without a disk, with limits other than the default ones.
    ///
    /// # Panics
    /// When the system cannot start a thread.
    pub fn in_memory_with(limits: Limits) -> Self {
        Self::start(Recovered::empty(), None, limits).expect("the system can start a thread")
    }

    /// Finishes the writes under way, ends all watches and closes the files. Later operations fail; reads still work.
    pub async fn close(&self) -> Result<(), Error> {
        self.ask(|reply| Command::Close { reply }).await
    }

    fn start(recovered: Recovered, disk: Option<Disk>, limits: Limits) -> Result<Self, OpenError> {
        let index = Arc::new(Index::new(recovered.newest, Feed::new(recovered.history, limits)));
        let (queue, commands) = mpsc::channel();
        let writer = Writer::new(index.clone(), disk, recovered.expiry, recovered.garbage);
        let writer = thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(&commands))
            .map_err(OpenError::Thread)?;
        let places = Arc::new(Semaphore::new(QUEUE));
        Ok(Self { index, places, queue: Some(queue), writer: Some(writer) })
    }

    fn send(&self, command: Command) -> Result<(), Error> {
        let queue = self.queue.as_ref().expect("the queue lives as long as the store");
        queue.send(command).map_err(gone)
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<Result<(), Error>>) -> Command) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply))?;
        answer.await.map_err(gone)?
    }

    async fn write(
        &self,
        key: &str,
        value: Option<Bytes>,
        expected: Expected,
        ttl: Option<Duration>,
    ) -> Result<Revision, Error> {
        let size = key.len() + value.as_ref().map_or(0, Bytes::len);
        if size > MAX_ENTRY_BYTES {
            let key = key.chars().take(256).collect();
            return Err(Error::TooLarge { key, size, limit: MAX_ENTRY_BYTES });
        }
        let permit = self.places.clone().acquire_owned().await.map_err(gone)?;
        let (reply, answer) = oneshot::channel();
        self.send(Command::Write(Write { key: key.into(), value, expected, ttl, reply, permit }))?;
        answer.await.map_err(gone)?
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        Ok(self.index.newest().entries.get(key).cloned())
    }

    async fn list(&self, range: Range) -> Result<Page, Error> {
        self.index.list(&range)
    }

    async fn put(&self, key: &str, value: Bytes, expected: Expected, ttl: Option<Duration>) -> Result<Revision, Error> {
        self.write(key, Some(value), expected, ttl).await
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, Error> {
        self.write(key, None, Expected::Revision(expected), None).await
    }

    async fn watch(&self, prefix: &str, after: Option<Revision>) -> Result<WatchStream, Error> {
        self.index.feed.watch(prefix, after, 0)
    }

    async fn revision(&self) -> Result<Revision, Error> {
        Ok(self.index.newest().revision)
    }

    async fn request_progress(&self) -> Result<(), Error> {
        self.index.feed.tell_progress(0);
        Ok(())
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.ask(|reply| Command::Compact { revision: revision.max(1), reply }).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.ask(|reply| Command::Check { reply }).await
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        // Without senders the writer finishes its queue and ends.
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            // A panic of the writer was reported by its thread, and failed the writes that waited for it.
            let _ = writer.join();
        }
    }
}
