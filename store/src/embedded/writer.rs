//! The one writer: a thread that gathers waiting writes, commits them with one fsync, then shows and acknowledges them.
//!
//! ```text
//!  put, delete ──▶ queue ──▶ stage: compare with the newest entries and the batch so far, assign revisions
//!  expiry, compaction ─────▶   │
//!                              ▼
//!                 commit: one transaction ──▶ publish to the index ──▶ acknowledge ──▶ deliver to watchers
//! ```
//! Nothing is visible before it is durable, and a write whose expectation failed is told so only once what it lost
//! against is durable.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tracing::{error, warn};

use super::checkpoint::{Checkpointer, Duty};
use super::database::{Change, Database, Transaction};
use super::expiry::{self, Expiry};
use super::index::Index;
use crate::feed::closed;
use crate::{Entry, Error, Expected, Revision, WatchEvent};

/// At most so many writes share a commit; bounds how long the first of them waits.
const BATCH: usize = 512;
/// At most so many bytes of values share a commit.
const BATCH_BYTES: usize = 4 << 20;
/// Compacted rows are removed in batches of at least so many, so that an idle store's rare writes touch few pages.
const SWEEP_AT: usize = 128;
/// Old events may stay this much longer, so that a quiet store wakes up rarely to forget them.
const HISTORY_SLACK: Duration = Duration::from_secs(30);

/// What the writer is asked to do.
pub(super) enum Command {
    Write(Write),
    Compact {
        revision: Revision,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    /// Answers once everything sent before is done.
    Check {
        reply: oneshot::Sender<Result<(), Error>>,
    },
    Close {
        reply: oneshot::Sender<Result<(), Error>>,
    },
}

/// A put, or with no value a delete.
pub(super) struct Write {
    pub(super) key: String,
    pub(super) value: Option<Bytes>,
    pub(super) expected: Expected,
    pub(super) ttl: Option<Duration>,
    pub(super) reply: oneshot::Sender<Result<Revision, Error>>,
    /// The place in the queue, given back when the write is done.
    pub(super) permit: OwnedSemaphorePermit,
}

/// Where a durable store keeps its log.
pub(super) struct Disk {
    pub(super) checkpointer: Checkpointer,
    pub(super) database: Database,
}

/// The state of the writer's thread.
pub(super) struct Writer {
    index: Arc<Index>,
    /// `None` for a store in memory.
    disk: Option<Disk>,
    expiry: Expiry,
    /// Rows of the log that are compacted and not yet removed.
    garbage: VecDeque<Revision>,
    /// Why nothing can be written any more.
    broken: Option<String>,
}

/// A write and what became of it, to be told after the commit.
type Outcome = (oneshot::Sender<Result<Revision, Error>>, Result<Revision, Error>, OwnedSemaphorePermit);

/// The writes of one commit.
#[derive(Default)]
struct Batch {
    /// Keys written in this batch, as they will be.
    staged: HashMap<Arc<str>, Option<Entry>>,
    events: Vec<Arc<WatchEvent>>,
    log: Transaction,
    outcomes: Vec<Outcome>,
    expires: Vec<(u64, Arc<str>, Revision)>,
    bytes: usize,
}

impl Writer {
    /// A writer of an index that has just been recovered.
    pub(super) fn new(index: Arc<Index>, disk: Option<Disk>, expiry: Expiry, garbage: VecDeque<Revision>) -> Self {
        Self { index, disk, expiry, garbage, broken: None }
    }

    /// Works until the store is closed or dropped.
    pub(super) fn run(mut self, queue: &Receiver<Command>) {
        let closing = loop {
            let first = match self.next_wake() {
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(wait) => queue.recv_timeout(wait),
            };
            match first {
                Ok(command) => {
                    if let Some(reply) = self.work(command, queue) {
                        break Some(reply);
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.commit(Batch::default()),
                Err(RecvTimeoutError::Disconnected) => break None,
            }
        };
        let result = self.close();
        if let Some(reply) = closing {
            // Whoever asked may have stopped waiting.
            let _ = reply.send(result);
        } else if let Err(err) = result {
            warn!(error = &err as &dyn std::error::Error, "closing the store failed");
        }
    }

    /// Does a command and all that wait behind it. Returns whom to answer when one of them was to close.
    fn work(&mut self, first: Command, queue: &Receiver<Command>) -> Option<oneshot::Sender<Result<(), Error>>> {
        let mut batch = Batch::default();
        let mut next = Some(first);
        while let Some(command) = next.take() {
            match command {
                Command::Write(write) => self.stage(&mut batch, write),
                Command::Compact { revision, reply } => {
                    self.commit(std::mem::take(&mut batch));
                    let _ = reply.send(self.compact(revision));
                }
                Command::Check { reply } => {
                    self.commit(std::mem::take(&mut batch));
                    let _ = reply.send(self.usable());
                }
                Command::Close { reply } => {
                    self.commit(batch);
                    return Some(reply);
                }
            }
            if batch.outcomes.len() < BATCH && batch.bytes < BATCH_BYTES {
                next = queue.try_recv().ok();
            }
        }
        self.commit(batch);
        None
    }

    /// When there is something to do without being asked: a key expires, or history is old.
    fn next_wake(&self) -> Option<Duration> {
        let expires = self.expiry.next_in(SystemTime::now());
        let feed = &self.index.feed;
        let stale = feed.history().until_stale(feed.limits().history_age, Instant::now());
        expires.into_iter().chain(stale.map(|wait| wait + HISTORY_SLACK)).min()
    }

    /// Evaluates a write against the newest entries and the writes before it in the batch.
    fn stage(&self, batch: &mut Batch, write: Write) {
        let Write { key, value, expected, ttl, reply, permit } = write;
        let outcome = self.usable().and_then(|()| {
            let current = self.current(batch, &key);
            let holds = match (expected, &current) {
                (Expected::Absent, None) => true,
                (Expected::Revision(revision), Some(entry)) => entry.mod_revision == revision,
                _ => false,
            };
            if !holds {
                return Err(Error::Conflict { key, current: current.map(Box::new) });
            }
            let expires = ttl.map(|ttl| expiry::deadline(SystemTime::now(), ttl));
            Ok(self.push(batch, key.into(), value, current, expires))
        });
        batch.outcomes.push((reply, outcome, permit));
    }

    fn current(&self, batch: &Batch, key: &str) -> Option<Entry> {
        match batch.staged.get(key) {
            Some(staged) => staged.clone(),
            None => self.index.newest().entries.get(key).cloned(),
        }
    }

    /// Adds a change to the batch and returns its revision.
    fn push(
        &self,
        batch: &mut Batch,
        key: Arc<str>,
        value: Option<Bytes>,
        previous: Option<Entry>,
        expires: Option<u64>,
    ) -> Revision {
        let revision = self.index.newest().revision + batch.events.len() as u64 + 1;
        // One allocation holds the key for as long as the key lives.
        let key = previous.as_ref().map_or(key, |entry| entry.key.clone());
        let create_revision = previous.as_ref().map_or(revision, |entry| entry.create_revision);
        batch.bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        if self.disk.is_some() {
            let (key, value) = (key.clone(), value.clone());
            batch.log.append.push(Change { revision, create_revision, expires, key, value });
        }
        if let Some(second) = expires {
            batch.expires.push((second, key.clone(), revision));
        }
        let entry = value.map(|value| Entry { key: key.clone(), value, create_revision, mod_revision: revision });
        batch.staged.insert(key.clone(), entry.clone());
        batch.events.push(Arc::new(match entry {
            Some(entry) => WatchEvent::Put { entry, previous },
            None => WatchEvent::Delete { key, revision, previous },
        }));
        revision
    }

    /// Adds what expires and what is to be swept, commits, shows the changes and tells everyone.
    fn commit(&mut self, mut batch: Batch) {
        self.expire(&mut batch);
        if let Err(err) = self.persist(&mut batch) {
            return fail(batch, &err);
        }
        for (second, key, revision) in batch.expires.drain(..) {
            self.expiry.add(second, key, revision);
        }
        let forgotten = self.publish(batch);
        self.discard(&forgotten);
    }

    /// Stages the deletion of keys whose time is over, unless they were written since.
    fn expire(&mut self, batch: &mut Batch) {
        if self.broken.is_some() {
            return;
        }
        for (key, revision) in self.expiry.due(SystemTime::now()) {
            if let Some(entry) = self.current(batch, &key).filter(|entry| entry.mod_revision == revision) {
                self.push(batch, key, None, Some(entry), None);
            }
        }
    }

    /// Brings a batch to disk.
    fn persist(&mut self, batch: &mut Batch) -> Result<(), Error> {
        let Some(Disk { database, checkpointer }) = &mut self.disk else { return Ok(()) };
        if batch.log.append.is_empty() {
            return Ok(());
        }
        if self.garbage.len() >= SWEEP_AT {
            let count = self.garbage.len().min(SWEEP_AT.max(4 * batch.log.append.len()));
            batch.log.remove.extend(self.garbage.drain(..count));
            batch.log.compacted = Some(self.index.feed.history().floor());
        }
        if let Err(err) = database.commit(&batch.log) {
            self.garbage.extend(batch.log.remove.drain(..));
            return Err(self.failed("commit", err));
        }
        if checkpointer.committed(database.log_pages()) == Duty::Checkpoint
            && let Err(err) = database.checkpoint()
        {
            warn!(error = &err as &dyn std::error::Error, "checkpoint failed; the store's log grows");
        }
        Ok(())
    }

    /// Notes an error of the database. After all but a full disk the log's state is unknown, so nothing more is written.
    fn failed(&mut self, operation: &'static str, err: rusqlite::Error) -> Error {
        error!(error = &err as &dyn std::error::Error, operation, "the store's database failed");
        if err.sqlite_error_code() != Some(rusqlite::ErrorCode::DiskFull) {
            self.broken = Some(format!("{operation} failed: {err}"));
        }
        Error::Backend { operation, source: Box::new(err) }
    }

    fn usable(&self) -> Result<(), Error> {
        match &self.broken {
            None => Ok(()),
            Some(reason) => Err(Error::Unavailable { reason: reason.clone() }),
        }
    }

    /// Shows committed changes to readers, answers their writers, and hands them to watchers. Returns the events that
    /// history has no more room for.
    fn publish(&self, batch: Batch) -> Vec<Arc<WatchEvent>> {
        let Batch { events, outcomes, .. } = batch;
        self.index.feed.publish(&events, || {
            self.index.apply(&events);
            for (reply, outcome, permit) in outcomes {
                // A writer that stopped waiting does not want to know.
                let _ = reply.send(outcome);
                drop(permit);
            }
        })
    }

    /// Notes which rows of the log nothing refers to once these events are forgotten.
    fn discard(&mut self, forgotten: &[Arc<WatchEvent>]) {
        if self.disk.is_none() {
            return;
        }
        for event in forgotten {
            self.garbage.extend(event.previous().map(|entry| entry.mod_revision));
            if let WatchEvent::Delete { revision, .. } = **event {
                self.garbage.push_back(revision);
            }
        }
    }

    fn compact(&mut self, revision: Revision) -> Result<(), Error> {
        self.usable()?;
        {
            let history = self.index.feed.history();
            history.covers(revision)?;
            if revision == history.floor() {
                return Err(Error::Compacted { asked: revision, oldest: revision });
            }
        }
        if let Some(Disk { database, .. }) = &mut self.disk {
            let log = Transaction { compacted: Some(revision), ..Transaction::default() };
            if let Err(err) = database.commit(&log) {
                return Err(self.failed("compact", err));
            }
        }
        let forgotten = self.index.feed.forget(revision);
        self.discard(&forgotten);
        Ok(())
    }

    fn close(self) -> Result<(), Error> {
        self.index.feed.close();
        match self.disk {
            Some(Disk { database, checkpointer }) if self.broken.is_none() => {
                drop(checkpointer);
                database.close().map_err(|err| Error::Backend { operation: "close", source: Box::new(err) })
            }
            _ => Ok(()),
        }
    }
}

/// Tells the writers of a batch that it was not committed.
fn fail(batch: Batch, err: &Error) {
    let reason = match err {
        Error::Backend { operation, source } => format!("{operation} failed: {source}"),
        other => other.to_string(),
    };
    for (reply, _, permit) in batch.outcomes {
        let _ = reply.send(Err(Error::Unavailable { reason: reason.clone() }));
        drop(permit);
    }
}

/// The error of a write that the writer did not live to answer.
pub(super) fn gone<E>(_: E) -> Error {
    closed()
}
