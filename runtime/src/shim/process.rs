//! Forking and waiting.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pivot_root, set_parent_process_death_signal, waitid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::thread::{
    CapabilitySet, Gid, Uid, remove_capability_from_bounding_set, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::{Error, during};
use crate::sys::{self, Child};

/// User and group of a process that owns nothing.
const NOBODY: u32 = 65535;

/// How a process ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) signal: Option<i32>,
}

/// Reaps a process whose pidfd became readable.
pub(super) fn reap(child: &Child) -> Ended {
    match waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED) {
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Ended { code, signal: None },
            (None, Some(signal)) => Ended { code: 128 + signal, signal: Some(signal) },
            (None, None) => Ended { code: 255, signal: None },
        },
        Ok(None) | Err(_) => Ended { code: 255, signal: None },
    }
}

/// A child that is known by its pidfd only.
pub(super) fn adopt(pidfd: OwnedFd) -> io::Result<Child> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")).and_then(|pid| pid.trim().parse().ok());
    let pid = pid.and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Child { pid, pidfd })
}

/// Makes the first process of a shared pid namespace. It does nothing but adopt orphans.
pub(super) fn pause() -> Result<Child, Error> {
    match during(sys::fork(libc::CLONE_NEWPID | libc::CLONE_NEWNS), "fork the pause process")? {
        Some(child) => Ok(child),
        None => adopt_orphans(),
    }
}

fn adopt_orphans() -> ! {
    sys::set_name(c"pause");
    // Being told of no child's end, the kernel reaps them itself.
    sys::ignore_signal(libc::SIGCHLD);
    if let Err(err) = give_up_everything() {
        eprintln!("pause: {err}");
        std::process::exit(1);
    }
    loop {
        // Only a signal ends the wait, and the loop does not care.
        let _ = rustix::event::poll(&mut [], None);
    }
}

/// The pod's containers see this process for as long as they live, and some may trace it: it keeps no right, an empty
/// root, and the user that upstream's pause image has.
fn give_up_everything() -> io::Result<()> {
    sys::close_all_but(&[])?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("pause", "/proc", "tmpfs", flags, c"size=0k")?;
    leave_to("/proc")?;
    for capability in CapabilitySet::all().iter() {
        match remove_capability_from_bounding_set(capability) {
            // The kernel does not know it.
            Err(Errno::INVAL) => {}
            done => done?,
        }
    }
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    set_no_new_privs(true)?;
    sys::hide_process()?;
    // Changing the user resets this, so it comes late.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    drop(null);
    Ok(())
}

/// Makes the mount at `path` the root, and lets go of every other.
#[allow(clippy::disallowed_methods)]
fn leave_to(path: &str) -> io::Result<()> {
    std::env::set_current_dir(path)?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")
}

/// Forks a process that begins in another process's pid namespace, runs `main` and ends.
pub(super) fn fork_into(target: BorrowedFd<'_>, flags: sys::CloneFlags, main: impl FnOnce()) -> io::Result<Child> {
    let own = std::fs::File::open("/proc/self/ns/pid")?;
    // This moves not the shim but what it forks.
    sys::setns(target, libc::CLONE_NEWPID)?;
    let forked = sys::fork(flags);
    match forked {
        Ok(None) => {
            main();
            std::process::exit(0)
        }
        Ok(Some(child)) => {
            sys::setns(own.as_fd(), libc::CLONE_NEWPID)?;
            Ok(child)
        }
        Err(err) => {
            sys::setns(own.as_fd(), libc::CLONE_NEWPID)?;
            Err(err)
        }
    }
}
