//! The embedded backend: a checksummed log and checkpoints on disk (`disk`), reads and watches from memory.
//!
//! Writes go through one writer that commits many at once. Reads, lists and watches never touch the disk:
//! they use an index of the newest entries and a bounded history of events. An idle store does not wake up.

pub(crate) mod change;
mod checkpoint;
pub(crate) mod disk;
mod error;
mod expiry;
mod index;
pub(crate) mod recovery;
pub(crate) mod snapshot;
mod tree;
mod writer;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};

use crate::feed::{Feed, Limits};
use crate::{Entry, Error, Expected, MAX_ENTRY_BYTES, Page, Range, Revision, Store, WatchStream};
use checkpoint::Checkpointer;
use disk::Disk;
pub use disk::{Effect, Faults, LogOptions, Operation, Outcome};
pub use error::OpenError;
use index::Index;
use recovery::Recovered;
use writer::{Command, Durable, Write, Writer, gone};

/// At most so many writes wait for the writer; more wait for a place in the queue.
const QUEUE: usize = 4096;

/// Where an embedded store lives and how much it keeps.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory of the store; it is created if need be, and belongs to one process at a time.
    pub path: PathBuf,
    pub limits: Limits,
    pub log: LogOptions,
    /// What a test has become of the work on files, and hears of it; none by default.
    pub faults: Faults,
}

impl Options {
    /// A store in this directory with the default limits.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), limits: Limits::default(), log: LogOptions::default(), faults: Faults::default() }
    }
}

/// A store in this process; dropping it waits until what was acknowledged is safely closed.
pub struct EmbeddedStore {
    index: Arc<Index>,
    places: Arc<Semaphore>,
    hands: Hands,
}

/// Who does the writer's work.
#[expect(clippy::large_enum_variant, reason = "there is one in a store")]
enum Hands {
    /// A thread.
    Thread {
        /// Bounded by `places`; `None` once dropped.
        queue: Option<mpsc::Sender<Command>>,
        writer: Option<JoinHandle<()>>,
    },
    /// Whoever writes; `None` once closed.
    Callers(Mutex<Option<Writer>>),
}

impl EmbeddedStore {
    /// Opens the store in a directory, or creates it. Blocks for as long as it takes to read and check all of it.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let (disk, recovered) = Disk::open(&options)?;
        let checkpointer = Checkpointer::start()?;
        Self::start(recovered, Some(Durable { checkpointer, disk }), options.limits)
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

    /// A new store without a disk or a thread: who writes does the work, so that what happens depends on the order of calls
    /// alone, and on virtual time no time passes. What expires goes with the first write after its time.
    pub fn in_step() -> Self {
        let Recovered { newest, history, expiry, .. } = Recovered::empty();
        let index = Arc::new(Index::new(newest, Feed::new(history, Limits::default())));
        let writer = Writer::new(index.clone(), None, expiry);
        Self { index, places: Arc::new(Semaphore::new(QUEUE)), hands: Hands::Callers(Mutex::new(Some(writer))) }
    }

    fn start(recovered: Recovered, durable: Option<Durable>, limits: Limits) -> Result<Self, OpenError> {
        let index = Arc::new(Index::new(recovered.newest, Feed::new(recovered.history, limits)));
        let (queue, commands) = mpsc::channel();
        let writer = Writer::new(index.clone(), durable, recovered.expiry);
        let writer = thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(&commands))
            .map_err(OpenError::Thread)?;
        let places = Arc::new(Semaphore::new(QUEUE));
        Ok(Self { index, places, hands: Hands::Thread { queue: Some(queue), writer: Some(writer) } })
    }

    fn send(&self, command: Command) -> Result<(), Error> {
        match &self.hands {
            Hands::Thread { queue, .. } => {
                let queue = queue.as_ref().expect("the queue lives as long as the store");
                queue.send(command).map_err(gone)
            }
            Hands::Callers(writer) => {
                let mut writer = writer.lock().expect("no panic under this lock");
                *writer = writer.take().ok_or(()).map_err(gone)?.step(command);
                Ok(())
            }
        }
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

    async fn close(&self) -> Result<(), Error> {
        self.ask(|reply| Command::Close { reply }).await
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        let Hands::Thread { queue, writer } = &mut self.hands else { return };
        // Without senders the writer finishes its queue and ends.
        *queue = None;
        if let Some(writer) = writer.take() {
            // A panic of the writer was reported by its thread, and failed the writes that waited for it.
            let _ = writer.join();
        }
    }
}
