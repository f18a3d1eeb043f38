//! Small files of state: written in one step, read with errors that name them.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, tree};

/// Adds the operation and the path to an I/O error.
pub(crate) fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io { operation, path, source }
}

/// Reads a JSON file; `None` when it does not exist.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let text = match std::fs::read(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(io_error("read", path))?,
    };
    serde_json::from_slice(&text).map(Some).map_err(|err| io_error("parse", path)(err.into()))
}

/// Makes a directory that only this user gets into, also where it was there already.
pub(crate) fn make_private(directory: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(directory).map_err(io_error("make", directory))?;
    std::fs::set_permissions(directory, Permissions::from_mode(0o700)).map_err(io_error("protect", directory))
}

/// Replaces a JSON file; a reader sees the old one or the new one. Only this user may read it.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_vec(value).map_err(|err| io_error("encode", path)(err.into()))?;
    let half = path.with_extension(format!("{}.tmp", random_id()));
    let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half);
    open.and_then(|mut file| file.write_all(&text)).map_err(io_error("write", &half))?;
    std::fs::rename(&half, path).map_err(io_error("replace", path))
}

/// 32 hexadecimal digits that nobody else has.
pub(crate) fn random_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Bytes on disk below a directory, as [`tree::usage`] counts them.
pub(crate) fn usage(directory: &Path) -> Result<u64, Error> {
    tree::usage(directory).map_err(io_error("measure", directory))
}

/// Removes a tree, as [`tree::remove`] does.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    tree::remove(path).map_err(io_error("remove", path))
}
