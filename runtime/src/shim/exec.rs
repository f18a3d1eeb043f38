//! A process beside a container's first, from the request to its end.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::process::{Signal, pidfd_send_signal};

use super::process;
use crate::container::{BORN, FAILED, WATCHED};
use crate::sys::Child;
use crate::wire::{self, Reply};

/// A process beside a container's first, and the one that prepares it.
pub(super) struct Exec {
    /// Its connection's.
    pub(super) key: u64,
    /// Prepares, and stays outside the container's process namespace.
    pub(super) starter: Option<Child>,
    /// The process itself, once it is born.
    pub(super) child: Option<Child>,
    /// To both, until the process has become its program.
    pub(super) channel: Option<UnixStream>,
    master: Option<OwnedFd>,
    /// Of its system calls, until the container's watchman takes it.
    pub(super) listener: Option<OwnedFd>,
    pub(super) container: String,
    pub(super) failed: bool,
    /// Nobody waits for it any more.
    given_up: bool,
}

impl Exec {
    pub(super) fn new(key: u64, container: &str, starter: Child, channel: UnixStream) -> Self {
        Self {
            key,
            starter: Some(starter),
            child: None,
            channel: Some(channel),
            master: None,
            listener: None,
            container: container.to_owned(),
            failed: false,
            given_up: false,
        }
    }

    /// Takes the next message; returns what is to be answered.
    pub(super) fn hear(&mut self, buffer: &mut [u8]) -> Option<(Reply, Vec<OwnedFd>)> {
        let mut descriptors = Vec::new();
        let failed = |reason: String| Reply::StartFailed { reason };
        match wire::receive(self.channel.as_ref()?, buffer, &mut descriptors) {
            Ok(0) => match &self.child {
                Some(child) => {
                    self.channel = None;
                    let master = self.master.take();
                    return Some((Reply::Process { pid: child.id() }, master.into_iter().collect()));
                }
                None => return Some((self.fail(failed("the process ended early".to_owned())), Vec::new())),
            },
            Ok(count) if buffer[0] == FAILED => {
                let reason = String::from_utf8_lossy(&buffer[1..count]).into_owned();
                return Some((self.fail(failed(reason)), Vec::new()));
            }
            Ok(_) if buffer[0] == BORN => match descriptors.pop().map(process::adopt) {
                Some(Ok(child)) => self.child = Some(child),
                Some(Err(err)) => return Some((self.fail(failed(format!("find the process: {err}"))), Vec::new())),
                None => return Some((self.fail(failed("the process sent no descriptor".to_owned())), Vec::new())),
            },
            Ok(_) if buffer[0] == WATCHED => self.listener = descriptors.pop(),
            Ok(_) => self.master = descriptors.pop(),
            Err(err) => return Some((self.fail(Reply::Failed { reason: err.to_string() }), Vec::new())),
        }
        if self.given_up {
            self.give_up();
        }
        None
    }

    fn fail(&mut self, reply: Reply) -> Reply {
        (self.channel, self.failed) = (None, true);
        reply
    }

    /// Kills whatever there is of it, and what is still to be born.
    pub(super) fn give_up(&mut self) {
        self.given_up = true;
        for child in [&self.starter, &self.child].into_iter().flatten() {
            // It may have ended already.
            let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.starter.is_none() && self.child.is_none() && self.channel.is_none()
    }
}
