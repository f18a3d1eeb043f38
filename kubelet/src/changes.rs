//! Tells of changes in a directory, so that it is looked at anew (inotify(7)).
//!
//! Looking opens files and the directory itself. Of that nothing is told: who looks whenever told would look for ever.
use std::path::Path;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// Changes of a directory, until it is dropped.
pub(crate) struct Changes {
    told: mpsc::Receiver<()>,
    _watcher: RecommendedWatcher,
}

impl Changes {
    /// Changes of what is in the directory, and below it if the mode says so.
    pub(crate) fn of(directory: &Path, mode: RecursiveMode) -> Result<Self, notify::Error> {
        // One slot is enough: a change while one is pending says nothing new.
        let (sender, told) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(move |event: Result<Event, notify::Error>| {
            if event.map_or(true, |event| is_change(&event.kind)) {
                let _already_pending = sender.try_send(());
            }
        })?;
        watcher.watch(directory, mode)?;
        Ok(Self { told, _watcher: watcher })
    }

    /// Returns once something has changed since the last time, or since it was made.
    pub(crate) async fn next(&mut self) {
        if self.told.recv().await.is_none() {
            // The watcher has given up: nothing more will be told.
            std::future::pending().await
        }
    }
}

/// Files that were written and closed may have changed; what was only read has not.
fn is_change(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(kind) => *kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn writing_is_told_and_looking_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a");
        fs::write(&file, "one").unwrap();
        let mut changes = Changes::of(directory.path(), RecursiveMode::Recursive).unwrap();
        for _ in 0..3 {
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
            assert_eq!(fs::read(&file).unwrap(), b"one");
        }
        // Events come in order: had looking been told, it would be there before this.
        let (sender, mut all) = mpsc::channel(16);
        let mut watcher = notify::recommended_watcher(move |event: Result<Event, notify::Error>| {
            let _full = sender.try_send(event);
        })
        .unwrap();
        watcher.watch(directory.path(), RecursiveMode::Recursive).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let seen = all.recv().await.unwrap().unwrap();
        assert!(!is_change(&seen.kind), "{seen:?}");
        assert!(changes.told.try_recv().is_err());

        fs::write(&file, "two").unwrap();
        changes.next().await;
    }
}
