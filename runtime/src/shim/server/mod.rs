//! The shim's loop: waits for requests, output and ends, and serves them one by one.

mod requests;

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::container::{Container, Phase, report};
use super::exec::Exec;
use super::process::{self, Ended};
use super::watch::Watch;
use super::{Error, during};
use crate::container::{FAILED, WATCHED};
use crate::sys::Child;
use crate::wire::{self, Reply, Request};

/// A client that stops in the middle of a frame is given up after this time.
const CLIENT_PATIENCE: Duration = Duration::from_secs(2);
const BUFFER: usize = 16 * 1024;

pub(super) struct Server {
    listener: UnixListener,
    pause: Option<Child>,
    connections: Vec<Connection>,
    containers: Vec<Container>,
    execs: Vec<Exec>,
    next_key: u64,
    buffer: Vec<u8>,
    /// The connection that asked for the end.
    shutdown: Option<u64>,
}

struct Connection {
    key: u64,
    stream: UnixStream,
    subscribed: bool,
}

/// What became ready, in the order in which it is served: output before ends, requests last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ready {
    Channel(usize),
    /// A watched call of a container.
    Call(usize, RawFd),
    /// The end of all who could make such calls.
    CallsEnd(usize, RawFd),
    Output(usize, usize),
    ExecChannel(u64),
    ContainerExit(usize),
    StarterExit(u64),
    ExecExit(u64),
    Connection(u64),
    Listener,
}

impl Ready {
    /// A listener that is at its end has no call for us.
    fn with(self, events: PollFlags) -> Self {
        match self {
            Self::Call(index, listener) if !events.contains(PollFlags::IN) => Self::CallsEnd(index, listener),
            ready => ready,
        }
    }
}

impl Server {
    pub(super) fn new(listener: UnixListener, pause: Option<Child>) -> Result<Self, Error> {
        during(listener.set_nonblocking(true), "prepare the socket")?;
        Ok(Self {
            listener,
            pause,
            connections: Vec::new(),
            containers: Vec::new(),
            execs: Vec::new(),
            next_key: 0,
            buffer: vec![0; BUFFER],
            shutdown: None,
        })
    }

    pub(super) fn run(mut self) -> ExitCode {
        loop {
            if let Some(key) = self.shutdown
                && !self.containers.iter().any(Container::is_alive)
            {
                self.reply(key, &Reply::Done, &[]);
                return ExitCode::SUCCESS;
            }
            match self.wait() {
                // Later ones first within a kind, so that removals do not move what is still to be served.
                Ok(ready) => ready.into_iter().for_each(|event| self.serve(event)),
                Err(err) => {
                    eprintln!("wait: {err}");
                    return ExitCode::FAILURE;
                }
            }
            self.tell_calls(Instant::now());
            self.containers.retain(|container| !container.request.container.is_empty());
        }
    }

    fn wait(&self) -> io::Result<Vec<Ready>> {
        let mut sources: Vec<(Ready, PollFd<'_>)> = Vec::new();
        let (now, heard) = (Instant::now(), self.connections.iter().any(|one| one.subscribed));
        let mut due: Option<Duration> = None;
        for (index, container) in self.containers.iter().enumerate() {
            if let Some(channel) = &container.channel
                && !matches!(container.phase, Phase::Created)
            {
                sources.push((Ready::Channel(index), readable(channel)));
            }
            if let Some(watch) = &container.watch {
                let listeners = watch.listeners(now).iter();
                sources.extend(listeners.map(|one| (Ready::Call(index, one.as_raw_fd()), readable(one))));
                due = due.into_iter().chain(watch.due(now, heard)).min();
            }
            for (output, source) in container.outputs.iter().enumerate().rev() {
                sources.push((Ready::Output(index, output), readable(&source.file)));
            }
        }
        for exec in &self.execs {
            if let Some(channel) = &exec.channel {
                sources.push((Ready::ExecChannel(exec.key), readable(channel)));
            }
        }
        let alive = self.containers.iter().enumerate().filter(|(_, container)| container.is_alive());
        sources.extend(alive.map(|(index, one)| (Ready::ContainerExit(index), readable(&one.child.pidfd))));
        for exec in &self.execs {
            sources.extend(exec.starter.as_ref().map(|child| (Ready::StarterExit(exec.key), readable(&child.pidfd))));
            // What it has still to say comes before its end.
            let said = exec.child.as_ref().filter(|_| exec.channel.is_none());
            sources.extend(said.map(|child| (Ready::ExecExit(exec.key), readable(&child.pidfd))));
        }
        sources.extend(self.connections.iter().map(|one| (Ready::Connection(one.key), readable(&one.stream))));
        sources.push((Ready::Listener, readable(&self.listener)));
        let (names, mut fds): (Vec<_>, Vec<_>) = sources.into_iter().unzip();
        let due = due.map(|due| Timespec { tv_sec: due.as_secs().cast_signed(), tv_nsec: due.subsec_nanos().into() });
        match rustix::event::poll(&mut fds, due.as_ref()) {
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            polled => polled?,
        };
        let ready = names.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        Ok(ready.map(|(name, fd)| name.with(fd.revents())).collect())
    }

    fn watch(&mut self, index: usize, act: impl FnOnce(&mut Watch)) {
        if let Some(watch) = &mut self.containers[index].watch {
            act(watch);
        }
    }

    /// Tells those who subscribed of the calls that were watched, now and then.
    fn tell_calls(&mut self, now: Instant) {
        if !self.connections.iter().any(|connection| connection.subscribed) {
            return;
        }
        let told: Vec<Reply> =
            self.containers.iter_mut().filter_map(|container| calls(container, now, false)).collect();
        told.iter().for_each(|reply| self.publish(reply));
    }

    fn publish(&mut self, reply: &Reply) {
        let subscribed = self.connections.iter().filter(|connection| connection.subscribed);
        let subscribers: Vec<u64> = subscribed.map(|connection| connection.key).collect();
        for key in subscribers {
            self.reply(key, reply, &[]);
        }
    }

    fn serve(&mut self, ready: Ready) {
        match ready {
            Ready::Channel(index) => self.hear_init(index),
            Ready::Call(index, listener) => self.watch(index, |watch| watch.serve(listener)),
            Ready::CallsEnd(index, listener) => self.watch(index, |watch| watch.close(listener)),
            Ready::Output(index, output) => self.containers[index].copy(output, &mut self.buffer),
            Ready::ExecChannel(key) => self.hear_exec(key),
            Ready::ContainerExit(index) => self.end_container(index),
            Ready::StarterExit(key) => self.end_starter(key),
            Ready::ExecExit(key) => self.end_exec(key),
            Ready::Connection(key) => self.hear_client(key),
            Ready::Listener => self.accept(),
        }
    }

    fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        if stream.set_read_timeout(Some(CLIENT_PATIENCE)).is_err()
            || stream.set_write_timeout(Some(CLIENT_PATIENCE)).is_err()
        {
            return;
        }
        self.next_key += 1;
        self.connections.push(Connection { key: self.next_key, stream, subscribed: false });
    }

    fn hear_client(&mut self, key: u64) {
        let Some(connection) = self.connections.iter().find(|connection| connection.key == key) else { return };
        match wire::receive_frame::<Request>(&connection.stream) {
            Ok(Some((request, descriptors))) => self.answer(key, request, descriptors),
            Ok(None) => self.hang_up(key),
            Err(err) => {
                eprintln!("client: {err}");
                self.hang_up(key);
            }
        }
    }

    /// Forgets a connection; what was executed through it ends.
    fn hang_up(&mut self, key: u64) {
        self.connections.retain(|connection| connection.key != key);
        if let Some(exec) = self.execs.iter_mut().find(|exec| exec.key == key) {
            exec.give_up();
        }
    }

    fn reply(&mut self, key: u64, reply: &Reply, descriptors: &[OwnedFd]) {
        let Some(connection) = self.connections.iter().find(|connection| connection.key == key) else { return };
        if wire::send_frame(&connection.stream, reply, descriptors).is_err() {
            self.hang_up(key);
        }
    }

    fn find(&self, container: &str) -> io::Result<usize> {
        let found = self.containers.iter().position(|known| known.request.container == container);
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("container {container} is not here")))
    }

    /// The init process is ready, has become its program, or says why not.
    fn hear_init(&mut self, index: usize) {
        let container = &mut self.containers[index];
        let Some(channel) = &container.channel else { return };
        let mut descriptors = Vec::new();
        let heard = wire::receive(channel, &mut self.buffer, &mut descriptors);
        let pid = container.child.id();
        match (&container.phase, heard) {
            (Phase::Creating { reply_to }, Ok(count)) if count > 0 && self.buffer[0] != FAILED => {
                let key = *reply_to;
                container.phase = Phase::Created;
                if let Some(master) = descriptors.pop() {
                    report(container.take_terminal(master), "take the terminal");
                }
                self.reply(key, &Reply::Process { pid }, &[]);
            }
            (Phase::Starting { .. }, Ok(count)) if count > 0 && self.buffer[0] == WATCHED => {
                if let Some(listener) = descriptors.pop() {
                    container.listen(listener);
                }
            }
            (Phase::Starting { reply_to }, Ok(0)) => {
                let key = *reply_to;
                container.check_watch();
                container.channel = None;
                container.phase = Phase::Running { started_at: SystemTime::now() };
                self.reply(key, &Reply::Process { pid }, &[]);
            }
            (Phase::Creating { reply_to } | Phase::Starting { reply_to }, heard) => {
                let key = *reply_to;
                let reason = match heard {
                    Ok(count) if count > 0 => String::from_utf8_lossy(&self.buffer[1..count]).into_owned(),
                    Ok(_) => "the init process ended early".to_owned(),
                    Err(err) => err.to_string(),
                };
                container.fail(reason.clone());
                self.reply(key, &Reply::StartFailed { reason }, &[]);
            }
            _ => container.channel = None,
        }
    }

    fn end_container(&mut self, index: usize) {
        // What it said before its end comes first.
        while self.containers[index].channel.is_some() && !matches!(self.containers[index].phase, Phase::Created) {
            self.hear_init(index);
        }
        let container = &mut self.containers[index];
        container.end(&mut self.buffer);
        let last = [calls(container, Instant::now(), true), exited(container)];
        last.iter().flatten().for_each(|reply| self.publish(reply));
    }

    fn hear_exec(&mut self, key: u64) {
        let Some(exec) = self.execs.iter_mut().find(|exec| exec.key == key) else { return };
        let heard = exec.hear(&mut self.buffer);
        if let Some(listener) = exec.listener.take()
            && let Some(container) = self.containers.iter_mut().find(|one| one.request.container == exec.container)
        {
            container.listen(listener);
        }
        if let Some((reply, descriptors)) = heard {
            self.reply(key, &reply, &descriptors);
            self.settle(key);
        }
    }

    /// The process that prepared another has ended: it lives on in that one, or failed.
    fn end_starter(&mut self, key: u64) {
        let Some(exec) = self.execs.iter_mut().find(|exec| exec.key == key) else { return };
        if let Some(starter) = exec.starter.take() {
            process::reap(&starter);
        }
        self.settle(key);
    }

    fn end_exec(&mut self, key: u64) {
        let Some(exec) = self.execs.iter_mut().find(|exec| exec.key == key) else { return };
        let Some(child) = exec.child.take() else { return };
        let Ended { code, .. } = process::reap(&child);
        if !exec.failed {
            self.reply(key, &Reply::ExecExited { code }, &[]);
        }
        self.settle(key);
    }

    /// Forgets what was executed once nothing of it is left.
    fn settle(&mut self, key: u64) {
        if self.execs.iter().any(|exec| exec.key == key && exec.is_over()) {
            self.execs.retain(|exec| exec.key != key);
            self.connections.retain(|connection| connection.key != key);
        }
    }
}

fn readable(fd: &impl AsFd) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::IN)
}

/// What there is to tell of a container's watched calls.
fn calls(container: &mut Container, now: Instant, last: bool) -> Option<Reply> {
    let calls = container.watch.as_mut()?.report(now, last)?;
    Some(Reply::Watched { container: container.request.container.clone(), calls })
}

fn exited(container: &Container) -> Option<Reply> {
    match &container.phase {
        Phase::Exited(exit) => {
            Some(Reply::Exited { container: container.request.container.clone(), exit: exit.clone() })
        }
        _ => None,
    }
}
