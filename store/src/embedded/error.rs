//! Why a store does not open.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::Malformed;

/// Why an embedded store could not be opened, or a file of one not be read. What is damaged is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory does not exist and could not be made.
    #[error("create store directory {path}", path = path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The system refused what was to be done to a file.
    #[error("{operation} {path}", path = path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Another process has the store open.
    #[error("{path} is locked: another process uses this store", path = path.display())]
    Locked { path: PathBuf },
    /// The file is not ours.
    #[error("{path} is not a file of a Coracle store", path = path.display())]
    Foreign { path: PathBuf },
    /// The file was written by a newer version.
    #[error("{path} has format {found}; this build knows up to {known}", path = path.display())]
    Version { path: PathBuf, found: u32, known: u32 },
    /// The directory is from before the log.
    #[error(
        "{path} is a store of an earlier version: convert it with `store/migrate-from-sqlite {path} FILE`, move the \
         directory away, and run `coracle restore --from FILE --data-dir DIRECTORY`",
        path = path.display()
    )]
    Outdated { path: PathBuf },
    /// There was a store, and its files are gone.
    #[error("{path} had a store, and its files are gone: {WAY_BACK}", path = path.display())]
    Gone { path: PathBuf },
    /// A file does not have what was written to it.
    #[error("{path} is damaged at byte {offset}: {problem}: {WAY_BACK}", path = path.display())]
    Damaged { path: PathBuf, offset: u64, problem: String },
    /// A migration into the directory was broken off.
    #[error(
        "{path} has what a migration that was broken off has left: run the same `coracle migrate` again, which begins anew",
        path = path.display()
    )]
    Unfinished { path: PathBuf },
    /// What was in the directory went elsewhere.
    #[error(
        "the store in {path} was moved to {to}: use it there; to go back to what it was before, remove the file \
         store.migration in it",
        path = path.display()
    )]
    Moved { path: PathBuf, to: String },
    /// There is no store in the directory.
    #[error("{path} has no store", path = path.display())]
    Absent { path: PathBuf },
    /// A thread of the store could not be started.
    #[error("start a thread of the store")]
    Thread(#[source] io::Error),
}

/// What one can do about it.
const WAY_BACK: &str = "nothing was changed; move the directory away and restore a backup with `coracle restore`, or, \
    where there is none, what `coracle backup --until-damage` saves";

impl OpenError {
    pub(crate) fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { operation, path, source }
    }

    pub(crate) fn damaged(path: &Path, offset: u64, problem: impl Into<String>) -> Self {
        Self::Damaged { path: path.into(), offset, problem: problem.into() }
    }

    pub(crate) fn malformed(path: &Path, offset: u64) -> impl FnOnce(Malformed) -> Self + use<> {
        let path = path.to_owned();
        move |Malformed(problem)| Self::damaged(&path, offset, problem)
    }

    /// Whether there is no store, and never was one.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }

    /// Whether a file was not there, as when it was removed between the reading of names and its opening.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
