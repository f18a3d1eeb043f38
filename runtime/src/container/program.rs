//! Stage exec: finding the program and becoming it.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{StageError, StageResult};
use crate::sys;

/// What containers without a `PATH` search.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program that was there when it was looked for.
pub(super) struct Program(PathBuf);

/// Looks for the program in the container's `PATH`, in the words that users of containerd know.
pub(super) fn find(arguments: &[String], environment: &[(String, String)], directory: &Path) -> StageResult<Program> {
    let name = arguments.first().ok_or_else(|| StageError::Program("no command specified".to_owned()))?;
    if name.contains('/') {
        let path = directory.join(name);
        return match runnable(&path) {
            Ok(()) => Ok(Program(path)),
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                Err(failed(name, &format!("stat {name}: no such file or directory")))
            }
            Err(err) => Err(failed(name, &words(&err))),
        };
    }
    let search = environment.iter().rev().find(|(key, _)| key == "PATH").map_or(DEFAULT_PATH, |(_, value)| value);
    let mut denied = false;
    for folder in search.split(':') {
        let path = directory.join(folder).join(name);
        match runnable(&path) {
            Ok(()) => return Ok(Program(path)),
            Err(err) => denied |= err.kind() == io::ErrorKind::PermissionDenied,
        }
    }
    Err(failed(name, if denied { "permission denied" } else { "executable file not found in $PATH" }))
}

fn runnable(path: &Path) -> io::Result<()> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(())
}

impl Program {
    /// Becomes the program; returns only when that fails.
    pub(super) fn exec(&self, arguments: &[String], environment: &[(String, String)]) -> StageError {
        let Some((name, rest)) = arguments.split_first() else {
            return StageError::Program("no command specified".to_owned());
        };
        if let Err(source) = sys::close_on_exec_from(3) {
            return StageError::Sys { what: "mark descriptors".to_owned(), source };
        }
        let mut command = Command::new(&self.0);
        command.arg0(name).args(rest).env_clear();
        if !environment.iter().any(|(name, _)| name == "PATH") {
            command.env("PATH", DEFAULT_PATH);
        }
        let err = command.envs(environment.iter().map(|(name, value)| (name, value))).exec();
        failed(name, &words(&err))
    }
}

fn failed(name: &str, reason: &str) -> StageError {
    StageError::Program(format!("exec: {name:?}: {reason}"))
}

/// An error as Go's `os/exec` words it.
fn words(err: &io::Error) -> String {
    match err.raw_os_error() {
        Some(libc::EACCES) => "permission denied".to_owned(),
        Some(libc::ENOENT) => "no such file or directory".to_owned(),
        Some(libc::ENOEXEC) => "exec format error".to_owned(),
        _ => match err.kind() {
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            io::ErrorKind::IsADirectory => "is a directory".to_owned(),
            _ => err.to_string(),
        },
    }
}
