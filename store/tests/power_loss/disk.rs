//! A disk under a store whose power can go: what was not brought to the disk by then is kept, lost or kept in part.
//!
//! The store works on real files. This hears what it does to them ([`Effect`]) and remembers what must be there after a power
//! loss (`safe`), and what may be. POSIX promises no more than that: the content of a file is safe once the file was synced,
//! a name once its directory was, and neither follows from the other. Until then any sector may have any of the contents
//! that it was given, since the kernel writes pages when and in which order it likes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use store::embedded::{Effect, Faults, Operation, Outcome};

use super::content::Content;

/// How many of the last operations are told of when a power loss was not survived.
const TOLD: usize = 40;
/// Each such sync takes a moment longer, so that whoever is answered before its end is heard before its end.
const SLOW: u64 = 8;

/// The disk; clones are the same one.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Mutex<State>>);

struct State {
    root: PathBuf,
    /// Whether a sync does anything.
    honest: bool,
    /// How many operations there will be before the power goes.
    left: u64,
    off: bool,
    /// Counts the effects.
    heard: u64,
    syncs: u64,
    /// Every file and directory there ever was; names say by number which they mean.
    nodes: Vec<Node>,
    /// Paths below the root, as the kernel has them now.
    names: BTreeMap<PathBuf, usize>,
    safe: BTreeMap<PathBuf, usize>,
    /// Changes of names that may be lost.
    changes: Vec<Change>,
    /// When the sync of a directory began that a thread is busy with.
    begun: HashMap<ThreadId, u64>,
    told: VecDeque<String>,
}

enum Node {
    Directory,
    File(Content),
}

/// What an operation does to names: one that means another file now, one that is gone, or both.
#[derive(Clone)]
struct Change {
    at: u64,
    link: Option<(PathBuf, usize)>,
    unlink: Option<PathBuf>,
}

/// How much of what is not safe outlives a power loss.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mood {
    Nothing,
    Everything,
    /// Names as a journal keeps them: all changes up to some moment.
    InOrder,
    /// Any of the changes of names.
    AnySubset,
    /// The same, and of a rename perhaps one half.
    HalfRenames,
}

const MOODS: [Mood; 8] = [
    Mood::Nothing,
    Mood::Everything,
    Mood::InOrder,
    Mood::InOrder,
    Mood::AnySubset,
    Mood::AnySubset,
    Mood::HalfRenames,
    Mood::HalfRenames,
];

impl Disk {
    /// A disk that has, safely, what is below a directory, and loses power before its operation number `left`.
    pub(crate) fn of(root: &Path, left: u64) -> Self {
        let mut state = State {
            root: root.to_owned(),
            honest: true,
            left,
            off: false,
            heard: 0,
            syncs: 0,
            nodes: Vec::new(),
            names: BTreeMap::new(),
            safe: BTreeMap::new(),
            changes: Vec::new(),
            begun: HashMap::new(),
            told: VecDeque::new(),
        };
        state.find(root);
        state.safe = state.names.clone();
        Self(Arc::new(Mutex::new(state)))
    }

    /// The same, but for what a sync does: nothing.
    pub(crate) fn that_lies(root: &Path, left: u64) -> Self {
        let disk = Self::of(root, left);
        disk.0.lock().unwrap().honest = false;
        disk
    }

    /// What has a store work on this disk.
    pub(crate) fn faults(&self) -> Faults {
        let (before, after) = (self.0.clone(), self.0.clone());
        Faults::new(move |operation, path| before.lock().unwrap().before(operation, path))
            .heard_by(move |path, effect| after.lock().unwrap().hear(path, effect))
    }

    /// The power goes now, if it is still there.
    pub(crate) fn cut(&self) {
        self.0.lock().unwrap().off = true;
    }

    /// The power is there, or again, for so many operations more. What was not safe was not lost: only the process was killed.
    pub(crate) fn go_on(&self, left: u64) {
        let mut state = self.0.lock().unwrap();
        (state.left, state.off) = (left, false);
    }

    pub(crate) fn is_off(&self) -> bool {
        self.0.lock().unwrap().off
    }

    /// Puts into an empty directory what a power loss leaves. Says what became of what was not safe.
    pub(crate) fn leave(&self, random: &mut StdRng, to: &Path) -> Vec<String> {
        let state = self.0.lock().unwrap();
        let mood = MOODS[random.random_range(0..MOODS.len())];
        let mut told: Vec<String> = state.told.iter().cloned().collect();
        told.push(format!("-- power loss, {mood:?}"));
        let names = state.names_after(mood, random, &mut told);
        for (path, &node) in &names {
            // A directory whose name was lost takes along what is in it.
            if !path.ancestors().skip(1).all(|above| above == Path::new("") || names.contains_key(above)) {
                continue;
            }
            match &state.nodes[node] {
                Node::Directory => fs::create_dir(to.join(path)).unwrap(),
                Node::File(content) => {
                    let (bytes, kept) = content.after(mood, random);
                    if let Some(kept) = kept {
                        told.push(format!("   {} has {kept}", path.display()));
                    }
                    fs::write(to.join(path), bytes).unwrap();
                }
            }
        }
        told
    }
}

impl State {
    /// Takes what is below a directory for safe.
    fn find(&mut self, directory: &Path) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let node = if path.is_dir() {
                self.find(&path);
                Node::Directory
            } else {
                Node::File(Content::safe(fs::read(&path).unwrap()))
            };
            self.names.insert(self.below(&path).unwrap(), self.nodes.len());
            self.nodes.push(node);
        }
    }

    /// A path below the root; `None` for the root itself, whose name is safe, and for others.
    fn below(&self, path: &Path) -> Option<PathBuf> {
        path.strip_prefix(&self.root).ok().filter(|path| !path.as_os_str().is_empty()).map(Path::to_owned)
    }

    fn before(&mut self, operation: Operation, path: &Path) -> Outcome {
        if matches!(operation, Operation::Read | Operation::Open | Operation::List) && !self.off {
            return Outcome::Proceed;
        }
        if self.off || self.left == 0 {
            self.off = true;
            return Outcome::Fail(ErrorKind::Other);
        }
        self.left -= 1;
        if operation == Operation::Sync {
            self.begun.insert(thread::current().id(), self.heard);
            self.syncs += 1;
            if self.syncs.is_multiple_of(SLOW) && path.is_file() {
                return Outcome::Delay(Duration::from_micros(100));
            }
        }
        Outcome::Proceed
    }

    fn hear(&mut self, path: &Path, effect: Effect<'_>) {
        self.heard += 1;
        let whole = path;
        let path = self.below(path);
        self.tell(path.as_deref().unwrap_or(whole), effect);
        let link = |state: &mut Self, path: PathBuf, node, unlink: Option<PathBuf>| {
            state.names.insert(path.clone(), node);
            state.changes.push(Change { at: state.heard, link: Some((path, node)), unlink });
        };
        match (effect, path) {
            (Effect::MakeDirectory | Effect::Create, Some(path)) => {
                let is_file = effect == Effect::Create;
                self.nodes.push(if is_file { Node::File(Content::default()) } else { Node::Directory });
                link(self, path, self.nodes.len() - 1, None);
            }
            (Effect::Rename { to }, Some(path)) => {
                let node = self.names.remove(&path).unwrap();
                link(self, self.below(to).unwrap(), node, Some(path));
            }
            (Effect::Remove, Some(path)) => {
                self.names.remove(&path).unwrap();
                self.changes.push(Change { at: self.heard, link: None, unlink: Some(path) });
            }
            (Effect::Write { offset, bytes }, Some(path)) => self.file(&path).write(offset, bytes),
            (Effect::Resize(bytes), Some(path)) => self.file(&path).resize(bytes),
            (Effect::Erase { offset, bytes }, Some(path)) => self.file(&path).erase(offset, bytes),
            (Effect::Sync, path) if self.honest => self.synced(path.as_deref(), whole),
            _ => {}
        }
    }

    fn file(&mut self, path: &Path) -> &mut Content {
        match self.names.get(path).map(|&node| &mut self.nodes[node]) {
            Some(Node::File(content)) => content,
            _ => panic!("{} was written to and is no file", path.display()),
        }
    }

    fn synced(&mut self, path: Option<&Path>, whole: &Path) {
        if let Some(Node::File(content)) = path.and_then(|path| self.names.get(path)).map(|&node| &mut self.nodes[node])
        {
            content.sync();
            return;
        }
        let directory = path.unwrap_or(Path::new(""));
        if path.is_none() && whole != self.root {
            return;
        }
        let begun = self.begun[&thread::current().id()];
        let is_in = |name: &Path| name.parent() == Some(directory);
        let mut later = Vec::new();
        for change in std::mem::take(&mut self.changes) {
            let here = change.link.iter().map(|(name, _)| name).chain(&change.unlink).any(|name| is_in(name));
            if here && change.at <= begun {
                change.make(&mut self.safe);
            } else {
                later.push(change);
            }
        }
        self.changes = later;
    }

    fn tell(&mut self, path: &Path, effect: Effect<'_>) {
        let what = match effect {
            Effect::Write { offset, bytes } => format!("Write {} bytes at {offset}", bytes.len()),
            other => format!("{other:?}"),
        };
        if self.told.len() == TOLD {
            self.told.pop_front();
        }
        let thread = thread::current().name().unwrap_or("?").to_owned();
        self.told.push_back(format!("{:5} {thread}: {} {what}", self.heard, path.display()));
    }

    fn names_after(&self, mood: Mood, random: &mut StdRng, told: &mut Vec<String>) -> BTreeMap<PathBuf, usize> {
        let mut names = self.safe.clone();
        let kept = random.random_range(0..=self.changes.len());
        for (number, change) in self.changes.iter().enumerate() {
            let mut change = change.clone();
            let keeps = match mood {
                Mood::Nothing => false,
                Mood::Everything => true,
                Mood::InOrder => number < kept,
                Mood::AnySubset => random.random(),
                Mood::HalfRenames => {
                    if change.link.is_some() && change.unlink.is_some() && random.random() {
                        if random.random() { change.link = None } else { change.unlink = None }
                    }
                    random.random_ratio(3, 4)
                }
            };
            told.push(format!("   {} {change}", if keeps { "kept" } else { "lost" }));
            if keeps {
                change.make(&mut names);
            }
        }
        names
    }
}

impl Change {
    fn make(self, names: &mut BTreeMap<PathBuf, usize>) {
        self.unlink.map(|path| names.remove(&path));
        self.link.map(|(path, node)| names.insert(path, node));
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (link, unlink) = (self.link.as_ref().map(|(path, _)| path), &self.unlink);
        write!(formatter, "change {} of names: now there {link:?}, gone {unlink:?}", self.at)
    }
}
