//! Paths that a container, an image or a user can change meanwhile: the kernel resolves each once, below a directory
//! that is held, to a descriptor, and everything after that goes through the descriptor.
//!
//! See openat2(2). A check of a path that is followed by a use of the same path is a race that a container wins with
//! `renameat2(RENAME_EXCHANGE)`; here is nothing to race with.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::FileKind;
use crate::meanwhile::others_work;

/// The kernel gives up a resolution with `..` in it when something was renamed meanwhile; it is asked so often again.
const TRIES: u32 = 1024;
/// So many links to nothing are followed for one path, as the kernel follows links.
const MAX_LINKS: u32 = 40;

/// How symbolic links are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Only as long as they stay below the directory. One that is absolute or climbs out is refused (`EXDEV`).
    Within,
    /// As if the directory were `/`, the way that the processes of a container see them.
    InRoot,
    /// Anywhere: for paths that only the node's administrator gives.
    Anywhere,
}

/// A directory below which paths are resolved.
#[derive(Debug)]
pub struct Directory {
    held: OwnedFd,
    links: Links,
}

impl Directory {
    /// Opens a directory by a path that nobody but the node can change.
    ///
    /// # Errors
    /// When it is not there or is no directory.
    pub fn open(path: &Path, links: Links) -> io::Result<Self> {
        let held = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { held, links })
    }

    /// Takes a directory that is open already.
    pub fn held(held: OwnedFd, links: Links) -> Self {
        Self { held, links }
    }

    /// Finds what is at `path`: a descriptor (`O_PATH`) to mount, to look at, or to go on from.
    ///
    /// # Errors
    /// When nothing is there, or a link on the way leads where it may not.
    pub fn find(&self, path: &Path) -> io::Result<OwnedFd> {
        self.resolve(path, OFlags::PATH).map_err(Into::into)
    }

    /// Finds what is at `path`; what is missing of it is made as directories of this mode, set-group-id bit included.
    ///
    /// # Errors
    /// When a part of the path is there and is no directory, leads out, or cannot be made.
    pub fn find_or_make(&self, path: &Path, mode: u32) -> io::Result<OwnedFd> {
        self.make(path, mode, MAX_LINKS)
    }

    fn make(&self, path: &Path, mode: u32, links: u32) -> io::Result<OwnedFd> {
        match self.resolve(path, OFlags::PATH) {
            Err(Errno::NOENT) => {}
            found => return Ok(found?),
        }
        let mut parent = self.resolve(Path::new("."), OFlags::PATH)?;
        let mut known = PathBuf::new();
        let mut parts = path.components();
        while let Some(part) = parts.next() {
            let Component::Normal(name) = part else {
                // A path with dots is whole or refused: what it means changes while directories are made.
                if part == Component::ParentDir {
                    return Err(Errno::NOENT.into());
                }
                continue;
            };
            let above = known.clone();
            known.push(name);
            match self.resolve(&known, OFlags::PATH) {
                Err(Errno::NOENT) => {}
                found => {
                    parent = found?;
                    continue;
                }
            }
            others_work();
            parent = match make_directory(&parent, name, mode) {
                Err(err) => match self.behind(&parent, &above, name, links) {
                    Some(target) => return self.make(&clean(&target.join(parts.as_path())), mode, links - 1),
                    None => return Err(err),
                },
                made => made?,
            };
        }
        Ok(parent)
    }

    /// As [`find_or_make`](Self::find_or_make), but with an empty file (mode 0644) at the end.
    ///
    /// # Errors
    /// As there.
    pub fn find_or_make_file(&self, path: &Path) -> io::Result<OwnedFd> {
        self.make_file(path, MAX_LINKS)
    }

    fn make_file(&self, path: &Path, links: u32) -> io::Result<OwnedFd> {
        match self.resolve(path, OFlags::PATH) {
            Err(Errno::NOENT) => {}
            found => return Ok(found?),
        }
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::ISDIR.into()) };
        let folder = self.make(above, 0o755, links)?;
        others_work();
        match rustix::fs::mknodat(&folder, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0) {
            // Somebody was faster, or it is a link to nothing: the next step tells.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(err) => return Err(err.into()),
        }
        others_work();
        if let Some(target) = self.behind(&folder, above, name, links) {
            return self.make_file(&clean(&target), links - 1);
        }
        others_work();
        let found =
            rustix::fs::openat(&folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        if kind(&found)? == Some(FileKind::File) { Ok(found) } else { Err(Errno::LOOP.into()) }
    }

    /// Where a link to nothing leads, in a root: images have them (`/etc/resolv.conf`), and what is mounted there belongs
    /// where they lead.
    fn behind(&self, parent: &OwnedFd, above: &Path, name: &OsStr, links: u32) -> Option<PathBuf> {
        if self.links != Links::InRoot || links == 0 {
            return None;
        }
        let target = rustix::fs::readlinkat(parent, name, Vec::new()).ok()?;
        Some(above.join(OsStr::from_bytes(target.to_bytes())))
    }

    /// Reads a regular file of at most `limit` bytes. Neither a pipe nor a device can hold this up or be touched by it.
    ///
    /// # Errors
    /// When there is no such file, it is not regular, or it is longer.
    pub fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open_regular(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            let text = format!("{} is longer than {limit} bytes", path.display());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        Ok(bytes)
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// When there is no such file, or it is not regular.
    pub fn open_regular(&self, path: &Path) -> io::Result<File> {
        let found = self.find(path)?;
        if kind(&found)? != Some(FileKind::File) {
            let text = format!("{} is not a regular file", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        others_work();
        // The same file again, now to be read: opening what was only looked at has no effect on devices.
        let again = format!("/proc/self/fd/{}", found.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(&again, flags, Mode::empty())?.into())
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = match self.links {
            Links::Within => ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
            Links::InRoot => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
            Links::Anywhere => ResolveFlags::empty(),
        };
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let mut tried = 0;
        loop {
            others_work();
            match rustix::fs::openat2(&self.held, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) if tried < TRIES => tried += 1,
                resolved => return resolved,
            }
        }
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.held.as_fd()
    }
}

/// Finds what is at an absolute path of the node, once; links may lead anywhere on it.
///
/// # Errors
/// When nothing is there.
pub fn find_on_node(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// A path without dots, as it means in a root.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// What a descriptor stands for; `None` for a pipe, and for a link that was not followed.
///
/// # Errors
/// When the kernel does not say.
pub fn kind(descriptor: impl AsFd) -> io::Result<Option<FileKind>> {
    Ok(match FileType::from_raw_mode(rustix::fs::fstat(descriptor)?.st_mode) {
        FileType::Directory => Some(FileKind::Directory),
        FileType::RegularFile => Some(FileKind::File),
        FileType::Socket => Some(FileKind::Socket),
        FileType::CharacterDevice => Some(FileKind::CharDevice),
        FileType::BlockDevice => Some(FileKind::BlockDevice),
        _ => None,
    })
}

/// Makes a directory that was not there a moment ago. What somebody else put there meanwhile is taken if it is a
/// directory, and refused if it is a link.
fn make_directory(parent: &OwnedFd, name: &OsStr, mode: u32) -> io::Result<OwnedFd> {
    let made = match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode & 0o777)) {
        Err(Errno::EXIST) => false,
        made => made.map(|()| true)?,
    };
    others_work();
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = rustix::fs::openat(parent, name, flags | OFlags::RDONLY, Mode::empty())?;
    if made {
        // The umask does not count here.
        rustix::fs::fchmod(&found, Mode::from_raw_mode(mode & 0o7777))?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
