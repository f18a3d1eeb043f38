//! A layer's tar becomes a directory that overlayfs can stack.
//!
//! Every path is opened below the directory with `RESOLVE_IN_ROOT`: neither `..` nor a symbolic link made by an
//! earlier entry leads out of it. Whiteouts become overlayfs's own.

use std::ffi::CString;
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use tar::{Archive, Entry, EntryType};

use super::HashingReader;

/// No layer has more entries.
const MAX_ENTRIES: u64 = 1_000_000;
/// No layer has more bytes unpacked.
const MAX_BYTES: u64 = 64 << 30;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Unpacks a layer, compressed with gzip or zstd or not, and returns the digest of its uncompressed tar.
pub(super) fn layer(tar: impl Read, directory: &Path) -> io::Result<String> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = Root(rustix::fs::open(directory, flags, Mode::empty())?);
    let mut archive = Archive::new(HashingReader::new(decompressed(tar)?.take(MAX_BYTES)));
    let mut directories = Vec::new();
    for (count, entry) in (1..).zip(archive.entries()?) {
        if count > MAX_ENTRIES {
            return Err(io::Error::other("the layer has too many entries"));
        }
        let mut entry = entry?;
        let path = inside(&entry.path_bytes())?;
        root.place(&mut entry, &path).map_err(|err| named(&err, &path))?;
        if entry.header().entry_type() == EntryType::Directory {
            directories.push((path, modified(entry.header())?));
        }
    }
    // What was put into a directory changed its time; deeper ones first makes no difference.
    for (path, modified) in directories {
        root.set_time(&path, modified)?;
    }
    archive.into_inner().finish()
}

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
    Ok(clean)
}

/// The directory that is being filled.
struct Root(OwnedFd);

impl Root {
    fn open(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        rustix::fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
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
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => write_file(entry, &parent, name)?,
            EntryType::Symlink => rustix::fs::symlinkat(link_target(entry)?, &parent, name)?,
            EntryType::Link => return self.link(entry, &parent, name),
            EntryType::Char | EntryType::Block | EntryType::Fifo => make_node(entry, kind, &parent, name)?,
            EntryType::XGlobalHeader => return Ok(()),
            other => return Err(io::Error::other(format!("entries of type {other:?} are not supported"))),
        }
        if hides && kind == EntryType::Directory {
            make_opaque(&self.directory(path)?)?;
        }
        set_metadata(entry, kind, &parent, name)
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

fn write_file(entry: &mut Entry<'_, impl Read>, parent: &OwnedFd, name: &std::ffi::OsStr) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?;
    io::copy(entry, &mut std::fs::File::from(file))?;
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

/// Owner first: changing it clears the setuid bit and file capabilities.
fn set_metadata(
    entry: &mut Entry<'_, impl Read>,
    kind: EntryType,
    parent: &OwnedFd,
    name: &std::ffi::OsStr,
) -> io::Result<()> {
    let header = entry.header();
    let fields = header.as_old();
    let uid = owner(or_zero(&fields.uid, || header.uid())?)?;
    let gid = owner(or_zero(&fields.gid, || header.gid())?)?;
    let mode = u32::try_from(or_zero(&fields.mode, || header.mode().map(u64::from))?).unwrap_or(0);
    let modified = modified(header)?;
    let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    rustix::fs::chownat(parent, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    if kind != EntryType::Symlink {
        rustix::fs::chmodat(parent, name, Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())?;
        set_attributes(entry, kind, parent, name)?;
    }
    Ok(rustix::fs::utimensat(parent, name, &times(modified), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn set_attributes(
    entry: &mut Entry<'_, impl Read>,
    kind: EntryType,
    parent: &OwnedFd,
    name: &std::ffi::OsStr,
) -> io::Result<()> {
    if !matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::Directory) {
        return Ok(());
    }
    let Some(extensions) = entry.pax_extensions()? else { return Ok(()) };
    for extension in extensions {
        let extension = extension?;
        let Some(attribute) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else { continue };
        // Overlayfs's own attributes would change what the layer means.
        if attribute.starts_with(b"trusted.overlay.") {
            continue;
        }
        let file =
            rustix::fs::openat(parent, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        match rustix::fs::fsetxattr(
            file.as_fd(),
            CString::new(attribute)?,
            extension.value_bytes(),
            XattrFlags::empty(),
        ) {
            // A file system without such attributes, or one for another security module.
            Err(rustix::io::Errno::OPNOTSUPP) => {}
            set => set?,
        }
    }
    Ok(())
}

fn modified(header: &tar::Header) -> io::Result<u64> {
    or_zero(&header.as_old().mtime, || header.mtime())
}

/// A number that its writer left blank is 0, as other readers have it.
fn or_zero(field: &[u8], read: impl FnOnce() -> io::Result<u64>) -> io::Result<u64> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) { Ok(0) } else { read() }
}

fn owner(id: u64) -> io::Result<u32> {
    u32::try_from(id).map_err(|_| io::Error::other(format!("owner {id} is out of range")))
}

fn times(modified: u64) -> Timestamps {
    let time = Timespec { tv_sec: i64::try_from(modified).unwrap_or(i64::MAX), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn tar_of(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (kind, path, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(if *kind == EntryType::Directory { 0o755 } else { 0o644 });
            let ids = rustix::process::getuid().as_raw();
            header.set_uid(u64::from(ids));
            header.set_gid(u64::from(rustix::process::getgid().as_raw()));
            let name = path.as_bytes();
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name);
            let data: &[u8] = if kind.is_file() { content.as_bytes() } else { b"" };
            if !kind.is_file() && !content.is_empty() {
                let link = content.as_bytes();
                header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link);
            }
            header.set_size(data.len() as u64);
            header.set_cksum();
            builder.append(&header, data).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn neither_dots_nor_links_lead_out_of_the_layer() {
        let outside = tempfile::tempdir().unwrap();
        let inside = outside.path().join("layer");
        std::fs::create_dir(&inside).unwrap();
        assert!(layer(tar_of(&[(EntryType::Regular, "../evil", "x")]).as_slice(), &inside).is_err());
        let link = (EntryType::Symlink, "way", "../../..");
        layer(tar_of(&[link, (EntryType::Regular, "way/evil", "x")]).as_slice(), &inside).unwrap();
        assert!(inside.join("evil").exists());
        assert!(!outside.path().join("evil").exists());
    }

    #[test]
    fn gzip_zstd_and_plain_layers_have_one_digest() {
        let plain = tar_of(&[(EntryType::Directory, "d/", ""), (EntryType::Regular, "d/f", "text")]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
        for tar in [plain.clone(), gzip.finish().unwrap(), zstd] {
            let directory = tempfile::tempdir().unwrap();
            assert_eq!(layer(tar.as_slice(), directory.path()).unwrap(), super::super::digest(&plain));
            assert_eq!(std::fs::read_to_string(directory.path().join("d/f")).unwrap(), "text");
        }
    }

    #[test]
    fn a_hard_link_shares_its_file() {
        use std::os::unix::fs::MetadataExt as _;
        let directory = tempfile::tempdir().unwrap();
        let tar = tar_of(&[(EntryType::Regular, "a", "x"), (EntryType::Link, "b", "/a")]);
        layer(tar.as_slice(), directory.path()).unwrap();
        assert_eq!(std::fs::metadata(directory.path().join("b")).unwrap().nlink(), 2);
    }

    #[test]
    fn whiteouts_become_overlayfs_own() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIP: this test needs root");
            return;
        }
        use std::os::unix::fs::MetadataExt as _;
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let tar = tar_of(&[
            (EntryType::Regular, "gone/.wh.file", ""),
            (EntryType::Regular, ".wh.again", ""),
            (EntryType::Directory, "again/", ""),
            (EntryType::Regular, "new/.wh..wh..opq", ""),
        ]);
        layer(tar.as_slice(), directory.path()).unwrap();
        assert_eq!(std::fs::symlink_metadata(directory.path().join("gone/file")).unwrap().rdev(), 0);
        for name in ["again", "new"] {
            let (path, mut value) = (directory.path().join(name), [0; 4]);
            assert_eq!(rustix::fs::getxattr(&path, "trusted.overlay.opaque", &mut value), Ok(1), "{name}");
        }
    }

    #[test]
    fn half_a_tar_is_an_error() {
        let tar = tar_of(&[(EntryType::Regular, "a", "some text")]);
        let directory = tempfile::tempdir().unwrap();
        assert!(layer(&tar[..515], directory.path()).is_err());
    }
}
