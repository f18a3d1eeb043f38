//! The one place that touches the store's files, and the seam where a test has them fail, or is told what they have.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// What is done to a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A file or directory is made, which did not exist.
    Create,
    /// A file is opened.
    Open,
    Read,
    Write,
    /// Room is reserved, or a file gets its size.
    Allocate,
    /// A part of a file is made to read as zeros, which gives room back: it works on a full disk.
    Erase,
    /// What was written is brought to the disk; a directory's names, too.
    Sync,
    Rename,
    Remove,
    /// The names in a directory are read.
    List,
}

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Proceed,
    /// It fails with such an error, and nothing is done.
    Fail(io::ErrorKind),
    /// A write stops after so many bytes for want of room; anything else fails for want of room.
    Short(usize),
    /// It is done after so long.
    Delay(Duration),
}

/// What was done to a file or directory. Nothing of it need outlive a power cut before a sync that begins later: of the
/// file for what is in it, of the directory for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect<'a> {
    /// A directory was made.
    MakeDirectory,
    /// An empty file was made.
    Create,
    /// These bytes were written from such a byte on.
    Write { offset: u64, bytes: &'a [u8] },
    /// The file was given a size in bytes; what is new reads as zeros.
    Resize(u64),
    /// So many bytes from `offset` on read as zeros, as far as the file goes.
    Erase { offset: u64, bytes: u64 },
    /// What was done before is on the disk.
    Sync,
    /// The file has this path now, and what was there is gone.
    Rename { to: &'a Path },
    /// The file is gone.
    Remove,
}

/// Decides what becomes of each operation, and hears what was done. Production has the default: all proceed, and nobody
/// hears.
#[derive(Clone, Default)]
pub struct Faults {
    decide: Option<Arc<Decide>>,
    hear: Option<Arc<Hear>>,
}

type Decide = dyn Fn(Operation, &Path) -> Outcome + Send + Sync;
type Hear = dyn Fn(&Path, Effect<'_>) + Send + Sync;

impl Faults {
    /// Asks `decide` before each operation.
    pub fn new(decide: impl Fn(Operation, &Path) -> Outcome + Send + Sync + 'static) -> Self {
        Self { decide: Some(Arc::new(decide)), hear: None }
    }

    /// Tells `hear` what was done, after it was, on the thread that did it; of threads at the same time in any order.
    #[must_use]
    pub fn heard_by(self, hear: impl Fn(&Path, Effect<'_>) + Send + Sync + 'static) -> Self {
        Self { hear: Some(Arc::new(hear)), ..self }
    }

    fn after(&self, path: &Path, effect: Effect<'_>) {
        if let Some(hear) = &self.hear {
            hear(path, effect);
        }
    }

    /// Waits or fails as was decided. Returns how much of a write may happen.
    fn before(&self, operation: Operation, path: &Path) -> io::Result<usize> {
        let Some(decide) = &self.decide else { return Ok(usize::MAX) };
        match decide(operation, path) {
            Outcome::Proceed => Ok(usize::MAX),
            Outcome::Fail(kind) => Err(kind.into()),
            Outcome::Short(bytes) if operation == Operation::Write => Ok(bytes),
            Outcome::Short(_) => Err(io::ErrorKind::StorageFull.into()),
            Outcome::Delay(time) => {
                thread::sleep(time);
                Ok(usize::MAX)
            }
        }
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.decide.is_some() { "Faults(decided)" } else { "Faults(none)" })
    }
}

/// Whether an error says that there is no room, which may change.
pub(crate) fn is_full(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The files of a store's directory.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    directory: PathBuf,
    faults: Faults,
}

impl Files {
    pub(crate) fn new(directory: &Path, faults: Faults) -> Self {
        Self { directory: directory.into(), faults }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes the directory, and those above it that are missing, for their owner only. Nobody waits for their names to
    /// reach the disk: see [`Files::sync_all_names`].
    pub(crate) fn make_directory(&self) -> io::Result<()> {
        let missing: Vec<_> = above(&self.directory).take_while(|directory| !directory.is_dir()).collect();
        for directory in missing.into_iter().rev() {
            self.faults.before(Operation::Create, directory)?;
            match DirBuilder::new().mode(0o700).create(directory) {
                // Somebody else was faster.
                Err(err) if err.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
                made => {
                    made?;
                    self.faults.after(directory, Effect::MakeDirectory);
                }
            }
        }
        Ok(())
    }

    /// Makes a file that must not exist, for its owner only.
    pub(crate) fn create(&self, name: &str) -> io::Result<StoreFile> {
        let path = self.path(name);
        self.faults.before(Operation::Create, &path)?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        self.faults.after(&path, Effect::Create);
        Ok(StoreFile { file, path, faults: self.faults.clone() })
    }

    /// Opens a file to read and write, and makes it if need be.
    pub(crate) fn open_or_create(&self, name: &str) -> io::Result<StoreFile> {
        match self.open(name) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        match self.create(name) {
            // Somebody else was faster.
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => self.open(name),
            created => created,
        }
    }

    /// Opens a file to read and write.
    pub(crate) fn open(&self, name: &str) -> io::Result<StoreFile> {
        self.open_with(name, OpenOptions::new().read(true).write(true))
    }

    /// Opens a file to read it.
    pub(crate) fn open_to_read(&self, name: &str) -> io::Result<StoreFile> {
        self.open_with(name, OpenOptions::new().read(true))
    }

    fn open_with(&self, name: &str, options: &OpenOptions) -> io::Result<StoreFile> {
        let path = self.path(name);
        self.faults.before(Operation::Open, &path)?;
        Ok(StoreFile { file: options.open(&path)?, path, faults: self.faults.clone() })
    }

    /// The names of all files that have one in UTF-8; ours do.
    pub(crate) fn list(&self) -> io::Result<Vec<String>> {
        self.faults.before(Operation::List, &self.directory)?;
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let to = self.path(to);
        self.faults.before(Operation::Rename, &to)?;
        let from = self.path(from);
        fs::rename(&from, &to)?;
        self.faults.after(&from, Effect::Rename { to: &to });
        Ok(())
    }

    /// Removes a file, if it is there.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        self.faults.before(Operation::Remove, &path)?;
        match fs::remove_file(&path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            removed => {
                removed?;
                self.faults.after(&path, Effect::Remove);
            }
        }
        Ok(())
    }

    /// Has the names in the directory survive a power cut.
    pub(crate) fn sync_names(&self) -> io::Result<()> {
        self.sync_names_in(&self.directory)
    }

    /// The same, and the names of the directory itself and of those above it, whoever made them: without these a power cut
    /// takes along all that is in it.
    pub(crate) fn sync_all_names(&self) -> io::Result<()> {
        for directory in above(&self.directory) {
            match self.sync_names_in(directory) {
                // Of others above, who made what is in it before we came, and where some file systems refuse this.
                Err(err) if directory != self.directory && is_not_ours_to_sync(&err) => {}
                synced => synced?,
            }
        }
        Ok(())
    }

    fn sync_names_in(&self, directory: &Path) -> io::Result<()> {
        self.faults.before(Operation::Sync, directory)?;
        File::open(directory)?.sync_all()?;
        self.faults.after(directory, Effect::Sync);
        Ok(())
    }
}

/// An open file of a store.
#[derive(Debug)]
pub(crate) struct StoreFile {
    file: File,
    path: PathBuf,
    faults: Faults,
}

impl StoreFile {
    /// A file that somebody else opened.
    pub(crate) fn from_file(file: File, path: PathBuf) -> Self {
        Self { file, path, faults: Faults::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|file| file.len())
    }

    /// Fills `bytes` as far as the file goes, and returns how far that is.
    pub(crate) fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.faults.before(Operation::Read, &self.path)?;
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        Ok(filled)
    }

    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let most = self.faults.before(Operation::Write, &self.path)?;
        let written = &bytes[..bytes.len().min(most)];
        self.file.write_all_at(written, offset)?;
        self.faults.after(&self.path, Effect::Write { offset, bytes: written });
        if written.len() < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Gives the file its size; what is new reads as zeros and takes no room yet.
    pub(crate) fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.faults.before(Operation::Allocate, &self.path)?;
        self.file.set_len(bytes)?;
        self.faults.after(&self.path, Effect::Resize(bytes));
        Ok(())
    }

    /// Reserves room within the file's size, so that writing there cannot fail for want of it. False where the file
    /// system cannot.
    pub(crate) fn reserve(&self, offset: u64, bytes: u64) -> io::Result<bool> {
        self.faults.before(Operation::Allocate, &self.path)?;
        self.allocate(FallocateFlags::KEEP_SIZE, offset, bytes)
    }

    /// Has a range read as zeros again.
    pub(crate) fn erase(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.faults.before(Operation::Erase, &self.path)?;
        if !self.allocate(FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE, offset, bytes)? {
            let zeros = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
            self.file.write_all_at(&zeros, offset)?;
        }
        self.faults.after(&self.path, Effect::Erase { offset, bytes });
        Ok(())
    }

    fn allocate(&self, flags: FallocateFlags, offset: u64, bytes: u64) -> io::Result<bool> {
        loop {
            match fallocate(&self.file, flags, offset, bytes) {
                Ok(()) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
                Err(err) => return Err(err.into()),
            }
        }
    }

    /// Waits until the content is on the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.faults.before(Operation::Sync, &self.path)?;
        self.file.sync_data()?;
        self.faults.after(&self.path, Effect::Sync);
        Ok(())
    }

    /// Locks the file for as long as it is open; fails at once when another process has it locked.
    pub(crate) fn try_lock(&self) -> Result<(), TryLockError> {
        self.file.try_lock()
    }
}

/// Whether a directory may not be read, or its file system does not sync directories.
fn is_not_ours_to_sync(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
        || [Errno::INVAL, Errno::OPNOTSUPP, Errno::NOSYS].contains(&Errno::from_io_error(err).unwrap_or(Errno::IO))
}

/// A directory and those above it, from below.
fn above(directory: &Path) -> impl Iterator<Item = &Path> {
    let named = directory.ancestors().filter(|directory| !directory.as_os_str().is_empty());
    // What a relative path begins in.
    named.chain(directory.is_relative().then_some(Path::new(".")))
}
