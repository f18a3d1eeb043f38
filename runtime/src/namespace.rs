//! Network namespaces for whole nodes: one machine can be several (upstream: kind's containers, `ip netns`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys;

/// A network namespace, there for as long as this, a process or a pod in it is.
#[derive(Debug)]
pub struct NetworkNamespace {
    descriptor: OwnedFd,
}

impl NetworkNamespace {
    /// A new one, with nothing but a loopback interface that is down. Needs root.
    pub fn new() -> io::Result<Self> {
        let made = on_a_thread(|| {
            sys::unshare(libc::CLONE_NEWNET)?;
            Ok(std::fs::File::open("/proc/thread-self/ns/net")?.into())
        });
        Ok(Self { descriptor: made? })
    }

    /// Does some work inside, on a thread of its own: what it opens and starts there stays inside. Blocks until it is done.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        on_a_thread(|| {
            sys::setns(self.descriptor.as_fd(), libc::CLONE_NEWNET)?;
            work()
        })
    }
}

impl AsFd for NetworkNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A thread that changes its namespace is used for nothing else.
fn on_a_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("network-namespace".into()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_inside_and_this_thread_stays_outside() {
        let here = || std::fs::read_link("/proc/thread-self/ns/net");
        let Ok(namespace) = NetworkNamespace::new() else {
            assert!(!rustix::process::geteuid().is_root());
            return;
        };
        let before = here().unwrap();
        let inside = namespace.enter(here).unwrap();
        assert_ne!(inside, before);
        assert_eq!((namespace.enter(here).unwrap(), here().unwrap()), (inside, before));
    }
}
