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
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::fs::RenameFlags;

    use super::*;

    fn volume() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("volume");
        fs::create_dir(&root).unwrap();
        (directory, root)
    }

    fn inode(found: &OwnedFd) -> u64 {
        rustix::fs::fstat(found).unwrap().st_ino
    }

    #[test]
    fn links_lead_anywhere_within_and_nowhere_else() {
        let (outer, root) = volume();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(outer.path().join("secret"), "x").unwrap();
        for (name, target) in
            [("in", "a/b"), ("up", "a/../a"), ("abs", "/etc"), ("out", "../secret"), ("far", "a/../../secret")]
        {
            symlink(target, root.join(name)).unwrap();
        }
        let within = Directory::open(&root, Links::Within).unwrap();
        assert_eq!(inode(&within.find(Path::new("in")).unwrap()), fs::metadata(root.join("a/b")).unwrap().ino());
        assert!(within.find(Path::new("up/b")).is_ok());
        for name in ["abs", "out", "far", "../secret", "/etc", "a/../../secret"] {
            let err = within.find_or_make(Path::new(name), 0o755).unwrap_err();
            assert_eq!(err.raw_os_error(), Some(libc::EXDEV), "{name}: {err}");
        }
        let rooted = Directory::open(&root, Links::InRoot).unwrap();
        assert!(rooted.find(Path::new("abs")).is_err(), "there is no /etc in the root");
        assert_eq!(inode(&rooted.find(Path::new("../../a")).unwrap()), fs::metadata(root.join("a")).unwrap().ino());
    }

    #[test]
    fn what_is_missing_is_made_with_the_mode_and_through_no_dangling_link() {
        let (outer, root) = volume();
        symlink("nothing", root.join("dangling")).unwrap();
        symlink(outer.path().join("new"), root.join("trap")).unwrap();
        let within = Directory::open(&root, Links::Within).unwrap();
        let made = within.find_or_make(Path::new("x/y"), 0o2777).unwrap();
        assert_eq!(kind(&made).unwrap(), Some(FileKind::Directory));
        for part in ["x", "x/y"] {
            assert_eq!(fs::metadata(root.join(part)).unwrap().permissions().mode() & 0o7777, 0o2777, "{part}");
        }
        for name in ["dangling/z", "trap/z", "trap", "x/../../z"] {
            assert!(within.find_or_make(Path::new(name), 0o755).is_err(), "{name}");
        }
        assert!(!outer.path().join("new").exists() && !outer.path().join("z").exists());
        within.find_or_make_file(Path::new("p/q/file")).unwrap();
        assert!(fs::metadata(root.join("p/q/file")).unwrap().is_file());
        assert!(within.find_or_make_file(Path::new("dangling")).is_err());
    }

    #[test]
    fn links_to_nothing_in_a_root_lead_where_they_say_within_it() {
        let (outer, root) = volume();
        fs::create_dir(root.join("etc")).unwrap();
        symlink("../run/resolve/stub.conf", root.join("etc/resolv.conf")).unwrap();
        symlink("/../../../run", root.join("var")).unwrap();
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        let rooted = Directory::open(&root, Links::InRoot).unwrap();
        rooted.find_or_make_file(Path::new("/etc/resolv.conf")).unwrap();
        assert!(fs::metadata(root.join("run/resolve/stub.conf")).unwrap().is_file());
        rooted.find_or_make(Path::new("/var/lock/x"), 0o755).unwrap();
        assert!(root.join("run/lock/x").is_dir() && !outer.path().join("run").exists());
        assert!(rooted.find_or_make(Path::new("/a/x"), 0o755).is_err());
    }

    #[test]
    fn a_clean_path_is_absolute_and_without_dots() {
        let check = |path: &str, expected: &str| assert_eq!(clean(Path::new(path)), Path::new(expected));
        check("/a/./b/../c/", "/a/c");
        check("../../proc", "/proc");
        check("", "/");
    }

    #[test]
    fn only_regular_files_of_a_bounded_length_are_read() {
        let (_outer, root) = volume();
        fs::write(root.join("file"), "12345").unwrap();
        rustix::fs::mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
        symlink("/dev/zero", root.join("zero")).unwrap();
        let within = Directory::open(&root, Links::Within).unwrap();
        assert_eq!(within.read(Path::new("file"), 5).unwrap(), b"12345");
        assert_eq!(within.read(Path::new("file"), 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        for name in ["pipe", "zero", "."] {
            assert!(within.read(Path::new(name), 5).is_err(), "{name}");
        }
    }

    /// A container's favourite: `way` is a directory one moment and a link out of the volume the next.
    #[test]
    fn a_swap_of_a_directory_and_a_link_never_leads_out() {
        const TRIES: u64 = 20_000;
        let (outer, root) = volume();
        fs::create_dir_all(outer.path().join("node/sub")).unwrap();
        fs::write(outer.path().join("node/file"), "of the node").unwrap();
        fs::create_dir_all(root.join("way/sub")).unwrap();
        fs::write(root.join("way/file"), "of the pod").unwrap();
        symlink(outer.path().join("node"), root.join("link")).unwrap();
        let node = fs::metadata(outer.path().join("node/sub")).unwrap().ino();
        let (stop, mut escapes, mut refused) = (AtomicBool::new(false), 0, 0_u64);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let held = Directory::open(&root, Links::Within).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    rustix::fs::renameat_with(&held, "way", &held, "link", RenameFlags::EXCHANGE).unwrap();
                }
            });
            let within = Directory::open(&root, Links::Within).unwrap();
            for round in 0..TRIES {
                let fresh = PathBuf::from(format!("way/new{}", round % 64));
                match within.find_or_make(Path::new("way/sub"), 0o777) {
                    Ok(found) => escapes += u64::from(inode(&found) == node),
                    Err(_) => refused += 1,
                }
                let _ = within.find_or_make(&fresh, 0o777);
                let read = within.read(Path::new("way/file"), 64).unwrap_or_default();
                escapes += u64::from(read == b"of the node");
            }
            stop.store(true, Ordering::Relaxed);
        });
        // Two entries are the test's own.
        escapes += fs::read_dir(outer.path().join("node")).unwrap().count() as u64 - 2;
        faults::Attack::new("runtime: a directory of a volume swapped with a link while it is resolved")
            .tried(3 * TRIES, escapes)
            .figure("refused", refused)
            .record();
        assert!(refused > 0 && refused < TRIES, "the swaps were seen: {refused}");
    }
}
