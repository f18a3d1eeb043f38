//! A layer's tar becomes a directory that overlayfs can stack.
//!
//! Every path is opened below the directory with `RESOLVE_IN_ROOT`: neither `..` nor a symbolic link made by an
//! earlier entry leads out of it. Whiteouts become overlayfs's own. Runs of zeros become holes, and what is written,
//! named, attached and unpacked is counted while it comes.
//!
//! Device nodes are made, as containerd does: the directories of layers are the node's root's alone, and containers mount
//! them `nodev`.

mod metadata;

use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, XattrFlags};
use tar::{Archive, Entry, EntryType};

use super::HashingReader;
use super::budget::{Budget, Gauge, Meter, too_much};
use metadata::{modified, set_metadata, times};

/// No layer has more entries.
const MAX_ENTRIES: u64 = 1_000_000;
/// No layer has more bytes unpacked, holes in files included.
const MAX_BYTES: u64 = 64 << 30;
/// What comes before an entry's content (long names, attributes, maps of holes) is not longer; it is held in memory.
const MAX_HEADERS: u64 = 2 << 20;
/// What comes after the last entry is not longer.
const MAX_TRAILER: u64 = 64 << 20;
/// No path is longer (PATH_MAX), or deeper.
const MAX_PATH: usize = 4096;
const MAX_DEPTH: usize = 255;
/// What an entry itself takes on disk: an inode, and its share of a directory.
const ENTRY: u64 = 4096;
/// Zeros of at least this length, and at such a place, become a hole.
const CHUNK: usize = 64 << 10;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Unpacks a layer, compressed with gzip or zstd or not, and returns the digest of its uncompressed tar.
pub(super) fn layer(tar: impl Read, directory: &Path, budget: &Budget) -> io::Result<String> {
    let root = Root::at(directory, budget)?;
    let mut directories = Vec::new();
    let digest = each_entry(tar, |entry, path| {
        root.place(entry, path)?;
        if entry.header().entry_type() == EntryType::Directory {
            directories.push((path.to_owned(), modified(entry.header())?));
        }
        Ok(())
    })?;
    // What was put into a directory changed its time; deeper ones first makes no difference.
    for (path, modified) in directories {
        root.set_time(&path, modified)?;
    }
    Ok(digest)
}

/// Unpacks the directories, files and links of an archive of images, compressed or not. Owners and modes are of no use.
pub(super) fn archive(tar: impl Read, directory: &Path, budget: &Budget) -> io::Result<()> {
    let root = Root::at(directory, budget)?;
    each_entry(tar, |entry, path| root.place_plain(entry, path)).map(|_| ())
}

/// Goes through a tar within all limits that do not depend on what is done with it; returns its digest.
fn each_entry<'a>(
    tar: impl Read + 'a,
    mut act: impl FnMut(&mut Entry<'_, Tar<'a>>, &Path) -> io::Result<()>,
) -> io::Result<String> {
    let part = Gauge::open();
    let mut archive = Archive::new(HashingReader::new(Meter::new(decompressed(tar)?, MAX_BYTES, part.clone())));
    let mut entries = archive.entries()?;
    let (mut count, mut length) = (0, 0_u64);
    loop {
        part.set(MAX_HEADERS);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry?;
        part.set(u64::MAX);
        count += 1;
        length = length.saturating_add(entry.size());
        if count > MAX_ENTRIES || length > MAX_BYTES {
            return Err(too_much("it has too many entries, or files that are too long"));
        }
        let path = inside(&entry.path_bytes())?;
        act(&mut entry, &path).map_err(|err| named(&err, &path))?;
        // What nobody wanted of it.
        io::copy(&mut entry, &mut io::sink())?;
    }
    part.set(MAX_TRAILER);
    archive.into_inner().finish()
}

/// A tar on its way in.
type Tar<'a> = HashingReader<Meter<Box<dyn Read + 'a>>>;

/// The error for a layer that is not what its image says.
pub(super) fn mismatch(wanted: &str, found: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("its digest is {found}, not {wanted}"))
}

fn named(err: &io::Error, path: &Path) -> io::Error {
    io::Error::new(err.kind(), format!("{}: {err}", path.display()))
}

fn decompressed<'a>(tar: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut tar = BufReader::with_capacity(64 * 1024, tar);
    let start = tar.fill_buf()?;
    Ok(if start.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(tar))
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::Decoder::with_buffer(tar)?)
    } else {
        Box::new(tar)
    })
}

/// A path without root and dots; one that climbs is refused.
fn inside(path: &[u8]) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    if path.len() > MAX_PATH {
        return Err(too_much("it has a path that is too long"));
    }
    for part in Path::new(std::ffi::OsStr::from_bytes(path)).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => {
                let text = format!("{} climbs out of the layer", String::from_utf8_lossy(path));
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
    }
    if clean.components().count() > MAX_DEPTH {
        return Err(too_much("it has a path that is too deep"));
    }
    Ok(clean)
}

/// The directory that is being filled.
struct Root<'b> {
    held: OwnedFd,
    budget: &'b Budget,
}

impl<'b> Root<'b> {
    fn at(directory: &Path, budget: &'b Budget) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { held: rustix::fs::open(directory, flags, Mode::empty())?, budget })
    }

    fn open(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        rustix::fs::openat2(&self.held, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// Opens a directory, making what is missing of it.
    fn directory(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match self.open(path, flags) {
            Err(rustix::io::Errno::NOENT) => {}
            opened => return opened,
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(rustix::io::Errno::NOENT);
        };
        rustix::fs::mkdirat(self.directory(parent)?, name, Mode::from_raw_mode(0o755))?;
        self.open(path, flags)
    }

    fn place(&self, entry: &mut Entry<'_, impl Read>, path: &Path) -> io::Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        self.budget.take(ENTRY)?;
        let parent = self.directory(parent)?;
        if name.as_bytes() == OPAQUE {
            return make_opaque(&parent);
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            let name = CString::new(hidden)?;
            return self.hide(&parent, &name, &path.with_file_name(std::ffi::OsStr::from_bytes(hidden)));
        }
        let kind = entry.header().entry_type();
        let hides = clear_way(&parent, name, kind)?;
        match kind {
            EntryType::Directory => match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                Err(rustix::io::Errno::EXIST) => {}
                made => made?,
            },
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                write_file(entry, &parent, name, self.budget)?;
            }
            EntryType::Symlink => rustix::fs::symlinkat(link_target(entry)?, &parent, name)?,
            EntryType::Link => return self.link(entry, &parent, name),
            EntryType::Char | EntryType::Block | EntryType::Fifo => make_node(entry, kind, &parent, name)?,
            EntryType::XGlobalHeader => return Ok(()),
            other => return Err(io::Error::other(format!("entries of type {other:?} are not supported"))),
        }
        if hides && kind == EntryType::Directory {
            make_opaque(&self.directory(path)?)?;
        }
        set_metadata(entry, kind, &parent, name, self.budget)
    }

    /// Places what has content or leads to it; leaves out the rest.
    fn place_plain(&self, entry: &mut Entry<'_, impl Read>, path: &Path) -> io::Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        self.budget.take(ENTRY)?;
        let parent = self.directory(parent)?;
        let kind = entry.header().entry_type();
        match kind {
            EntryType::Directory => self.directory(path).map(|_| ())?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                clear_way(&parent, name, kind)?;
                write_file(entry, &parent, name, self.budget)?;
            }
            EntryType::Symlink => {
                clear_way(&parent, name, kind)?;
                rustix::fs::symlinkat(link_target(entry)?, &parent, name)?;
            }
            EntryType::Link => {
                clear_way(&parent, name, kind)?;
                self.link(entry, &parent, name)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Hides what lower layers have under a name; what this layer has there stays.
    fn hide(&self, parent: &OwnedFd, name: &CString, path: &Path) -> io::Result<()> {
        match rustix::fs::mknodat(parent, name.as_c_str(), FileType::CharacterDevice, Mode::empty(), 0) {
            Err(rustix::io::Errno::EXIST) => match self.open(path, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(directory) => make_opaque(&directory),
                Err(_) => Ok(()),
            },
            made => Ok(made?),
        }
    }

    fn link(&self, entry: &Entry<'_, impl Read>, parent: &OwnedFd, name: &std::ffi::OsStr) -> io::Result<()> {
        let target = inside(link_target(entry)?.as_bytes())?;
        let (Some(folder), Some(file)) = (target.parent(), target.file_name()) else {
            return Err(io::Error::other("a link to the root"));
        };
        let folder = self.open(folder, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(rustix::fs::linkat(folder, file, parent, name, AtFlags::empty())?)
    }

    fn set_time(&self, path: &Path, modified: u64) -> io::Result<()> {
        let directory = match self.open(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            // A later entry replaced it.
            Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::NOENT) => return Ok(()),
            opened => opened?,
        };
        Ok(rustix::fs::futimens(directory, &times(modified))?)
    }
}

fn link_target(entry: &Entry<'_, impl Read>) -> io::Result<CString> {
    let target = entry.link_name_bytes().ok_or_else(|| io::Error::other("a link without a target"))?;
    Ok(CString::new(target.into_owned())?)
}

/// Makes a directory show nothing of lower layers.
fn make_opaque(directory: &OwnedFd) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(directory, c"trusted.overlay.opaque", b"y", XattrFlags::empty())?)
}

/// Removes what an earlier entry put there, unless both are directories. Says whether that was a whiteout.
fn clear_way(parent: &OwnedFd, name: &std::ffi::OsStr, kind: EntryType) -> io::Result<bool> {
    let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => return Ok(false),
        found => found?,
    };
    let there = FileType::from_raw_mode(stat.st_mode);
    match (there == FileType::Directory, kind == EntryType::Directory) {
        (true, true) => {}
        (true, false) => rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?,
        (false, _) => rustix::fs::unlinkat(parent, name, AtFlags::empty())?,
    }
    Ok(there == FileType::CharacterDevice && stat.st_rdev == 0)
}

/// Writes a file's content, its zeros as holes.
fn write_file(
    entry: &mut Entry<'_, impl Read>,
    parent: &OwnedFd,
    name: &std::ffi::OsStr,
    budget: &Budget,
) -> io::Result<()> {
    static ZEROS: [u8; CHUNK] = [0; CHUNK];
    refuse_other_sparse(entry)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?);
    let mut chunk = Vec::with_capacity(CHUNK.min(usize::try_from(entry.size()).unwrap_or(CHUNK)));
    let (mut length, mut ends_in_hole) = (0_u64, false);
    loop {
        chunk.clear();
        let count = entry.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)?;
        if count == 0 {
            break;
        }
        length += count as u64;
        ends_in_hole = chunk == ZEROS[..count];
        if ends_in_hole {
            file.seek(SeekFrom::Start(length))?;
        } else {
            budget.take(count as u64)?;
            file.write_all(&chunk)?;
        }
    }
    if ends_in_hole { file.set_len(length) } else { Ok(()) }
}

/// Sparse files as GNU tar's PAX formats have them would be unpacked as something else.
fn refuse_other_sparse(entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
    let Some(mut extensions) = entry.pax_extensions()? else { return Ok(()) };
    if extensions.any(|one| one.is_ok_and(|one| one.key_bytes().starts_with(b"GNU.sparse."))) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "sparse files in PAX format are not supported"));
    }
    Ok(())
}

fn make_node(
    entry: &Entry<'_, impl Read>,
    kind: EntryType,
    parent: &OwnedFd,
    name: &std::ffi::OsStr,
) -> io::Result<()> {
    let header = entry.header();
    let (major, minor) = (header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0));
    let kind = match kind {
        EntryType::Char => FileType::CharacterDevice,
        EntryType::Block => FileType::BlockDevice,
        _ => FileType::Fifo,
    };
    Ok(rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), rustix::fs::makedev(major, minor))?)
}

#[cfg(test)]
mod tests;
