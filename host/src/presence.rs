//! Signs of life: a process shows under a name that it lives, and others of this machine see when it has died.
//!
//! ```text
//! /run/coracle/presence/<name>    locked (flock) for as long as its process lives
//! ```
//! A process that is stopped lives. Of a name without a file nothing is known: its process may be on another machine, or in
//! a container with another `/run`. So "dead" is said only of a file that is there and that nobody holds.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, flock, fstat, openat, renameat, unlinkat};

/// Where the signs of this machine are.
pub const DIRECTORY: &str = "/run/coracle/presence";
const LONGEST: usize = 128;
/// Other users may not write there: they could have the living seem dead.
const OTHERS_WRITE: u32 = 0o022;

/// The sign of this process, until it is dropped or the process ends.
#[derive(Debug)]
pub struct Presence {
    folder: OwnedFd,
    name: String,
    /// Locked.
    _file: OwnedFd,
}

impl Presence {
    /// Shows that this process lives, in a folder that is made if it is missing. A name has lower-case letters, digits and
    /// dashes, and nobody else may ever have had it.
    pub fn show(directory: &Path, name: &str) -> io::Result<Self> {
        if !is_name(name) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no name for a process")));
        }
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(directory, flags | OFlags::RDONLY, Mode::empty())?;
        let status = fstat(&folder)?;
        if status.st_uid != rustix::process::geteuid().as_raw() || status.st_mode & OTHERS_WRITE != 0 {
            let why = format!("others may write in {}", directory.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        // It gets its name when it is locked: until then it would look like that of a dead process.
        let unnamed = format!("{name}.new");
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
        let file = openat(&folder, &unnamed, flags, Mode::RUSR | Mode::WUSR)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        renameat(&folder, &unnamed, &folder, name)?;
        Ok(Self { folder, name: name.to_owned(), _file: file })
    }

    /// Whether the process that showed itself under another name has died. `false` if nothing is known of it.
    pub fn has_died(&self, other: &str) -> bool {
        is_name(other) && self.unheld(other).is_some()
    }

    /// Removes what the dead have left whose names begin with this.
    pub fn bury(&self, beginning: &str) {
        let Ok(entries) = Dir::read_from(&self.folder) else { return };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name.starts_with(beginning) && name != self.name && self.has_died(name) {
                // What stays is looked at again by the next.
                let _stays = unlinkat(&self.folder, name, AtFlags::empty());
            }
        }
    }

    /// The file of a name, if it is there and nobody holds it.
    fn unheld(&self, name: &str) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&self.folder, name, flags, Mode::empty()).ok()?;
        // Shared: several may look at once.
        flock(&file, FlockOperation::NonBlockingLockShared).ok().map(|()| file)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        // One that stays is that of a dead process, as it should be.
        let _stays = unlinkat(&self.folder, self.name.as_str(), AtFlags::empty());
    }
}

fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LONGEST).contains(&name.len()) && name.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_living_are_not_said_to_be_dead_and_of_strangers_nothing_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("presence");
        let (one, other) = (Presence::show(&folder, "a-1").unwrap(), Presence::show(&folder, "a-2").unwrap());
        assert!(!one.has_died("a-2") && !other.has_died("a-1") && !one.has_died("a-1"));
        for unknown in ["a-3", "", ".", "..", "../a-1", "a/1", "A", "a-1.new"] {
            assert!(!one.has_died(unknown), "{unknown}");
        }
        drop(other);
        assert!(!one.has_died("a-2"), "who goes in order leaves nothing behind");
    }

    #[test]
    fn a_process_that_was_killed_is_seen_to_be_dead_and_its_file_goes() {
        let directory = tempfile::tempdir().unwrap();
        let witness = Presence::show(directory.path(), "w-1").unwrap();
        let path = directory.path().join("a-1");
        std::fs::write(&path, "").unwrap();
        // flock(1) holds the lock as a process of ours would.
        let mut holder = Command::new("flock")
            .args(["--no-fork", "--exclusive"])
            .arg(&path)
            .args(["sh", "-c", "echo; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        assert!(!witness.has_died("a-1"));
        witness.bury("a-");
        assert!(path.exists());
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert!(witness.has_died("a-1"));
        witness.bury("b-");
        assert!(path.exists());
        witness.bury("a-");
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_that_others_may_write_in_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let err = Presence::show(directory.path(), "a-1").unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::PermissionDenied);
        assert!(Presence::show(directory.path(), "../a").is_err());
    }
}
