//! What an entry of a layer says of its file beside the content: owner, mode, extended attributes and time.

use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use tar::{Entry, EntryType};

use crate::image::budget::{Budget, too_much};

/// No file has more extended attributes, and none has a longer value (XATTR_SIZE_MAX).
pub(super) const MAX_ATTRIBUTES: usize = 64;
pub(super) const MAX_ATTRIBUTE: usize = 64 << 10;

/// Owner first: changing it clears the setuid bit and file capabilities.
pub(super) fn set_metadata(
    entry: &mut Entry<'_, impl Read>,
    kind: EntryType,
    parent: &OwnedFd,
    name: &std::ffi::OsStr,
    budget: &Budget,
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
        set_attributes(entry, kind, parent, name, budget)?;
    }
    Ok(rustix::fs::utimensat(parent, name, &times(modified), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn set_attributes(
    entry: &mut Entry<'_, impl Read>,
    kind: EntryType,
    parent: &OwnedFd,
    name: &std::ffi::OsStr,
    budget: &Budget,
) -> io::Result<()> {
    if !matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::Directory) {
        return Ok(());
    }
    let Some(extensions) = entry.pax_extensions()? else { return Ok(()) };
    let mut count = 0;
    for extension in extensions {
        let extension = extension?;
        let Some(attribute) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else { continue };
        // Overlayfs's own attributes would change what the layer means.
        if attribute.starts_with(b"trusted.overlay.") {
            continue;
        }
        count += 1;
        if count > MAX_ATTRIBUTES || extension.value_bytes().len() > MAX_ATTRIBUTE {
            return Err(too_much("it has too many extended attributes, or too long ones"));
        }
        budget.take(extension.value_bytes().len() as u64)?;
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

pub(super) fn modified(header: &tar::Header) -> io::Result<u64> {
    or_zero(&header.as_old().mtime, || header.mtime())
}

/// A number that its writer left blank is 0, as other readers have it.
fn or_zero(field: &[u8], read: impl FnOnce() -> io::Result<u64>) -> io::Result<u64> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) { Ok(0) } else { read() }
}

fn owner(id: u64) -> io::Result<u32> {
    u32::try_from(id).map_err(|_| io::Error::other(format!("owner {id} is out of range")))
}

pub(super) fn times(modified: u64) -> Timestamps {
    let time = Timespec { tv_sec: i64::try_from(modified).unwrap_or(i64::MAX), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
