//! One container as the shim sees it: its process, its streams, its log.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, pidfd_send_signal};

use super::early::Early;
use super::log::{Log, Stream};
use super::process::{self, Ended};
use super::watch::Watch;
use crate::Exit;
use crate::container::spec::ContainerSpec;
use crate::container::{self, Stdio};
use crate::sys::{self, Child};
use crate::wire::{CreateRequest, PidNamespace};

/// File name of the record of a container's end.
pub(crate) const EXIT_FILE: &str = "exit.json";

/// Where a container is in its life; `reply_to` is the connection that waits for the next step.
pub(super) enum Phase {
    Creating { reply_to: u64 },
    Created,
    Starting { reply_to: u64 },
    Running { started_at: SystemTime },
    Exited(Exit),
}

pub(super) struct Container {
    pub(super) request: CreateRequest,
    /// What its processes are made by.
    pub(super) spec: ContainerSpec,
    pub(super) child: Child,
    /// To its init process, until that has become the program.
    pub(super) channel: Option<UnixStream>,
    pub(super) phase: Phase,
    pub(super) master: Option<File>,
    pub(super) stdin: Option<OwnedFd>,
    pub(super) outputs: Vec<Output>,
    /// Of its system calls.
    pub(super) watch: Option<Watch>,
    log: Log,
    attached: Vec<Attached>,
    /// For the first who attaches, if input is for one only.
    early: Option<Early>,
    failure: Option<String>,
}

/// A stream that is read for the log.
pub(super) struct Output {
    pub(super) file: File,
    pub(super) is_stderr: bool,
    stream: Stream,
}

/// Somebody who gets a copy of the output. A copy that would have to wait ends the attachment.
struct Attached {
    stdout: Option<File>,
    stderr: Option<File>,
}

impl Container {
    /// Forks the init process, into the process namespace of `beside` if there is such a process.
    pub(super) fn create(
        request: CreateRequest,
        spec: ContainerSpec,
        reply_to: u64,
        beside: Option<&Child>,
    ) -> io::Result<Self> {
        let log = Log::open(request.log_path.clone(), request.log_limits)?;
        let (near, far) = UnixStream::pair()?;
        let (stdio, stdin, outputs) = pipes(&request)?;
        let directory = request.directory.clone();
        let own = request.pid_namespace == PidNamespace::Own;
        let flags = libc::CLONE_NEWNS | if own { libc::CLONE_NEWPID } else { 0 };
        let child = if let Some(beside) = beside {
            process::fork_into(beside.pidfd.as_fd(), flags, || container::init(&spec, &directory, far, stdio))?
        } else {
            match sys::fork(flags)? {
                Some(child) => child,
                None => container::init(&spec, &directory, far, stdio),
            }
        };
        Ok(Self {
            early: request.stdin_once.then(Early::default),
            watch: request.watch.map(Watch::new),
            request,
            spec,
            child,
            channel: Some(near),
            phase: Phase::Creating { reply_to },
            master: None,
            stdin,
            outputs,
            log,
            attached: Vec::new(),
            failure: None,
        })
    }

    /// Takes the terminal that the init process opened.
    pub(super) fn take_terminal(&mut self, master: OwnedFd) -> io::Result<()> {
        let reader = master.try_clone()?;
        fcntl_setfl(&reader, OFlags::NONBLOCK)?;
        self.outputs.push(Output { file: reader.into(), is_stderr: false, stream: Stream::new("stdout") });
        self.master = Some(master.into());
        Ok(())
    }

    /// Begins to watch the calls of one of its processes.
    pub(super) fn listen(&mut self, listener: OwnedFd) {
        // One that came too late for its container is closed.
        if let Some(watch) = self.watch.as_mut().filter(|_| !matches!(self.phase, Phase::Exited(_))) {
            watch.add(listener);
        }
    }

    /// Says in the shim's log, if its calls should be watched and cannot.
    pub(super) fn check_watch(&self) {
        if self.watch.as_ref().is_some_and(Watch::is_deaf) {
            eprintln!("container {}: its system calls are not watched: no listener", self.request.container);
        }
    }

    /// Remembers why the init process will end.
    pub(super) fn fail(&mut self, reason: String) {
        self.channel = None;
        self.failure = Some(reason);
    }

    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.phase, Phase::Exited(_))
    }

    pub(super) fn signal(&self, signal: i32) -> io::Result<()> {
        let signal = Signal::from_named_raw(signal).ok_or(io::ErrorKind::InvalidInput)?;
        match pidfd_send_signal(&self.child.pidfd, signal) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            sent => Ok(sent?),
        }
    }

    pub(super) fn reopen_log(&mut self) -> io::Result<()> {
        self.log.reopen()
    }

    /// Begins a copy of the output; returns where input goes, if the container takes any.
    pub(super) fn attach(&mut self, mut descriptors: Vec<OwnedFd>) -> io::Result<Vec<OwnedFd>> {
        for descriptor in &descriptors {
            fcntl_setfl(descriptor, OFlags::NONBLOCK)?;
        }
        let stderr = (descriptors.len() > 1).then(|| descriptors.remove(1).into());
        let stdout = (!descriptors.is_empty()).then(|| descriptors.remove(0).into());
        let mut attached = Attached { stdout, stderr };
        let early = self.early.take().unwrap_or_default();
        if early.pieces().all(|(is_stderr, bytes)| attached.copy(is_stderr, bytes)) {
            self.attached.push(attached);
        }
        if let Some(master) = &self.master {
            return Ok(vec![OwnedFd::from(master.try_clone()?)]);
        }
        if self.request.stdin_once {
            // Its end is the end of the container's input.
            return Ok(self.stdin.take().into_iter().collect());
        }
        self.stdin.iter().map(OwnedFd::try_clone).collect()
    }

    /// Copies what has been written to output `index`; removes the output at its end.
    pub(super) fn copy(&mut self, index: usize, buffer: &mut [u8]) {
        let Some(output) = self.outputs.get_mut(index) else { return };
        match output.file.read(buffer) {
            Ok(count) if count > 0 => {
                let bytes = &buffer[..count];
                report(self.log.write(&mut output.stream, bytes, SystemTime::now()), "write log");
                let is_stderr = output.is_stderr;
                if self.early.as_mut().is_some_and(|early| !early.keep(is_stderr, bytes)) {
                    self.early = None;
                }
                self.attached.retain_mut(|attached| attached.copy(is_stderr, bytes));
            }
            Err(err) if matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            // A terminal whose last user is gone reads as EIO.
            Ok(_) | Err(_) => {
                report(self.log.finish(&mut output.stream, SystemTime::now()), "write log");
                self.outputs.remove(index);
                if self.outputs.is_empty() {
                    self.attached.clear();
                }
            }
        }
    }

    /// Reaps the process, saves the rest of its output, and records its end.
    pub(super) fn end(&mut self, buffer: &mut [u8]) -> Exit {
        let ended = process::reap(&self.child);
        self.kill_remaining();
        self.drain(buffer);
        let exit = self.exit(ended);
        self.phase = Phase::Exited(exit.clone());
        if let Some(watch) = &mut self.watch {
            watch.end();
        }
        self.channel = None;
        self.stdin = None;
        self.master = None;
        report(self.record(&exit), "record an exit");
        exit
    }

    fn drain(&mut self, buffer: &mut [u8]) {
        for index in (0..self.outputs.len()).rev() {
            while self.outputs.get(index).is_some_and(|output| has_input(&output.file)) {
                let before = self.outputs.len();
                self.copy(index, buffer);
                if self.outputs.len() < before {
                    break;
                }
            }
        }
        if self.request.pid_namespace == PidNamespace::Own {
            // Nobody is left who could write.
            for output in &mut self.outputs {
                report(self.log.finish(&mut output.stream, SystemTime::now()), "write log");
            }
            self.outputs.clear();
            self.attached.clear();
        }
    }

    /// Kills what a container left behind that does not have a pid namespace of its own.
    fn kill_remaining(&self) {
        if self.request.pid_namespace == PidNamespace::Own {
            return;
        }
        let Some(directory) = &self.request.process_cgroup else { return };
        crate::cgroup::kill_all(directory);
    }

    fn exit(&self, ended: Ended) -> Exit {
        let started_at = match self.phase {
            Phase::Running { started_at } => Some(started_at),
            _ => None,
        };
        let out_of_memory =
            ended.code != 0 && self.request.memory_cgroup.as_deref().is_some_and(crate::cgroup::was_oom_killed);
        let (code, reason) = match (&self.failure, out_of_memory) {
            (Some(_), _) => (128, "StartError"),
            (None, true) => (ended.code, "OOMKilled"),
            (None, false) if ended.code == 0 => (0, "Completed"),
            (None, false) => (ended.code, "Error"),
        };
        let message = self.failure.clone().unwrap_or_default();
        let finished_at = SystemTime::now();
        Exit { code, signal: ended.signal, started_at, finished_at, reason: reason.to_owned(), message }
    }

    /// Writes the record in one step, so that nobody reads half of it.
    fn record(&self, exit: &Exit) -> io::Result<()> {
        let path = self.request.directory.join(EXIT_FILE);
        let half = path.with_extension("tmp");
        std::fs::write(&half, serde_json::to_vec(exit)?)?;
        std::fs::rename(half, path)
    }
}

impl Attached {
    /// False when there is nobody left to copy to.
    fn copy(&mut self, is_stderr: bool, bytes: &[u8]) -> bool {
        let target = if is_stderr { &mut self.stderr } else { &mut self.stdout };
        if target.as_mut().is_some_and(|file| file.write_all(bytes).is_err()) {
            return false;
        }
        self.stdout.is_some() || self.stderr.is_some()
    }
}

type Pipes = (Stdio, Option<OwnedFd>, Vec<Output>);

/// The container's ends of its streams, and the shim's.
fn pipes(request: &CreateRequest) -> io::Result<Pipes> {
    let mut stdio = Stdio { stdin: None, stdout: None, stderr: None };
    if request.tty {
        return Ok((stdio, None, Vec::new()));
    }
    let mut stdin = None;
    if request.stdin {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        (stdio.stdin, stdin) = (Some(read), Some(write));
    }
    let mut outputs = Vec::new();
    for (name, is_stderr) in [("stdout", false), ("stderr", true)] {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        fcntl_setfl(&read, OFlags::NONBLOCK)?;
        outputs.push(Output { file: read.into(), is_stderr, stream: Stream::new(name) });
        *if is_stderr { &mut stdio.stderr } else { &mut stdio.stdout } = Some(write);
    }
    Ok((stdio, stdin, outputs))
}

fn has_input(file: &File) -> bool {
    let mut fds = [rustix::event::PollFd::new(file, rustix::event::PollFlags::IN)];
    let no_wait = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&no_wait)).is_ok_and(|count| count > 0)
}

/// Says what went wrong where nobody can be told directly: in `shim.log`.
pub(super) fn report(result: io::Result<()>, what: &str) {
    if let Err(err) = result {
        eprintln!("{what}: {err}");
    }
}

/// Reads the record of a container's end, if it has ended.
pub(crate) fn read_exit(directory: &Path) -> Option<Exit> {
    serde_json::from_slice(&std::fs::read(directory.join(EXIT_FILE)).ok()?).ok()
}
