//! The one writer: a thread that gathers waiting writes, commits them with one fsync, then shows and acknowledges them.
//!
//! ```text
//!  put, delete ──▶ queue ──▶ stage: compare with the newest entries and the batch so far, assign revisions
//!  expiry, compaction ─────▶   │
//!                              ▼
//!                      commit: one record ──▶ publish to the index ──▶ acknowledge ──▶ deliver to watchers
//! ```
//! Nothing is visible before it is durable, and a write whose expectation failed is told so only once what it lost
//! against is durable.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tracing::{error, info, warn};

use super::change::Change;
use super::checkpoint::Checkpointer;
use super::disk::{CommitError, Disk};
use super::expiry::{self, Deadline, Expiry};
use super::index::Index;
use super::snapshot::Snapshot;
use crate::feed::closed;
use crate::{Entry, Error, Expected, Revision, WatchEvent};

/// At most so many writes share a commit; bounds how long the first of them waits.
const BATCH: usize = 512;
/// At most so many bytes of values share a commit.
const BATCH_BYTES: usize = 4 << 20;
/// At most so many keys expire with one commit.
const EXPIRE: usize = 1024;
/// Keys whose expiry could not be committed are tried again after this.
const EXPIRE_AGAIN: Duration = Duration::from_secs(1);
/// Old events may stay this much longer, so that a quiet store wakes up rarely to forget them.
const HISTORY_SLACK: Duration = Duration::from_secs(30);

/// What the writer is asked to do.
pub(super) enum Command {
    Write(Write),
    Compact {
        revision: Revision,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    /// Answers once everything sent before is done, with whether writes succeed.
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

/// Where a durable store keeps its log, and what shortens it.
pub(super) struct Durable {
    pub(super) checkpointer: Checkpointer,
    pub(super) disk: Disk,
}

/// The state of the writer's thread.
pub(super) struct Writer {
    index: Arc<Index>,
    /// `None` for a store in memory.
    durable: Option<Durable>,
    expiry: Expiry,
    /// Before this nothing expires, since it could not be committed.
    expire_after: Option<Instant>,
    /// Why the last commit failed, when the next may succeed.
    full: Option<String>,
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
    log: Vec<Change>,
    outcomes: Vec<Outcome>,
    expires: Vec<Deadline>,
    expired: Vec<Deadline>,
    bytes: usize,
}

impl Writer {
    /// A writer of an index that has just been recovered.
    pub(super) fn new(index: Arc<Index>, durable: Option<Durable>, expiry: Expiry) -> Self {
        Self { index, durable, expiry, expire_after: None, full: None, broken: None }
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
                    if let Some(reply) = self.work(command, || queue.try_recv().ok()) {
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

    /// Does a command now, on the thread of whoever gives it. `None` once it was to close.
    pub(super) fn step(mut self, command: Command) -> Option<Self> {
        match self.work(command, || None) {
            None => Some(self),
            Some(reply) => {
                let _ = reply.send(self.close());
                None
            }
        }
    }

    /// Does a command and all that wait behind it. Returns whom to answer when one of them was to close.
    fn work(
        &mut self,
        first: Command,
        more: impl Fn() -> Option<Command>,
    ) -> Option<oneshot::Sender<Result<(), Error>>> {
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
                    let _ = reply.send(self.check());
                }
                Command::Close { reply } => {
                    self.commit(batch);
                    return Some(reply);
                }
            }
            if batch.outcomes.len() < BATCH && batch.bytes < BATCH_BYTES {
                next = more();
            }
        }
        self.commit(batch);
        None
    }

    /// When there is something to do without being asked: a key expires, or history is old.
    fn next_wake(&self) -> Option<Duration> {
        let expires = self.expiry.next_in(SystemTime::now()).filter(|_| self.broken.is_none());
        let again = self.expire_after.map(|again| again.saturating_duration_since(Instant::now()));
        let expires = expires.max(expires.and(again));
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
        if self.durable.is_some() {
            let (key, value) = (key.clone(), value.clone());
            batch.log.push(Change { revision, create_revision, expires, key, value });
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

    /// Adds what expires, commits, shows the changes and tells everyone.
    fn commit(&mut self, mut batch: Batch) {
        self.expire(&mut batch);
        if let Err(err) = self.persist(&batch.log) {
            return self.fail(batch, &err);
        }
        for (second, key, revision) in batch.expires.drain(..) {
            self.expiry.add(second, key, revision);
        }
        self.publish(batch);
        self.shorten_log();
    }

    /// Stages the deletion of keys whose time is over, unless they were written since.
    fn expire(&mut self, batch: &mut Batch) {
        if self.broken.is_some() || self.expire_after.is_some_and(|again| Instant::now() < again) {
            return;
        }
        for (second, key, revision) in self.expiry.due(SystemTime::now(), EXPIRE) {
            if let Some(entry) = self.current(batch, &key).filter(|entry| entry.mod_revision == revision) {
                self.push(batch, key.clone(), None, Some(entry), None);
                batch.expired.push((second, key, revision));
            }
        }
    }

    /// Brings changes to the disk.
    fn persist(&mut self, changes: &[Change]) -> Result<(), Error> {
        let Some(Durable { disk, .. }) = self.durable.as_mut().filter(|_| !changes.is_empty()) else { return Ok(()) };
        let outcome = disk.commit(changes, None);
        self.note("commit", outcome)
    }

    /// Notes how writing went. After all but a full disk the log's state is unknown, so nothing more is written.
    fn note(&mut self, operation: &'static str, outcome: Result<(), CommitError>) -> Result<(), Error> {
        let err = match outcome {
            Ok(()) => {
                if self.full.take().is_some() {
                    info!("the store has room again");
                }
                self.expire_after = None;
                return Ok(());
            }
            Err(CommitError::Full(err)) => {
                if self.full.is_none() {
                    error!(error = &err as &dyn std::error::Error, operation, "the store's disk is full");
                }
                self.full = Some(format!("{operation} failed: {err}"));
                err
            }
            Err(CommitError::Broken(step, err)) => {
                error!(error = &err as &dyn std::error::Error, operation, step, "the store's disk failed");
                self.broken = Some(format!("{operation} failed: {step}: {err}"));
                err
            }
        };
        self.expire_after = Some(Instant::now() + EXPIRE_AGAIN);
        Err(Error::Backend { operation, source: Box::new(err) })
    }

    /// Says whether a write would succeed now; finds out if the last one did not.
    fn check(&mut self) -> Result<(), Error> {
        self.usable()?;
        if let (Some(Durable { disk, .. }), true) = (&mut self.durable, self.full.is_some()) {
            let outcome = disk.probe();
            self.note("commit", outcome)?;
        }
        Ok(())
    }

    /// Begins a checkpoint when it is time for one.
    fn shorten_log(&mut self) {
        let Some(Durable { disk, checkpointer }) = self.durable.as_mut().filter(|_| self.broken.is_none()) else {
            return;
        };
        let (index, expiry) = (&self.index, &self.expiry);
        let outcome = checkpointer.committed(disk, || snapshot(index, expiry));
        if let Err(err) = outcome {
            // It was logged; whoever writes next is told.
            let _ = self.note("checkpoint", Err(err));
        }
    }

    fn usable(&self) -> Result<(), Error> {
        match &self.broken {
            None => Ok(()),
            Some(reason) => Err(Error::Unavailable { reason: reason.clone() }),
        }
    }

    /// Shows committed changes to readers, answers their writers, and hands them to watchers.
    fn publish(&self, batch: Batch) {
        let Batch { events, outcomes, .. } = batch;
        self.index.feed.publish(&events, || {
            self.index.apply(&events);
            for (reply, outcome, permit) in outcomes {
                // A writer that stopped waiting does not want to know.
                let _ = reply.send(outcome);
                drop(permit);
            }
        });
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
        if let Some(Durable { disk, .. }) = &mut self.durable {
            let outcome = disk.commit(&[], Some(revision));
            self.note("compact", outcome)?;
        }
        self.index.feed.forget(revision);
        Ok(())
    }

    /// Leaves files that say that this is all. After a failure they do not: the next start looks closely.
    fn close(self) -> Result<(), Error> {
        self.index.feed.close();
        match self.durable {
            Some(Durable { mut disk, checkpointer }) if self.broken.is_none() => {
                checkpointer.finish(&mut disk, || snapshot(&self.index, &self.expiry));
                disk.close().map_err(|err| Error::Backend { operation: "close", source: Box::new(err) })
            }
            _ => Ok(()),
        }
    }

    /// Tells the writers of a batch that it was not committed, and remembers what was to expire.
    fn fail(&mut self, batch: Batch, err: &Error) {
        for (second, key, revision) in batch.expired {
            self.expiry.add(second, key, revision);
        }
        let reason = match err {
            Error::Backend { operation, source } => format!("{operation} failed: {source}"),
            other => other.to_string(),
        };
        for (reply, _, permit) in batch.outcomes {
            let _ = reply.send(Err(Error::Unavailable { reason: reason.clone() }));
            drop(permit);
        }
    }
}

/// What is committed and shown now.
fn snapshot(index: &Index, expiry: &Expiry) -> Snapshot {
    let newest = index.newest().clone();
    Snapshot::new(newest, &index.feed.history(), expiry.clone())
}

/// The error of a write that the writer did not live to answer.
pub(super) fn gone<E>(_: E) -> Error {
    closed()
}
