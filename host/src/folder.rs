//! A folder that one process at a time works in.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::claim::{ClaimError, Holder, failed};

/// The file in the folder that is locked. It stays: removing it would let two processes lock two files of this name.
const FILE: &str = "lock";
const LONGEST: u64 = 64 * 1024;

/// A lock on a folder, held until it is dropped or its process ends. The folder may be shared between containers.
#[derive(Debug)]
pub struct FolderLock {
    /// `None` where this process held the folder before.
    _file: Option<File>,
}

impl FolderLock {
    /// Locks a folder that is there; `Err` with the holder's name where another process has it. Blocks for a moment.
    pub fn take(folder: &Path) -> Result<Result<Self, String>, ClaimError> {
        let path = folder.join(FILE);
        let opened = OpenOptions::new().create(true).read(true).write(true).truncate(false).mode(0o600).open(&path);
        let mut file = opened.map_err(failed(&path))?;
        match file.try_lock() {
            Ok(()) => {
                let text = serde_json::to_vec(Holder::this()).map_err(|err| failed(&path)(err.into()))?;
                file.set_len(0).and_then(|()| file.rewind()).map_err(failed(&path))?;
                file.write_all(&text).map_err(failed(&path))?;
                Ok(Ok(Self { _file: Some(file) }))
            }
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                (&file).take(LONGEST).read_to_string(&mut text).map_err(failed(&path))?;
                Ok(match serde_json::from_str::<Holder>(&text) {
                    Ok(holder) if holder.is_this() => Ok(Self { _file: None }),
                    Ok(holder) => Err(holder.to_string()),
                    // It has locked the file and not written its name yet.
                    Err(_) => Err("another process".to_owned()),
                })
            }
            Err(TryLockError::Error(err)) => Err(failed(&path)(err)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_another_process_has_is_refused_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::take(folder.path()).unwrap().unwrap();
        assert!(FolderLock::take(folder.path()).unwrap().is_ok(), "it is ours");
        let other = r#"{"identity":"other","pid":12,"command":"kubelet --bridge x"}"#;
        std::fs::write(folder.path().join(FILE), other).unwrap();
        assert_eq!(FolderLock::take(folder.path()).unwrap().unwrap_err(), "process 12 (kubelet --bridge x)");
        drop(first);
        assert!(FolderLock::take(folder.path()).unwrap().is_ok());
    }
}
