//! The system calls that have no safe wrapper elsewhere. The only unsafe code of the workspace.
#![allow(unsafe_code)]

pub(crate) mod bpf;
pub(crate) mod packet;
mod process;
pub(crate) mod seccomp;
pub(crate) mod user;

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use rustix::process::Pid;
use tokio::io::unix::AsyncFd;

pub(crate) use process::{clock_ticks, close_all_but, fork_sibling, hide_process};

/// Namespaces and other `CLONE_*` bits for [`fork`].
pub(crate) type CloneFlags = i32;

/// A child made by [`fork`]: its process id in the caller's pid namespace, and a pidfd.
pub(crate) struct Child {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
}

impl Child {
    /// Its number, as the node counts.
    pub(crate) fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }
}

/// Forks with new namespaces as `flags` say. `None` in the child.
///
/// Only for single-threaded processes: a thread that holds a lock (of the allocator, say) does not exist in the child.
pub(crate) fn fork(flags: CloneFlags) -> io::Result<Option<Child>> {
    let mut pidfd: RawFd = -1;
    let mut args = libc::clone_args {
        flags: (flags | libc::CLONE_PIDFD) as u64,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    // SAFETY: without CLONE_VM and with no stack given this is a plain fork; `args` and `pidfd` outlive the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
            // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Some(Child { pid, pidfd }))
        }
    }
}

/// What [`mount_setattr`] changes.
#[derive(Clone, Copy, Default)]
pub(crate) struct MountAttributes {
    /// `MOUNT_ATTR_*` to switch on.
    pub(crate) set: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED` or 0 for no change.
    pub(crate) propagation: u64,
    /// Also every mount below.
    pub(crate) recursive: bool,
}

/// Changes attributes of the mount that `mount` is the root of.
pub(crate) fn mount_setattr(mount: BorrowedFd<'_>, attributes: MountAttributes) -> io::Result<()> {
    let mut attr =
        libc::mount_attr { attr_set: attributes.set, attr_clr: 0, propagation: attributes.propagation, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if attributes.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a static C string and `attr` outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw mut attr,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result)
}

/// Marks every descriptor from `first` on to be closed by `exec`.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: sets a flag on descriptors and touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    check(result)
}

/// Joins the namespaces of the process behind `pidfd`, or the one behind a namespace descriptor.
pub(crate) fn setns(target: BorrowedFd<'_>, flags: CloneFlags) -> io::Result<()> {
    // SAFETY: changes only this thread's namespaces and touches no memory.
    check(unsafe { libc::setns(target.as_raw_fd(), flags) }.into())
}

/// Gives this process new namespaces.
pub(crate) fn unshare(flags: CloneFlags) -> io::Result<()> {
    // SAFETY: changes only this thread's namespaces and touches no memory.
    check(unsafe { libc::unshare(flags) }.into())
}

/// Makes this process, and what it forks, ignore a signal.
pub(crate) fn ignore_signal(signal: i32) {
    // SAFETY: installs no handler of ours.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Replaces this thread's name, as `ps` and `top` show it.
pub(crate) fn set_name(name: &CStr) {
    // SAFETY: the kernel reads at most 16 bytes of a terminated string.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Lets tokio wait for a descriptor.
pub(crate) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` gives the same open descriptor for as long as it lives.
    unsafe { AsyncFd::register(descriptor) }.map_err(Into::into)
}

fn check(result: i64) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
