//! `store.migration`: there only while a migration into the directory goes on, and for good once the store went elsewhere.

use std::io;

use super::Malformed;
use super::files::Files;
use super::load::Names;
use super::lock::Lock;
use crate::embedded::OpenError;
use crate::standing::{LONGEST_TEXT, Standing};

const NAME: &str = "store.migration";
const NEW: &str = "store.migration.new";

/// What is said of the store in a directory.
pub(crate) fn standing(files: &Files) -> Result<Option<Standing>, OpenError> {
    let path = files.path(NAME);
    let file = match files.open_to_read(NAME) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(OpenError::file("open", &path))?,
    };
    let mut bytes = [0; LONGEST_TEXT + 1];
    let length = file.read_at(&mut bytes, 0).map_err(OpenError::file("read", &path))?;
    let read = std::str::from_utf8(&bytes[..length]).ok().and_then(Standing::read);
    let wrong = || OpenError::malformed(&path, 0)(Malformed("it does not have what was written there"));
    read.map(Some).ok_or_else(wrong)
}

/// Refuses a store that is not all there, or not there any more.
pub(crate) fn refuse_migrated(files: &Files) -> Result<(), OpenError> {
    let path = files.directory().to_owned();
    match standing(files)? {
        None => Ok(()),
        Some(Standing::Unfinished) => Err(OpenError::Unfinished { path }),
        Some(Standing::Moved(to)) => Err(OpenError::Moved { path, to }),
    }
}

/// Says something of it, or nothing any more; that is on the disk when this returns.
pub(crate) fn set_standing(files: &Files, standing: Option<&Standing>) -> Result<(), OpenError> {
    let set = || {
        let Some(standing) = standing else {
            files.remove(NAME)?;
            return files.sync_names();
        };
        files.remove(NEW)?;
        let file = files.create(NEW)?;
        file.write_at(standing.text().as_bytes(), 0)?;
        file.sync()?;
        files.rename(NEW, NAME)?;
        files.sync_names()
    };
    set().map_err(OpenError::file("write", &files.path(NAME)))
}

/// Removes a store whose migration was broken off, its mark first.
pub(crate) fn remove_unfinished(files: &Files, lock: &mut Lock) -> Result<(), OpenError> {
    for name in Names::read(files)?.all() {
        files.remove(&name).map_err(OpenError::file("remove", &files.path(&name)))?;
    }
    lock.forget()
}
