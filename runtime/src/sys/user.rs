//! User namespaces: whose a namespace is, mounts whose ids are shifted into one, and who a process's files belong to.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use super::check;

/// `_IO(0xb7, 0x1)`, see ioctl_ns(2).
const NS_GET_USERNS: libc::Ioctl = 0xb701;

/// The user namespace that owns a namespace.
pub(crate) fn owner_of(namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: the request takes no argument and touches no memory.
    let result = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) };
    check(result.into())?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}

/// Shows the files of a detached mount as if their owners were of a user namespace: uid 0 on disk is its root.
pub(crate) fn map_mount(mount: BorrowedFd<'_>, users: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(users.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?,
    };
    // SAFETY: the path is a static C string and the attributes outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw mut attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result)
}

/// Makes the files that this process creates belong to these ids, without a change of its rights.
pub(crate) fn set_file_owner(uid: u32, gid: u32) -> io::Result<()> {
    use rustix::thread::{CapabilitiesSecureBits, set_capabilities_secure_bits};
    set_capabilities_secure_bits(CapabilitiesSecureBits::NO_SETUID_FIXUP)?;
    // SAFETY: changes only this thread's credentials and touches no memory.
    let now = unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
        // They answer the former id, and so say by a second call whether the first did anything.
        (libc::setfsuid(u32::MAX), libc::setfsgid(u32::MAX))
    };
    let now = (now.0.cast_unsigned(), now.1.cast_unsigned());
    if now == (uid, gid) { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}
