//! What clients of the shim ask for, one by one.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{Server, exited};
use crate::container::spec::{ContainerSpec, ExecSpec};
use crate::container::{self as stages, START, Stdio};
use crate::shim::container::{Container, Phase};
use crate::shim::exec::Exec;
use crate::sys;
use crate::wire::{self, CreateRequest, PidNamespace, Reply, Request};

/// How long a connection to a pod's loopback port may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

impl Server {
    pub(super) fn answer(&mut self, key: u64, request: Request, descriptors: Vec<OwnedFd>) {
        let result = match request {
            Request::Create(request) => self.create(key, request, descriptors),
            Request::Start { container } => self.start(key, &container),
            Request::Kill { container, signal } => self.with(&container, |container| {
                container.signal(signal)?;
                Ok(Vec::new())
            }),
            Request::Exec { container, spec, stdio } => self.exec(key, &container, &spec, stdio, descriptors),
            Request::Attach { container } => self.with(&container, |container| container.attach(descriptors)),
            Request::ReopenLog { container } => self.with(&container, |container| {
                container.reopen_log()?;
                Ok(Vec::new())
            }),
            Request::Remove { container } => self.remove(&container),
            Request::Connect { port } => connect(port).map(|socket| Some(vec![socket])),
            Request::Subscribe => self.subscribe(key),
            Request::Shutdown => self.shut_down(key),
        };
        match result {
            Ok(Some(descriptors)) => self.reply(key, &Reply::Done, &descriptors),
            // The answer comes later.
            Ok(None) => {}
            Err(err) => self.reply(key, &Reply::Failed { reason: err.to_string() }, &[]),
        }
    }

    fn with(
        &mut self,
        container: &str,
        act: impl FnOnce(&mut Container) -> io::Result<Vec<OwnedFd>>,
    ) -> io::Result<Option<Vec<OwnedFd>>> {
        let index = self.find(container)?;
        act(&mut self.containers[index]).map(Some)
    }

    fn create(
        &mut self,
        key: u64,
        request: CreateRequest,
        mut descriptors: Vec<OwnedFd>,
    ) -> io::Result<Option<Vec<OwnedFd>>> {
        if self.shutdown.is_some() {
            return Err(io::Error::other("the sandbox is stopping"));
        }
        let sealed = descriptors.pop().ok_or_else(|| io::Error::other("no specification came along"))?;
        let spec = ContainerSpec::unseal(sealed)?;
        let target = match &request.pid_namespace {
            PidNamespace::Of(target) => Some(self.find(target)?),
            PidNamespace::Own | PidNamespace::Pod => None,
        };
        if target.is_some_and(|index| !matches!(self.containers[index].phase, Phase::Running { .. })) {
            return Err(io::Error::other("the container whose processes it shall see is not running"));
        }
        let beside = match request.pid_namespace {
            PidNamespace::Own => None,
            PidNamespace::Pod => self.pause.as_ref(),
            PidNamespace::Of(_) => target.map(|index| &self.containers[index].child),
        };
        let container = Container::create(request, spec, key, beside)?;
        self.containers.push(container);
        Ok(None)
    }

    fn start(&mut self, key: u64, container: &str) -> io::Result<Option<Vec<OwnedFd>>> {
        let index = self.find(container)?;
        let container = &mut self.containers[index];
        let (Phase::Created, Some(channel)) = (&container.phase, &container.channel) else {
            return Err(io::Error::other("the container is not waiting to be started"));
        };
        wire::send(channel, &[START], &[])?;
        container.phase = Phase::Starting { reply_to: key };
        Ok(None)
    }

    /// Forgets a container; one that is not running is ended first.
    fn remove(&mut self, container: &str) -> io::Result<Option<Vec<OwnedFd>>> {
        let Ok(index) = self.find(container) else { return Ok(Some(Vec::new())) };
        if matches!(self.containers[index].phase, Phase::Running { .. } | Phase::Starting { .. }) {
            return Err(io::Error::other("the container is running"));
        }
        if self.containers[index].is_alive() {
            self.containers[index].signal(libc::SIGKILL)?;
            self.end_container(index);
        }
        // Swept at the end of the round, so that indexes stay valid until then.
        self.containers[index].request.container.clear();
        Ok(Some(Vec::new()))
    }

    fn subscribe(&mut self, key: u64) -> io::Result<Option<Vec<OwnedFd>>> {
        self.reply(key, &Reply::Done, &[]);
        let ended: Vec<Reply> = self.containers.iter().filter_map(exited).collect();
        for reply in ended {
            self.reply(key, &reply, &[]);
        }
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.key == key) {
            connection.subscribed = true;
        }
        Ok(None)
    }

    fn shut_down(&mut self, key: u64) -> io::Result<Option<Vec<OwnedFd>>> {
        self.shutdown = Some(key);
        for container in self.containers.iter().filter(|container| container.is_alive()) {
            container.signal(libc::SIGKILL)?;
        }
        Ok(None)
    }

    fn exec(
        &mut self,
        key: u64,
        container: &str,
        spec: &ExecSpec,
        stdio: [bool; 3],
        descriptors: Vec<OwnedFd>,
    ) -> io::Result<Option<Vec<OwnedFd>>> {
        let index = self.find(container)?;
        let target = &self.containers[index];
        if !matches!(target.phase, Phase::Running { .. }) {
            return Err(io::Error::other("the container is not running"));
        }
        let mut given = descriptors.into_iter();
        let [stdin, stdout, stderr] = stdio.map(|wanted| if wanted { given.next() } else { None });
        let (near, far) = UnixStream::pair()?;
        let Some(starter) = sys::fork(0)? else {
            let pidfd = target.child.pidfd.as_fd();
            stages::exec(&target.spec, spec, pidfd, far, Stdio { stdin, stdout, stderr })
        };
        self.execs.push(Exec::new(key, container, starter, near));
        Ok(None)
    }
}

/// Connects to a port on the loopback address, which is the pod's because the shim is in the pod's network namespace.
fn connect(port: u16) -> io::Result<OwnedFd> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let connected = TcpStream::connect_timeout(&v4, CONNECT_PATIENCE);
    let stream = connected.or_else(|err| TcpStream::connect_timeout(&v6, CONNECT_PATIENCE).map_err(|_| err))?;
    Ok(stream.into())
}
