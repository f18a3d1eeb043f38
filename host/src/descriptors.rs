//! How many files a process may have open (RLIMIT_NOFILE, getrlimit(2)).

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::OnceLock;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

/// The soft limit that this process was started with.
static INHERITED: OnceLock<Option<u64>> = OnceLock::new();
/// Descriptors that listeners leave to the API server and the store of their process.
const RESERVE: u64 = 256;

/// Raises the soft limit to the hard one; programs that the process starts for others get [`restore`]. Later calls change
/// nothing.
pub fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if INHERITED.set(current).is_ok() && current != maximum {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        if let Err(err) = raised {
            tracing::warn!(error = &err as &dyn std::error::Error, "the limit of open files stays as it is");
        }
    }
}

/// Gives a child the soft limit that this process was started with: what containers have is the administrator's choice.
pub fn restore(child: u32) -> io::Result<()> {
    let Some(inherited) = INHERITED.get() else { return Ok(()) };
    let pid = i32::try_from(child).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let maximum = getrlimit(Resource::Nofile).maximum;
    prlimit(Some(pid), Resource::Nofile, Rlimit { current: *inherited, maximum })?;
    Ok(())
}

/// Whether a connection with this descriptor takes one of the last: the kernel gives the lowest that is free, so as many
/// as its number are in use.
pub fn is_scarce(descriptor: impl AsFd) -> bool {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return false };
    is_among_last(u64::try_from(descriptor.as_fd().as_raw_fd()).unwrap_or(u64::MAX), limit)
}

fn is_among_last(number: u64, limit: u64) -> bool {
    number >= limit.saturating_sub(RESERVE.min(limit / 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_few_or_256_of_many_descriptors_are_kept() {
        for (number, limit, scarce) in [
            (767, 1024, false),
            (768, 1024, true),
            (59, 80, false),
            (60, 80, true),
            (500_000, 524_288, false),
            (524_032, 524_288, true),
        ] {
            assert_eq!(is_among_last(number, limit), scarce, "{number} of {limit}");
        }
    }

    #[test]
    fn a_child_gets_the_limit_that_its_parent_had() {
        let before = getrlimit(Resource::Nofile).current;
        raise();
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read line; ulimit -Sn"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        restore(child.id()).unwrap();
        drop(child.stdin.take());
        let output = child.wait_with_output().unwrap();
        let expected = before.map_or("unlimited".to_owned(), |limit| limit.to_string());
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), expected);
    }
}
