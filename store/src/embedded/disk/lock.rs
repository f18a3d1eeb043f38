//! `store.lock`: keeps a directory to one process, and remembers that there is a store in it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use super::files::Files;
use super::{Malformed, StoreId};
use crate::embedded::OpenError;

const NAME: &str = "store.lock";
const TEXT: &str = "coracle store ";

/// A locked directory.
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
    /// What the file says; empty in a directory without a store, or of an earlier version.
    text: String,
}

impl Lock {
    /// Makes the directory if need be, and takes it.
    pub(crate) fn take(files: &Files) -> Result<Self, OpenError> {
        let directory = files.directory();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| OpenError::Directory { path: directory.into(), source })?;
        let path = files.path(NAME);
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).to_owned();
        let file = options.open(&path).map_err(OpenError::file("open", &path))?;
        Self::of(file, path)
    }

    /// Takes the directory of a store that is there already; `None` if it was never locked.
    pub(crate) fn take_existing(files: &Files) -> Result<Option<Self>, OpenError> {
        let path = files.path(NAME);
        match File::open(&path) {
            Ok(file) => Self::of(file, path).map(Some),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(OpenError::file("open", &path)(err)),
        }
    }

    fn of(mut file: File, path: PathBuf) -> Result<Self, OpenError> {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { path }),
            Err(TryLockError::Error(source)) => return Err(OpenError::file("lock", &path)(source)),
        }
        let mut bytes = Vec::new();
        // Ours is shorter.
        let read = (&mut file).take(256).read_to_end(&mut bytes);
        read.map_err(OpenError::file("read", &path))?;
        // A power cut may leave zeros of a name that nobody waited for.
        let text = String::from_utf8_lossy(&bytes).trim_matches('\0').to_owned();
        Ok(Self { file, path, text })
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
        let forgotten = self.file.set_len(0).and_then(|()| self.file.sync_all());
        forgotten.map_err(OpenError::file("write", &self.path))?;
        self.text.clear();
        Ok(())
    }

    /// Writes which store is in the directory, or refuses another one than is written.
    pub(crate) fn name(&mut self, store: StoreId) -> Result<(), OpenError> {
        let text = format!("{TEXT}{store}\n");
        if self.has_name() {
            let other = OpenError::malformed(&self.path, 0);
            return if self.text == text { Ok(()) } else { Err(other(Malformed("it names another store"))) };
        }
        let write = |file: &mut File| {
            file.rewind()?;
            file.write_all(text.as_bytes())
        };
        write(&mut self.file).map_err(OpenError::file("write", &self.path))?;
        self.text = text;
        Ok(())
    }
}
