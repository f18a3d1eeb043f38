//! Paths of a tree whose owner swaps directories and links between the steps of whoever works on it: nothing outside of
//! the tree is found, read, made, measured or removed.
//!
//! This file is compiled twice: by the fuzzer, and by a test of `runtime` that runs a short while on every build.
#![allow(unreachable_pub, reason = "the fuzzer sees a library, the test a module")]
#![allow(clippy::unwrap_used, reason = "a target fails by panicking")]

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use runtime::beneath::{Directory, Links};
use runtime::meanwhile::with_others;
use runtime::tree;
use runtime::walk::Walk;
use rustix::fs::{Mode, OFlags, RenameFlags, ResolveFlags};
use tempfile::TempDir;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// Where links lead, from the tree's root or from below it; the first ones out of it, where the node has its own.
const TARGETS: [&str; 10] = [
    "../node",
    "../../node",
    "NODE",
    "NODE/file",
    "../node/file",
    "a/../../node/sub",
    "a",
    "../b",
    "b/c",
    "nothing/there",
];
/// Deeds of one input that count.
const DEEDS: usize = 12;
/// The owner of the tree comes to rest after so many swaps during one deed, so that the deed can end.
const SWAPS: usize = 200;
const OF_THE_NODE: &[u8] = b"of the node";
/// The size of a file of the node; the tree has far less.
const LARGE: usize = 1 << 20;

/// What is done to the tree by whoever works for the node.
#[derive(Clone, Copy)]
enum Deed {
    Find,
    Make,
    MakeFile,
    Read,
    Remove,
    Measure,
    MeasureInSteps,
}

const ALL: [Deed; 7] =
    [Deed::Find, Deed::Make, Deed::MakeFile, Deed::Read, Deed::Remove, Deed::Measure, Deed::MeasureInSteps];

#[derive(Clone)]
struct Swap {
    exchanges: bool,
    one: PathBuf,
    other: PathBuf,
}

/// Makes a tree, and works on it while its owner swaps what is in it:
///
/// ```text
/// | entries 1 byte | swaps 1 | entry 2 | ... | swap 3 | ... | deed 3 | ...
/// entry: | path 1 | what 1 |   swap: | how 1 | path 1 | other path 1 |   deed: | what 1 | path 1 | changes of the path 1 |
/// ```
pub fn run(data: &[u8]) {
    let [entries, swaps, rest @ ..] = data else { return };
    let (entries, rest) = rest.split_at(usize::from(entries % 16 * 2).min(rest.len()));
    let (swaps, deeds) = rest.split_at(usize::from(swaps % 16 * 3).min(rest.len()));
    let place = Place::new();
    for entry in entries.as_chunks::<2>().0 {
        place.put(&path_of(entry[0]), entry[1]);
    }
    let swaps: Vec<Swap> = swaps.as_chunks::<3>().0.iter().map(swap_of).collect();
    for deed in deeds.as_chunks::<3>().0.iter().take(DEEDS) {
        place.check(deed, &swaps);
    }
    tree::remove(&place.root).unwrap();
    assert!(!place.root.exists());
    place.assert_untouched();
}

/// A node's directory with the tree in it.
struct Place {
    outer: TempDir,
    root: PathBuf,
    /// What is not of the tree, as it was.
    around: BTreeSet<Thing>,
}

/// A file or directory: path, inode, mode and size.
type Thing = (PathBuf, u64, u32, u64);

impl Place {
    fn new() -> Self {
        let outer = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let (root, node) = (outer.path().join("volume"), outer.path().join("node"));
        fs::create_dir_all(node.join("sub")).unwrap();
        fs::write(node.join("file"), OF_THE_NODE).unwrap();
        fs::write(node.join("sub/large"), vec![1; LARGE]).unwrap();
        fs::create_dir(&root).unwrap();
        let around = around(outer.path());
        Self { outer, root, around }
    }

    /// Puts a directory, a file or a link into the tree, unless something else is on the way.
    fn put(&self, path: &Path, what: u8) {
        let mut here = self.root.clone();
        for part in path.parent().into_iter().flatten() {
            here.push(part);
            match fs::symlink_metadata(&here) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => return,
                Err(_) => fs::create_dir(&here).unwrap(),
            }
        }
        let (here, node) = (self.root.join(path), self.outer.path().join("node"));
        let target = TARGETS[usize::from(what / 4) % TARGETS.len()].replace("NODE", node.to_str().unwrap());
        // Something may be there already.
        let _there = match what % 4 {
            0 => fs::create_dir(here),
            1 => {
                OpenOptions::new().write(true).create_new(true).open(here).and_then(|mut file| file.write_all(b"of it"))
            }
            _ => symlink(target, here),
        };
    }

    /// Does one thing while the owner is at work, and looks at what became of the node.
    fn check(&self, [what, path, changes]: &[u8; 3], swaps: &[Swap]) {
        let deed = ALL[usize::from(*what) % ALL.len()];
        let path = changed(&path_of(*path), *changes);
        let links = if changes & 1 << 7 == 0 { Links::Within } else { Links::InRoot };
        let within = Directory::open(&self.root, links).unwrap();
        let first = self.root.join(NAMES[usize::from(*changes) % NAMES.len()]);
        with_others(owner(&self.root, swaps), || match deed {
            Deed::Find => self.assert_inside(within.find(&path)),
            Deed::Make => self.assert_inside(within.find_or_make(&path, 0o2777)),
            Deed::MakeFile => self.assert_inside(within.find_or_make_file(&path)),
            Deed::Read => assert!(within.read(&path, 64).ok().as_deref() != Some(OF_THE_NODE), "{path:?}"),
            // Who sees a directory move may give up.
            Deed::Remove => drop(tree::remove(&first)),
            Deed::Measure => assert!(tree::usage(&first).unwrap_or(0) < LARGE as u64, "{first:?}"),
            Deed::MeasureInSteps => self.measure_in_steps(usize::from(changes % 4) + 1),
        });
        self.assert_untouched();
    }

    fn measure_in_steps(&self, entries: usize) {
        const STEPS: usize = 10_000;
        let mut walk = Walk::default();
        let counted = (0..STEPS).find_map(|_| walk.step(&self.root, entries).unwrap());
        assert!(counted.expect("a walk ends") < LARGE as u64);
    }

    fn assert_inside(&self, found: io::Result<OwnedFd>) {
        let Ok(found) = found else { return };
        let inode = rustix::fs::fstat(found.as_fd()).unwrap().st_ino;
        let outside = self.around.iter().find(|(_, other, ..)| *other == inode);
        assert!(outside.is_none(), "{outside:?} was found");
    }

    fn assert_untouched(&self) {
        assert_eq!(around(self.outer.path()), self.around, "something outside of the tree changed");
    }
}

/// All that lies beside the tree, and where both are.
fn around(outer: &Path) -> BTreeSet<Thing> {
    let mut found = BTreeSet::new();
    let mut left = vec![outer.to_owned()];
    while let Some(path) = left.pop() {
        let status = fs::symlink_metadata(&path).unwrap();
        if status.is_dir() {
            let inside = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
            left.extend(inside.filter(|path| path != &outer.join("volume")));
        }
        // The size of a directory is the file system's affair, and tells whether a tree is in it.
        let size = if status.is_dir() { 0 } else { status.len() };
        found.insert((path, status.ino(), status.mode(), size));
    }
    found
}

/// What the tree's owner does at each step: the next swap, in turn.
fn owner(root: &Path, swaps: &[Swap]) -> impl FnMut() + use<> {
    let held = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let own: Vec<Swap> = swaps.into();
    let mut coming = own.into_iter().cycle().take(SWAPS);
    move || {
        if let Some(next) = coming.next() {
            // What is not there is not swapped.
            let _done = swap(&held, &next);
        }
    }
}

/// Swaps two entries of the tree. The owner, too, is kept in it: no link is followed.
fn swap(root: &OwnedFd, Swap { exchanges, one, other }: &Swap) -> rustix::io::Result<()> {
    let above = |path: &Path| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(root, folder, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
    };
    let (from, to) = (above(one)?, above(other)?);
    let flags = if *exchanges { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
    rustix::fs::renameat_with(from, one.file_name().unwrap(), to, other.file_name().unwrap(), flags)
}

/// One to three names: how many in two bits, then two bits each.
fn path_of(byte: u8) -> PathBuf {
    (0..(byte % 4).clamp(1, 3)).map(|at| NAMES[usize::from(byte >> (2 + 2 * at)) % 4]).collect()
}

fn swap_of([how, one, other]: &[u8; 3]) -> Swap {
    Swap { exchanges: how % 4 != 0, one: path_of(*one), other: path_of(*other) }
}

/// A path with some of its names replaced by dots or by one that is new, or from the root.
fn changed(path: &Path, changes: u8) -> PathBuf {
    let start = PathBuf::from(if changes & 1 == 0 { "" } else { "/" });
    let parts = path.iter().enumerate().map(|(at, name)| match changes >> (1 + 2 * at) & 3 {
        1 => "..".as_ref(),
        2 => "new".as_ref(),
        _ => name,
    });
    parts.fold(start, |path, part| path.join(part))
}

/// A byte for a path.
fn path(parts: &[u8]) -> u8 {
    parts.iter().enumerate().fold(parts.len() as u8, |byte, (at, part)| byte | part << (2 + 2 * at))
}

/// Trees with a way in, and swaps that make it a way out before, while and after it is gone.
pub fn seeds() -> Vec<Vec<u8>> {
    let link = |target: u8| 2 + 4 * target;
    let tree = |target: u8| {
        let way = [path(&[0]), 0, path(&[0, 1]), 0, path(&[0, 2]), 1, path(&[0, 1, 3]), 0];
        [&way[..], &[path(&[3]), link(target), path(&[1]), 0, path(&[1, 3]), link(target)]].concat()
    };
    let swaps = [1, path(&[0]), path(&[3]), 1, path(&[0, 1]), path(&[3]), 1, path(&[0, 2]), path(&[1, 3])];
    let deeds: Vec<u8> = (0..ALL.len() as u8).flat_map(|deed| [deed, path(&[0, 1, 3]), 0]).collect();
    let new: Vec<u8> = [1, 2].iter().flat_map(|deed| [*deed, path(&[0, 1, 2]), 2 << 5]).collect();
    let climbing: Vec<u8> = (0..4).flat_map(|deed| [deed, path(&[0, 1, 2]), 1 << 3]).collect();
    let rooted: Vec<u8> = (0..4).flat_map(|deed| [deed, path(&[0, 1, 2]), 1 << 7 | 1]).collect();
    let mut seeds = Vec::new();
    for target in 0..TARGETS.len() as u8 {
        let tree = tree(target);
        for deeds in [&deeds, &new, &climbing, &rooted] {
            // So many of the swaps.
            let count = 1 + target % 3;
            let swaps = &swaps[..usize::from(count) * 3];
            seeds.push([&[tree.len() as u8 / 2, count], &tree[..], swaps, deeds].concat());
        }
    }
    seeds
}
