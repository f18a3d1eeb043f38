//! Moves the write-ahead log into the database file, beside the writer, so that commits hardly ever wait for it.

use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use tracing::warn;

use super::{OpenError, database};

/// Starts a checkpoint once the log has grown by so many pages: 4 MiB, SQLite's own default.
const EVERY: usize = 1000;
/// While commits go on the log never starts anew, since there is always some of it left to move. At this size, 64 MiB,
/// the writer moves the rest itself.
const AT_MOST: usize = 16_000;

/// A thread with a connection of its own; it ends when this is dropped.
pub(super) struct Checkpointer {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    /// How long the log was when the thread was last woken.
    woken_at: usize,
}

/// What the writer has to do about the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    Nothing,
    /// Checkpoint before the next commit.
    Checkpoint,
}

impl Checkpointer {
    pub(super) fn start(path: &Path) -> Result<Self, OpenError> {
        let connection = database::connect(path)?;
        // One wish is enough: a checkpoint moves all there is.
        let (wake, wishes) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || work(&connection, &wishes))
            .map_err(OpenError::Thread)?;
        Ok(Self { wake: Some(wake), thread: Some(thread), woken_at: 0 })
    }

    /// Takes note of the log's length in pages after a commit.
    pub(super) fn committed(&mut self, pages: usize) -> Duty {
        if pages < self.woken_at {
            // It started anew.
            self.woken_at = 0;
        }
        if pages >= AT_MOST {
            return Duty::Checkpoint;
        }
        if let Some(wake) = self.wake.as_ref().filter(|_| pages - self.woken_at >= EVERY) {
            self.woken_at = pages;
            // If it is full, a checkpoint is about to begin anyway.
            let _ = wake.try_send(());
        }
        Duty::Nothing
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // It reports its errors itself.
            let _ = thread.join();
        }
    }
}

fn work(connection: &Connection, wishes: &Receiver<()>) {
    while let Ok(()) = wishes.recv() {
        if let Err(err) = database::checkpoint(connection) {
            warn!(error = &err as &dyn std::error::Error, "checkpoint failed; the store's log grows");
        }
    }
}
