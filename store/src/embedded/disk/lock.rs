//! `store.lock`: keeps a directory to one process, and remembers that there is a store in it.

use std::fs::TryLockError;

use super::files::{Files, StoreFile};
use super::{Malformed, StoreId};
use crate::embedded::OpenError;

const NAME: &str = "store.lock";
const TEXT: &str = "coracle store ";

/// A locked directory.
pub(crate) struct Lock {
    file: StoreFile,
    /// What the file says; empty in a directory without a store, or of an earlier version.
    text: String,
}

impl Lock {
    /// Makes the directory if need be, and takes it.
    pub(crate) fn take(files: &Files) -> Result<Self, OpenError> {
        let directory = files.directory();
        files.make_directory().map_err(|source| OpenError::Directory { path: directory.into(), source })?;
        Self::of(files.open_or_create(NAME).map_err(OpenError::file("open", &files.path(NAME)))?)
    }

    /// Takes the directory of a store that is there already; `None` if it was never locked.
    pub(crate) fn take_existing(files: &Files) -> Result<Option<Self>, OpenError> {
        match files.open_to_read(NAME) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
            opened => Self::of(opened.map_err(OpenError::file("open", &files.path(NAME)))?).map(Some),
        }
    }

    fn of(file: StoreFile) -> Result<Self, OpenError> {
        let path = file.path().to_owned();
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { path }),
            Err(TryLockError::Error(source)) => return Err(OpenError::file("lock", &path)(source)),
        }
        // Ours is shorter.
        let mut bytes = [0; 256];
        let length = file.read_at(&mut bytes, 0).map_err(OpenError::file("read", &path))?;
        // A power cut may leave zeros of a name that nobody waited for.
        let text = String::from_utf8_lossy(&bytes[..length]).trim_matches('\0').to_owned();
        Ok(Self { file, text })
    }

    /// Whether there was a store in the directory.
    pub(crate) fn has_name(&self) -> bool {
        !self.text.is_empty()
    }

    /// The store whose name the file has.
    pub(crate) fn store(&self) -> Option<StoreId> {
        self.text.strip_prefix(TEXT)?.trim_end().parse().ok()
    }

    /// Forgets which store was in the directory: there is none.
    pub(crate) fn forget(&mut self) -> Result<(), OpenError> {
        let forgotten = self.file.set_len(0).and_then(|()| self.file.sync());
        forgotten.map_err(OpenError::file("write", self.file.path()))?;
        self.text.clear();
        Ok(())
    }

    /// Writes which store is in the directory, or refuses another one than is written.
    pub(crate) fn name(&mut self, store: StoreId) -> Result<(), OpenError> {
        let text = format!("{TEXT}{store}\n");
        if self.has_name() {
            let other = OpenError::malformed(self.file.path(), 0);
            return if self.text == text { Ok(()) } else { Err(other(Malformed("it names another store"))) };
        }
        self.file.write_at(text.as_bytes(), 0).map_err(OpenError::file("write", self.file.path()))?;
        self.text = text;
        Ok(())
    }
}
