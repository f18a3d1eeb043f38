//! Makes checkpoints beside the writer, so that commits never wait for one.

use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

use tracing::{debug, warn};

use super::OpenError;
use super::disk::{self, CommitError, Disk, Files, Place, StoreId};
use super::snapshot::Snapshot;

/// After a failure the log grows by so much before the next attempt.
const PATIENCE: u64 = 16 << 20;

/// A thread that writes checkpoints; it ends when this is dropped.
pub(super) struct Checkpointer {
    jobs: Option<SyncSender<Job>>,
    results: Receiver<io::Result<u64>>,
    thread: Option<JoinHandle<()>>,
    /// The checkpoint that is being made: its last record, and how many bytes of log it replaces.
    running: Option<(u64, u64)>,
    /// The next one is not begun before the log is so much longer than it should be.
    patience: u64,
}

/// A checkpoint to be made.
struct Job {
    files: Files,
    store: StoreId,
    place: Place,
    snapshot: Snapshot,
}

impl Checkpointer {
    pub(super) fn start() -> Result<Self, OpenError> {
        let (jobs, queue) = mpsc::sync_channel::<Job>(1);
        let (done, results) = mpsc::sync_channel(1);
        let work = move || {
            while let Ok(job) = queue.recv() {
                if done.send(job.run()).is_err() {
                    break;
                }
            }
        };
        let thread = thread::Builder::new().name("store-checkpoint".into()).spawn(work).map_err(OpenError::Thread)?;
        Ok(Self { jobs: Some(jobs), results, thread: Some(thread), running: None, patience: 0 })
    }

    /// Begins a checkpoint if the log has become too long. Called between commits.
    pub(super) fn committed(
        &mut self,
        disk: &mut Disk,
        snapshot: impl FnOnce() -> Snapshot,
    ) -> Result<(), CommitError> {
        if self.running.is_some() {
            match self.results.try_recv() {
                Ok(result) => self.ended(disk, result),
                Err(_) => return Ok(()),
            }
        }
        let excess = disk.excess();
        if excess <= self.patience {
            return Ok(());
        }
        match self.begin(disk, snapshot) {
            Err(CommitError::Full(err)) => {
                self.failed(disk, &err);
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Makes a checkpoint of all there is, if the log has anything that the last one has not, and ends the thread.
    pub(super) fn finish(mut self, disk: &mut Disk, snapshot: impl FnOnce() -> Snapshot) {
        self.wait(disk);
        if disk.has_log() {
            match self.begin(disk, snapshot) {
                Ok(()) => self.wait(disk),
                Err(CommitError::Full(err) | CommitError::Broken(_, err)) => self.failed(disk, &err),
            }
        }
    }

    fn begin(&mut self, disk: &mut Disk, snapshot: impl FnOnce() -> Snapshot) -> Result<(), CommitError> {
        disk.begin_checkpoint()?;
        let place = disk.place();
        let job = Job { files: disk.files().clone(), store: disk.store(), place, snapshot: snapshot() };
        self.running = Some((place.record, disk.filled()));
        if let Some(jobs) = &self.jobs {
            // There is room: nothing is running. Should the thread have panicked, no result comes either.
            let _ = jobs.try_send(job);
        }
        Ok(())
    }

    fn wait(&mut self, disk: &mut Disk) {
        if self.running.is_some()
            && let Ok(result) = self.results.recv()
        {
            self.ended(disk, result);
        }
    }

    fn ended(&mut self, disk: &mut Disk, result: io::Result<u64>) {
        match (result, self.running.take()) {
            (Ok(size), Some((record, filled))) => {
                debug!(record, size, "made a checkpoint of the store");
                disk.end_checkpoint(record, size, filled);
                self.patience = 0;
            }
            (Err(err), _) => self.failed(disk, &err),
            (Ok(_), None) => {}
        }
    }

    fn failed(&mut self, disk: &Disk, err: &io::Error) {
        warn!(error = err as &dyn std::error::Error, "checkpoint failed; the store's log grows");
        self.patience = disk.excess() + PATIENCE;
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It reports its errors itself.
            let _ = thread.join();
        }
    }
}

impl Job {
    /// Writes the checkpoint aside, puts it in place and removes what it replaces. Returns its size.
    fn run(self) -> io::Result<u64> {
        let Self { files, store, place, snapshot } = self;
        let name = disk::checkpoint_name(place.record);
        let new = format!("{name}.new");
        // An earlier attempt may have failed.
        files.remove(&new)?;
        let file = files.create(&new)?;
        let put_in_place = |size| files.rename(&new, &name).and_then(|()| files.sync_names()).map(|()| size);
        match snapshot.write(&file, store, place).and_then(put_in_place) {
            Ok(size) => {
                if let Err(err) = disk::remove_before(&files, place.record) {
                    warn!(error = &err as &dyn std::error::Error, "files that a checkpoint replaced stay");
                }
                Ok(size)
            }
            Err(err) => {
                // What was written of it takes room that the log needs.
                let _ = files.remove(&new);
                Err(err)
            }
        }
    }
}
