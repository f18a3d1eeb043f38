//! Forking and waiting.

use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::process::{Signal, WaitId, WaitIdOptions, set_parent_process_death_signal, waitid};

use super::{Error, during};
use crate::sys::{self, Child};

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

/// Makes the first process of a shared pid namespace. It does nothing but adopt orphans.
pub(super) fn pause() -> Result<Child, Error> {
    match during(sys::fork(libc::CLONE_NEWPID), "fork the pause process")? {
        Some(child) => Ok(child),
        None => adopt_orphans(),
    }
}

fn adopt_orphans() -> ! {
    sys::set_name(c"pause");
    // Being told of no child's end, the kernel reaps them itself.
    sys::ignore_signal(libc::SIGCHLD);
    if set_parent_process_death_signal(Some(Signal::KILL)).is_err() {
        std::process::exit(1);
    }
    loop {
        // Only a signal ends the wait, and the loop does not care.
        let _ = rustix::event::poll(&mut [], None);
    }
}

/// Forks a process that begins in another process's pid namespace, runs `main` and ends.
pub(super) fn fork_into(target: BorrowedFd<'_>, flags: sys::CloneFlags, main: impl FnOnce()) -> std::io::Result<Child> {
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
