//! Forking beside, and letting go of descriptors.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use super::check;

/// Forks a sibling: a child of this process's parent, which has to be told of it. True in the child.
///
/// Only for single-threaded processes, as [`super::fork`].
pub(crate) fn fork_sibling() -> io::Result<bool> {
    // The older call, since a filter may be there by now that knows no other. All that is not given is 0, so the order of
    // the arguments, which differs between architectures, does not matter.
    // SAFETY: without CLONE_VM and with no stack given this is a plain fork, and touches no memory of ours.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_PARENT, 0, 0, 0, 0) };
    check(pid).map(|()| pid == 0)
}

/// In a second, as `/proc` counts time.
pub(crate) fn clock_ticks() -> u64 {
    // SAFETY: reads a constant of the system.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).unwrap_or(100).max(1)
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
