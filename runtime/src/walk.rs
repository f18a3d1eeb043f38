//! Measuring what containers have made in steps of bounded length, and giving it to a group: as [`crate::tree`] removes,
//! by descriptor, one folder at a time, however deep they are.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::meanwhile::others_work;

/// Files with several names that are remembered; more of them count once for each name.
const MOST_LINKS: usize = 1 << 20;

/// What a walk calls for each thing: the folder that it is in and its name there, or the folder itself and no name.
type Visit<'a> = &'a mut dyn FnMut(&OwnedFd, &CStr, &Stat);

/// Where one is in a tree: the folders from its root to the current one.
#[derive(Debug, Default)]
struct Place {
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    /// In the folder above; of the root it is not used.
    name: CString,
    identity: (u64, u64),
    /// Folders in it that are still to be visited.
    left: Vec<CString>,
}

/// A measurement, in steps: what a container can make large must not hold up whoever measures it.
#[derive(Debug, Default)]
pub struct Walk {
    place: Place,
    usage: Usage,
}

#[derive(Debug, Default)]
struct Usage {
    bytes: u64,
    links: HashSet<u64>,
}

impl Walk {
    /// Looks at about so many entries more of the folder at `root`, the same at every step. Returns the bytes of all
    /// blocks once all has been seen, and is then at the beginning again. What cannot be opened, or moves away while it
    /// is looked at, counts as far as it was seen; other file systems in the folder do not count.
    ///
    /// # Errors
    /// When the root cannot be opened; one that is not there is empty.
    pub fn step(&mut self, root: &Path, entries: usize) -> io::Result<Option<u64>> {
        let top = match open(CWD, root) {
            Err(Errno::NOENT) => {
                *self = Self::default();
                return Ok(Some(0));
            }
            opened => opened?,
        };
        let usage = &mut self.usage;
        let done = self.place.advance(&top, entries, &mut |_, _, stat| usage.count(stat))?;
        Ok(done.then(|| std::mem::take(self).usage.bytes))
    }

    /// Bytes seen since the beginning.
    pub fn so_far(&self) -> u64 {
        self.usage.bytes
    }
}

impl Usage {
    fn count(&mut self, stat: &Stat) {
        let again =
            !is_folder(stat) && stat.st_nlink > 1 && self.links.len() < MOST_LINKS && !self.links.insert(stat.st_ino);
        if !again {
            self.bytes = self.bytes.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512));
        }
    }
}

/// What a group may do with the files of its volume, and with the folders beside that: new files are its own, too.
const GROUP_FILE: u32 = 0o660;
/// The same where nobody writes.
const GROUP_SHOWN: u32 = 0o440;
const GROUP_FOLDER: u32 = 0o2110;

/// Whether the folder at `root` is the group's already, to read and to write.
///
/// # Errors
/// When the root cannot be opened.
pub fn is_of_group(root: &Path, group: u32) -> io::Result<bool> {
    let stat = rustix::fs::fstat(&open(CWD, root)?)?;
    let wanted = GROUP_FILE | GROUP_FOLDER;
    Ok(stat.st_gid == group && stat.st_mode & wanted == wanted)
}

/// Gives everything in the folder at `root` to a group (`fsGroup`): it may read and write all, and what is made later
/// is its own. Links stay links, and nothing outside is touched; what moves away meanwhile is left as it is.
///
/// # Errors
/// When the root cannot be opened, or something cannot be given away.
pub fn give_to_group(root: &Path, group: u32) -> io::Result<()> {
    give_all(root, group, GROUP_FILE)
}

/// As [`give_to_group`], where the group may read, and write no more than it could before.
///
/// # Errors
/// The same.
pub fn show_to_group(root: &Path, group: u32) -> io::Result<()> {
    give_all(root, group, GROUP_SHOWN)
}

fn give_all(root: &Path, group: u32, rights: u32) -> io::Result<()> {
    let top = open(CWD, root)?;
    let mut failed = None;
    let done = Place::default().advance(&top, usize::MAX, &mut |folder, name, stat| {
        if let Err(err) = give(folder, name, stat, group, rights) {
            failed.get_or_insert(err);
        }
    })?;
    debug_assert!(done, "no step is as long as that");
    failed.map_or(Ok(()), |err| Err(err.into()))
}

fn give(folder: &OwnedFd, name: &CStr, stat: &Stat, group: u32, rights: u32) -> Result<(), Errno> {
    let group = Some(rustix::fs::Gid::from_raw(group));
    let owned;
    let found = if name.is_empty() {
        folder
    } else {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(folder, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            opened => owned = opened?,
        }
        &owned
    };
    let stat = if name.is_empty() { *stat } else { rustix::fs::fstat(found)? };
    rustix::fs::chownat(found, c"", None, group, AtFlags::EMPTY_PATH)?;
    let mode = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => return Ok(()),
        FileType::Directory => rights | GROUP_FOLDER,
        _ => rights,
    };
    // The descriptor's own name: that of the file may be another's by now.
    let itself = format!("/proc/self/fd/{}", found.as_raw_fd());
    rustix::fs::chmod(itself, Mode::from_raw_mode((stat.st_mode | mode) & 0o7777))
}

impl Place {
    /// Visits about so many entries more below `top`; says whether all have been seen. Other file systems are left out.
    fn advance(&mut self, top: &OwnedFd, entries: usize, visit: Visit<'_>) -> io::Result<bool> {
        let device = rustix::fs::fstat(top)?.st_dev;
        let mut seen = 0;
        let mut folder = if self.levels.is_empty() {
            seen += self.enter(c"", top, visit)?;
            top.try_clone()?
        } else {
            self.again(top)?
        };
        while let Some(level) = self.levels.last_mut() {
            if seen >= entries {
                return Ok(false);
            }
            let Some(name) = level.left.pop() else {
                folder = self.up(top, &folder)?;
                continue;
            };
            // It may be gone, or another thing by now.
            let Ok(child) = open(&folder, &name) else { continue };
            if rustix::fs::fstat(&child)?.st_dev == device {
                seen += 1 + self.enter(&name, &child, visit)?;
                folder = child;
            }
        }
        Ok(true)
    }

    fn enter(&mut self, name: &CStr, folder: &OwnedFd, visit: Visit<'_>) -> io::Result<usize> {
        let stat = rustix::fs::fstat(folder)?;
        visit(folder, c"", &stat);
        let (mut left, mut seen) = (Vec::new(), 0);
        for entry in Dir::read_from(folder)? {
            let Ok(entry) = entry else { break };
            if is_dots(entry.file_name()) {
                continue;
            }
            seen += 1;
            let Ok(stat) = rustix::fs::statat(folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if is_folder(&stat) {
                left.push(entry.file_name().to_owned());
            } else {
                visit(folder, entry.file_name(), &stat);
            }
        }
        self.levels.push(Level { name: name.to_owned(), identity: identity(&stat), left });
        Ok(seen)
    }

    /// Leaves the current folder for the one above. Where that is another one by now, the way down from `top` is gone
    /// again, as far as it is still there.
    fn up(&mut self, top: &OwnedFd, folder: &OwnedFd) -> io::Result<OwnedFd> {
        self.levels.pop();
        let Some(above) = self.levels.last() else { return top.try_clone() };
        match open(folder, c"..") {
            Ok(parent) if identity_of(&parent)? == above.identity => Ok(parent),
            _ => self.again(top),
        }
    }

    /// Goes down from `top` to where it was, or as far as that is still the same.
    fn again(&mut self, top: &OwnedFd) -> io::Result<OwnedFd> {
        let mut folder = top.try_clone()?;
        for depth in 0..self.levels.len() {
            let level = &self.levels[depth];
            let next = if depth == 0 { top.try_clone().ok() } else { open(&folder, &level.name).ok() };
            let same = next.filter(|next| identity_of(next).is_ok_and(|identity| identity == level.identity));
            let Some(same) = same else {
                self.levels.truncate(depth);
                break;
            };
            folder = same;
        }
        Ok(folder)
    }
}

fn open(at: impl std::os::fd::AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    others_work();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty())
}

fn identity_of(folder: &OwnedFd) -> io::Result<(u64, u64)> {
    Ok(identity(&rustix::fs::fstat(folder)?))
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Makes folders in one another and a file at the bottom.
    fn dig(root: &Path, depth: usize, name: &CStr, bytes: usize) {
        let mut folder = open(CWD, root).unwrap();
        for _ in 0..depth {
            rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o777)).unwrap();
            folder = open(&folder, name).unwrap();
        }
        let flags = OFlags::CREATE | OFlags::WRONLY;
        let file = rustix::fs::openat(&folder, "file", flags, Mode::from_raw_mode(0o600)).unwrap();
        std::fs::File::from(file).write_all(&vec![1; bytes]).unwrap();
    }

    #[test]
    fn what_lies_in_very_deep_folders_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("volume");
        std::fs::create_dir(&root).unwrap();
        let long = CString::new(vec![b'x'; 255]).unwrap();
        dig(&root, 300, &long, 1 << 20);
        dig(&root, 3000, c"d", 1 << 20);
        let mut walk = Walk::default();
        let mut steps = 1;
        let counted = loop {
            match walk.step(&root, 500).unwrap() {
                Some(counted) => break counted,
                None => steps += 1,
            }
        };
        crate::tree::remove(&root).unwrap();
        faults::Attack::new("runtime: files hidden in folders too deep for a path")
            .tried(2, u64::from(counted < 2 << 20))
            .figure("steps of 500 entries", steps)
            .record();
    }

    #[test]
    fn a_walk_in_small_steps_counts_what_one_large_step_does() {
        let directory = tempfile::tempdir().unwrap();
        for folder in 0..20 {
            dig(directory.path(), 0, c"", 1);
            let path = directory.path().join(format!("f{folder}"));
            std::fs::create_dir(&path).unwrap();
            dig(&path, 5, c"d", 5000 * folder);
        }
        std::fs::hard_link(directory.path().join("f9/d/d/d/d/d/file"), directory.path().join("link")).unwrap();
        let whole = Walk::default().step(directory.path(), usize::MAX).unwrap().unwrap();
        let mut walk = Walk::default();
        for _ in 0..2 {
            let mut steps = 0;
            let counted = loop {
                steps += 1;
                if let Some(counted) = walk.step(directory.path(), 3).unwrap() {
                    break counted;
                }
                assert!(walk.so_far() <= whole);
            };
            assert_eq!(counted, whole);
            assert!(steps > 10, "{steps}");
        }
    }

    #[test]
    fn a_group_gets_all_of_a_volume_and_nothing_else() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        let directory = tempfile::tempdir().unwrap();
        let (root, outside) = (directory.path().join("volume"), directory.path().join("outside"));
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        for file in [&outside, &root.join("a/b/file")] {
            std::fs::write(file, "").unwrap();
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
        assert!(!is_of_group(&root, 4321).unwrap());
        give_to_group(&root, 4321).unwrap();
        assert!(is_of_group(&root, 4321).unwrap());
        let of = |path: &Path| {
            let found = std::fs::symlink_metadata(path).unwrap();
            (found.gid(), found.mode() & 0o7777)
        };
        assert_eq!(of(&root.join("a/b/file")), (4321, 0o660));
        assert_eq!(of(&root.join("a/b")), (4321, 0o2775));
        assert_eq!(of(&root.join("link")).0, 4321);
        assert_eq!(of(&outside), (std::fs::metadata(directory.path()).unwrap().gid(), 0o600));
    }

    #[test]
    fn a_folder_that_moves_away_during_a_walk_leads_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("volume");
        std::fs::create_dir_all(root.join("a/b/c/d/e")).unwrap();
        std::fs::create_dir_all(directory.path().join("outside")).unwrap();
        std::fs::write(directory.path().join("outside/large"), vec![1; 1 << 20]).unwrap();
        let mut walk = Walk::default();
        assert_eq!(walk.step(&root, 4).unwrap(), None);
        // `..` of where the walk is now leads out of the volume.
        std::fs::rename(root.join("a/b/c"), directory.path().join("outside/c")).unwrap();
        let counted = loop {
            if let Some(counted) = walk.step(&root, 1).unwrap() {
                break counted;
            }
        };
        assert!(counted < 1 << 20, "{counted}");
    }
}
