//! Stage terminal: stdin, stdout and stderr, as given descriptors or as a new pseudo-terminal.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::{Winsize, tcsetwinsize};

use super::{During as _, StageResult, Stdio};

/// Opens a terminal in the container's devpts and makes it this session's; returns the master.
pub(super) fn open(console: bool) -> StageResult<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty()).during(|| "open /dev/pts/ptmx".into())?;
    rustix::pty::unlockpt(&master).during(|| "unlock the terminal".into())?;
    let name = rustix::pty::ptsname(&master, Vec::new()).during(|| "name the terminal".into())?;
    let slave = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).during(|| format!("open {name:?}"))?;
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&slave, size).during(|| "size the terminal".into())?;
    rustix::process::ioctl_tiocsctty(&slave).during(|| "take the terminal".into())?;
    dup2_stdin(&slave).during(|| "stdin".into())?;
    dup2_stdout(&slave).during(|| "stdout".into())?;
    dup2_stderr(&slave).during(|| "stderr".into())?;
    if console {
        bind_console(&name)?;
    }
    Ok(master)
}

/// Shows the terminal as `/dev/console`.
fn bind_console(name: &std::ffi::CStr) -> StageResult {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::open("/dev/console", flags, Mode::from_raw_mode(0o600)).during(|| "make /dev/console".into())?;
    rustix::mount::mount_bind(name, "/dev/console").during(|| "mount /dev/console".into())
}

/// Takes the given descriptors; what is missing becomes `/dev/null`.
pub(super) fn take(stdio: Stdio) -> StageResult {
    let null = || {
        rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).during(|| "open /dev/null".into())
    };
    let or_null = |given: Option<OwnedFd>| given.map_or_else(null, Ok);
    dup2_stdin(or_null(stdio.stdin)?.as_fd()).during(|| "stdin".into())?;
    dup2_stdout(or_null(stdio.stdout)?.as_fd()).during(|| "stdout".into())?;
    dup2_stderr(or_null(stdio.stderr)?.as_fd()).during(|| "stderr".into())
}
