//! seccomp filters, and the notifications of those that have a listener: `seccomp(2)`, `seccomp_unotify(2)`.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use super::check;

/// Puts a seccomp filter on this thread.
pub(crate) fn set_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    install(program, 0).map(|_| ())
}

/// Puts a seccomp filter on this thread and returns the listener that hears of the calls it notifies of.
///
/// Fails with `EBUSY` under a filter that has a listener already, with `EINVAL` where the kernel has none (before 5.0).
pub(crate) fn set_filter_with_listener(program: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    // A store bypass is no concern of a filter that only listens.
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // Since 5.19 a call that is being judged is not interrupted by each signal of a garbage collector.
    let listener = match install(program, flags | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
        Err(err) if err.raw_os_error() == Some(libc::EINVAL) => install(program, flags)?,
        installed => installed?,
    };
    let listener = i32::try_from(listener).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(listener) })
}

fn install(program: &[libc::sock_filter], flags: libc::c_ulong) -> io::Result<i64> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel only reads `len` instructions behind the pointer, during the call.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    check(result).map(|()| result)
}

/// A call that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notification {
    pub(crate) id: u64,
    /// The thread, as this process numbers it; 0 when it cannot be seen from here.
    pub(crate) thread: u32,
    pub(crate) call: u32,
    pub(crate) arguments: [u64; 6],
}

/// Takes the next call from a listener that is readable. `None` when its caller is gone.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> io::Result<Option<Notification>> {
    // SAFETY: plain numbers, for which zero is valid; the kernel asks for zeroes.
    let mut notification: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the request's number carries the size of what the kernel writes behind the pointer.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notification) };
    match check(result.into()) {
        Err(err) if matches!(err.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => return Ok(None),
        received => received?,
    }
    Ok(Some(Notification {
        id: notification.id,
        thread: notification.pid,
        call: notification.data.nr.unsigned_abs(),
        arguments: notification.data.args,
    }))
}

/// Whether the call still waits: only then what `/proc` says of its thread is said of its caller.
pub(crate) fn still_waits(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the kernel reads eight bytes behind the pointer.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) == 0 }
}

/// Answers a call: it goes on as if nobody had asked, or fails with `EPERM`. A caller that is gone needs no answer.
pub(crate) fn answer(listener: BorrowedFd<'_>, id: u64, go_on: bool) -> io::Result<()> {
    let mut response = libc::seccomp_notif_resp {
        id,
        val: 0,
        error: if go_on { 0 } else { -libc::EPERM },
        flags: if go_on { libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32 } else { 0 },
    };
    // SAFETY: the request's number carries the size of what the kernel reads behind the pointer.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response) };
    match check(result.into()) {
        Err(err) if err.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        answered => answered,
    }
}
