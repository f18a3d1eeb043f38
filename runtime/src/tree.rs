//! Measuring and removing trees that containers have made: whatever their depth, and whatever is renamed meanwhile.
//!
//! No link is followed and no path is built: a walk goes down by descriptors that it opens relative to one another and
//! up by those, or by `..` when it is deep, if that is still the directory that it came from.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::meanwhile::others_work;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Directories that stay open on the way down.
const HELD: usize = 64;
/// A directory that somebody goes on filling while it is removed is given up after so many rounds.
const ROUNDS: u32 = 1000;

/// Bytes on disk below a directory; links to one file count once for each name. What vanishes meanwhile takes no space.
///
/// # Errors
/// When a directory cannot be read.
pub fn usage(directory: &Path) -> io::Result<u64> {
    let start = rustix::fs::open(directory, DIRECTORY, Mode::empty())?;
    let mut total = 0;
    let mut walk = Walk::new(start)?;
    walk.note(|_, stat| total += u64::try_from(stat.st_blocks).unwrap_or(0) * 512)?;
    loop {
        match walk.next_pending() {
            Some(name) => {
                if walk.descend(name)? {
                    walk.note(|_, stat| total += u64::try_from(stat.st_blocks).unwrap_or(0) * 512)?;
                }
            }
            None if walk.is_at_top() => return Ok(total),
            None => {
                walk.ascend_somewhere()?;
            }
        }
    }
}

/// Removes a file or a directory with everything below it. What is gone already is fine.
///
/// # Errors
/// When something cannot be removed, or somebody goes on making more.
pub fn remove(path: &Path) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL.into()) };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let parent = match rustix::fs::open(folder, DIRECTORY.difference(OFlags::NOFOLLOW), Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    others_work();
    match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(err) => return Err(err.into()),
    }
    for _ in 0..ROUNDS {
        others_work();
        let start = match rustix::fs::openat(&parent, name, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            opened => opened?,
        };
        empty(start)?;
        others_work();
        match rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(err) => return Err(err.into()),
        }
    }
    Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, format!("{} fills up while it is removed", path.display())))
}

/// Removes everything below a directory that is held, whatever its name leads to by now.
///
/// # Errors
/// When something cannot be removed.
pub fn remove_below(directory: &OwnedFd) -> io::Result<()> {
    // A descriptor of its own: where this one's reading stands is its holder's affair.
    empty(rustix::fs::openat(directory, c".", DIRECTORY, Mode::empty())?)
}

/// Removes everything below a directory.
fn empty(start: OwnedFd) -> io::Result<()> {
    let mut walk = Walk::new(start)?;
    let mut rounds = 0;
    walk.unlink_files()?;
    loop {
        others_work();
        if let Some(name) = walk.next_pending() {
            match rustix::fs::unlinkat(&walk.here, &name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::NOTDIR) => rustix::fs::unlinkat(&walk.here, &name, AtFlags::empty())?,
                Err(Errno::NOTEMPTY | Errno::EXIST) => {
                    if walk.descend(name)? {
                        walk.unlink_files()?;
                    }
                }
                Err(err) => return Err(err.into()),
            }
        } else if walk.is_at_top() {
            return Ok(());
        } else {
            let name = walk.ascend()?;
            others_work();
            match rustix::fs::unlinkat(&walk.here, &name, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY | Errno::EXIST) if rounds < ROUNDS => {
                    rounds += 1;
                    walk.later(name);
                }
                Ok(()) | Err(Errno::NOENT) => {}
                Err(err) => return Err(err.into()),
            }
        }
    }
}

/// A directory on the way from the top of a walk to where it is.
struct Level {
    /// Its name in the level above.
    name: CString,
    device: u64,
    inode: u64,
    held: Option<OwnedFd>,
    /// Directories in it that are not done.
    pending: Vec<CString>,
}

struct Walk {
    here: OwnedFd,
    levels: Vec<Level>,
}

impl Walk {
    fn new(start: OwnedFd) -> io::Result<Self> {
        let mut walk = Self { here: start, levels: Vec::new() };
        walk.push(CString::default())?;
        Ok(walk)
    }

    fn push(&mut self, name: CString) -> io::Result<()> {
        let stat = rustix::fs::fstat(&self.here)?;
        let held = if self.levels.len() < HELD { Some(self.here.try_clone()?) } else { None };
        self.levels.push(Level { name, device: stat.st_dev, inode: stat.st_ino, held, pending: Vec::new() });
        Ok(())
    }

    fn is_at_top(&self) -> bool {
        self.levels.len() == 1
    }

    fn next_pending(&mut self) -> Option<CString> {
        self.levels.last_mut()?.pending.pop()
    }

    fn later(&mut self, name: CString) {
        if let Some(level) = self.levels.last_mut() {
            level.pending.push(name);
        }
    }

    /// Goes into a directory here. False if there is none of this name any more.
    fn descend(&mut self, name: CString) -> io::Result<bool> {
        others_work();
        match rustix::fs::openat(&self.here, &name, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
            opened => self.here = opened?,
        }
        self.push(name)?;
        Ok(true)
    }

    /// Goes up; returns the name of what it leaves. Fails if that has been moved elsewhere.
    fn ascend(&mut self) -> io::Result<CString> {
        others_work();
        let left = self.levels.pop().ok_or(Errno::INVAL)?;
        let level = self.levels.last().ok_or(Errno::INVAL)?;
        self.here = match &level.held {
            Some(held) => held.try_clone()?,
            None => {
                let above = rustix::fs::openat(&self.here, c"..", DIRECTORY, Mode::empty())?;
                let stat = rustix::fs::fstat(&above)?;
                if (stat.st_dev, stat.st_ino) != (level.device, level.inode) {
                    return Err(io::Error::other("a directory was moved while it was walked through"));
                }
                above
            }
        };
        Ok(left.name)
    }

    /// Goes up, by as many levels as it takes to know where that is.
    fn ascend_somewhere(&mut self) -> io::Result<()> {
        if self.ascend().is_ok() {
            return Ok(());
        }
        self.levels.truncate(HELD);
        if let Some(held) = self.levels.last().and_then(|level| level.held.as_ref()) {
            self.here = held.try_clone()?;
        }
        Ok(())
    }

    /// Looks at every entry here; directories become pending.
    fn note(&mut self, mut each: impl FnMut(&CStr, &Stat)) -> io::Result<()> {
        for entry in Dir::read_from(self.here.as_fd())? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            others_work();
            let Ok(stat) = rustix::fs::statat(&self.here, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            each(name, &stat);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                self.later(name.to_owned());
            }
        }
        Ok(())
    }

    /// Removes every entry here that is no directory; directories become pending.
    fn unlink_files(&mut self) -> io::Result<()> {
        for entry in Dir::read_from(self.here.as_fd())? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            others_work();
            match rustix::fs::unlinkat(&self.here, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR) => self.later(name.to_owned()),
                Err(err) => return Err(err.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    /// Deeper than any path can say, with a file at each level.
    fn deep(top: &Path, depth: usize) {
        let mut here = rustix::fs::open(top, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..depth {
            rustix::fs::mkdirat(&here, "d", Mode::from_raw_mode(0o755)).unwrap();
            rustix::fs::mknodat(&here, "f", FileType::RegularFile, Mode::from_raw_mode(0o644), 0).unwrap();
            here = rustix::fs::openat(&here, "d", DIRECTORY, Mode::empty()).unwrap();
        }
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&here, "bytes", flags, Mode::from_raw_mode(0o644)).unwrap();
        io::Write::write_all(&mut fs::File::from(file), &[1; 100_000]).unwrap();
    }

    #[test]
    fn a_tree_of_any_depth_is_measured_and_removed_with_few_descriptors() {
        const DEPTH: usize = 3_000;
        let outer = tempfile::tempdir().unwrap();
        let top = outer.path().join("top");
        fs::create_dir(&top).unwrap();
        deep(&top, DEPTH);
        assert!(usage(&top).unwrap() >= 90_000);
        let result = remove(&top);
        let left = u64::from(top.exists());
        faults::Attack::new("runtime: a folder deeper than any path, measured and removed")
            .tried(1, left)
            .figure("levels", DEPTH)
            .record();
        result.unwrap();
        remove(&top).unwrap();
    }

    #[test]
    fn links_are_removed_and_what_they_lead_to_is_not() {
        let outer = tempfile::tempdir().unwrap();
        let (top, other) = (outer.path().join("top"), outer.path().join("other"));
        for directory in [top.join("a/b"), other.join("kept")] {
            fs::create_dir_all(directory).unwrap();
        }
        fs::write(other.join("file"), vec![1; 1 << 20]).unwrap();
        symlink(&other, top.join("a/link")).unwrap();
        symlink(&other, top.join("link")).unwrap();
        assert!(usage(&top).unwrap() < 1 << 20);
        remove(&top).unwrap();
        assert!(other.join("kept").is_dir() && other.join("file").is_file() && !top.exists());
        let alone: PathBuf = outer.path().join("alone");
        symlink(&other, &alone).unwrap();
        remove(&alone).unwrap();
        assert!(other.is_dir() && !alone.is_symlink());
    }

    #[test]
    fn what_is_held_is_emptied_and_not_what_has_its_name_by_now() {
        let outer = tempfile::tempdir().unwrap();
        let (top, aside) = (outer.path().join("top"), outer.path().join("aside"));
        fs::create_dir_all(top.join("a/b")).unwrap();
        let held = rustix::fs::open(&top, DIRECTORY, Mode::empty()).unwrap();
        fs::rename(&top, &aside).unwrap();
        fs::create_dir_all(top.join("other")).unwrap();
        remove_below(&held).unwrap();
        remove_below(&held).unwrap();
        assert!(top.join("other").is_dir() && fs::read_dir(&aside).unwrap().next().is_none());
    }

    #[test]
    fn a_directory_swapped_with_a_link_does_not_lead_a_removal_away() {
        use std::sync::atomic::{AtomicBool, Ordering};
        const TRIES: u64 = 300;
        let outer = tempfile::tempdir().unwrap();
        let node = outer.path().join("node");
        fs::create_dir_all(node.join("d")).unwrap();
        fs::write(node.join("f"), "x").unwrap();
        let mut escapes = 0;
        for round in 0..TRIES {
            let top = outer.path().join(format!("top{round}"));
            fs::create_dir_all(top.join("way/d")).unwrap();
            fs::write(top.join("way/f"), "x").unwrap();
            symlink(&node, top.join("link")).unwrap();
            let stop = AtomicBool::new(false);
            let held = rustix::fs::open(&top, DIRECTORY, Mode::empty()).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let flags = rustix::fs::RenameFlags::EXCHANGE;
                        // Ends when the removal has taken one of the two.
                        if rustix::fs::renameat_with(&held, "way", &held, "link", flags).is_err() {
                            break;
                        }
                    }
                });
                // A walk that sees a directory move may give up; it must not go elsewhere.
                let _ = remove(&top);
                stop.store(true, Ordering::Relaxed);
            });
            remove(&top).unwrap();
            escapes += u64::from(!(node.join("d").is_dir() && node.join("f").is_file()));
        }
        faults::Attack::new("runtime: a directory swapped with a link while its tree is removed")
            .tried(TRIES, escapes)
            .record();
    }
}
