//! Forking beside, and letting go of descriptors.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use super::check;

/// Forks a sibling: a child of this process's parent, which has to be told of it. True in the child.
///
/// Only for single-threaded processes, as [`super::fork`].
pub(crate) fn fork_sibling() -> io::Result<bool> {
    let mut args = libc::clone_args {
        flags: libc::CLONE_PARENT as u64,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        // A sibling tells its end with the signal that its maker has.
        exit_signal: 0,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    // SAFETY: without CLONE_VM and with no stack given this is a plain fork; `args` outlives the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    check(pid).map(|()| pid == 0)
}

/// Hides memory, descriptors, program and root of this process, and of what it forks, from all who may not trace
/// everything: it is not dumpable until it executes another program. `PR_SET_DUMPABLE(2const)`, `ptrace(2)`.
pub(crate) fn hide_process() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Closes every descriptor above standard error but those in `keep`.
///
/// Only for a process that has just begun, or one that never goes back to what owned the others.
pub(crate) fn close_all_but(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    for (first, last) in gaps(keep.iter().map(|fd| fd.as_raw_fd().unsigned_abs()).collect()) {
        // SAFETY: touches no memory; by this function's contract nobody uses the descriptors afterwards.
        check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
    }
    Ok(())
}

/// The ranges from 3 on that leave out the numbers kept.
fn gaps(mut kept: Vec<u32>) -> Vec<(u32, u32)> {
    kept.sort_unstable();
    let (mut gaps, mut first) = (Vec::new(), 3);
    for number in kept.into_iter().filter(|number| *number >= 3) {
        if first < number {
            gaps.push((first, number - 1));
        }
        first = first.max(number + 1);
    }
    gaps.push((first, u32::MAX));
    gaps
}

#[cfg(test)]
mod tests {
    use super::gaps;

    #[test]
    fn everything_above_standard_error_is_closed_but_what_is_kept() {
        assert_eq!(gaps(vec![]), [(3, u32::MAX)]);
        assert_eq!(gaps(vec![0, 3, 7, 5, 5]), [(4, 4), (6, 6), (8, u32::MAX)]);
        assert_eq!(gaps(vec![251]), [(3, 250), (252, u32::MAX)]);
    }
}
