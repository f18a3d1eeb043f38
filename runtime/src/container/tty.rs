//! Stage terminal: stdin, stdout and stderr, as given descriptors or as a new pseudo-terminal.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::{Winsize, tcsetwinsize};

use super::trees::{attach, clone_tree};
use super::{During as _, StageResult, Stdio};
use crate::beneath::{Directory, Links};

/// Opens a terminal in the container's devpts as stdin, stdout and stderr; returns the master.
pub(super) fn open(console: bool) -> StageResult<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty()).during(|| "open /dev/pts/ptmx".into())?;
    rustix::pty::unlockpt(&master).during(|| "unlock the terminal".into())?;
    // The other end by the descriptor: what is at its name may be something else by now.
    let peer = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, peer).during(|| "open the terminal".into())?;
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&slave, size).during(|| "size the terminal".into())?;
    dup2_stdin(&slave).during(|| "stdin".into())?;
    dup2_stdout(&slave).during(|| "stdout".into())?;
    dup2_stderr(&slave).during(|| "stderr".into())?;
    if console {
        bind_console(&slave)?;
    }
    Ok(master)
}

/// Makes stdin, a terminal, that of this session, which this process leads.
pub(super) fn control() -> StageResult {
    rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).during(|| "take the terminal".into())
}

/// Shows the terminal as `/dev/console`.
fn bind_console(terminal: &OwnedFd) -> StageResult {
    let root = Directory::open(Path::new("/"), Links::InRoot).during(|| "open /".into())?;
    let console = root.find_or_make_file(Path::new("/dev/console")).during(|| "make /dev/console".into())?;
    attach(&clone_tree(terminal)?, &console)
}

/// Makes standard input, output and error the user's, so that it may open `/dev/stdout` and its like again.
pub(super) fn own(uid: u32) -> StageResult {
    let stat = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).during(|| "look at a stream".into());
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        // Devices such as `/dev/null` are everybody's.
        let found = stat(stream)?;
        let kind = FileType::from_raw_mode(found.st_mode);
        if found.st_uid == uid || (kind == FileType::CharacterDevice && !rustix::termios::isatty(stream)) {
            continue;
        }
        match rustix::fs::fchown(stream, Some(Uid::from_raw(uid)), None) {
            // A socket, or a file of a read-only file system, that somebody gave.
            Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => {}
            Err(err) => return Err(err).during(|| "give a stream to the user".into()),
        }
    }
    Ok(())
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
