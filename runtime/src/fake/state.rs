//! What the fake knows, and the moves on it. No waiting here: everything happens under one lock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::broadcast;

use super::{Behavior, ExecHandler, Named, Script, ScriptOf, no_output};
use crate::{
    ContainerConfig, ContainerState, ContainerStatus, Error, Event, Exit, Image, PullProgress, Resources,
    SandboxConfig, SandboxStatus, Stats,
};

/// Pieces of output that a slow attached reader may fall behind.
const OUTPUT_BACKLOG: usize = 256;

pub(super) struct State {
    pub(super) sandboxes: Named<SandboxStatus>,
    pub(super) containers: Named<Container>,
    pub(super) images: Named<Image>,
    pub(super) behaviors: Named<VecDeque<Behavior>>,
    /// Says what containers do instead.
    pub(super) script: Option<Arc<ScriptOf>>,
    pub(super) pull_failures: Named<String>,
    pub(super) pull_delay: Duration,
    /// Pulls that run now.
    pub(super) pulling: Named<PullProgress>,
    pub(super) exec: Arc<ExecHandler>,
    pub(super) exec_delay: Duration,
    pub(super) ports: BTreeMap<u16, SocketAddr>,
    pub(super) stats: Named<Stats>,
    pub(super) sandbox_failure: Option<String>,
    pub(super) check_failure: Option<String>,
    pub(super) calls: Vec<String>,
    pub(super) networks: Vec<IpAddr>,
    next_id: u64,
    /// The last part of the address that was given out last.
    last_host: u8,
}

pub(super) struct Container {
    pub(super) status: ContainerStatus,
    pub(super) config: ContainerConfig,
    pub(super) resources: Resources,
    pub(super) behavior: Behavior,
    pub(super) output: broadcast::Sender<Vec<u8>>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            sandboxes: BTreeMap::new(),
            containers: BTreeMap::new(),
            images: BTreeMap::new(),
            behaviors: BTreeMap::new(),
            script: None,
            pull_failures: BTreeMap::new(),
            pull_delay: Duration::ZERO,
            pulling: BTreeMap::new(),
            exec: Arc::new(|_, _| no_output()),
            exec_delay: Duration::ZERO,
            ports: BTreeMap::new(),
            stats: BTreeMap::new(),
            sandbox_failure: None,
            check_failure: None,
            calls: Vec::new(),
            networks: vec![Ipv4Addr::new(10, 244, 0, 0).into()],
            next_id: 1,
            last_host: 1,
        }
    }
}

impl State {
    /// One whose pods say what their containers do.
    pub(super) fn scripted(script: Arc<ScriptOf>) -> Self {
        Self { script: Some(script), ..Self::default() }
    }

    fn id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    pub(super) fn sandbox(&mut self, id: &str) -> Result<&mut SandboxStatus, Error> {
        self.sandboxes.get_mut(id).ok_or_else(|| Error::NotFound { what: "sandbox", id: id.to_owned() })
    }

    pub(super) fn container(&mut self, id: &str) -> Result<&mut Container, Error> {
        self.containers.get_mut(id).ok_or_else(|| Error::NotFound { what: "container", id: id.to_owned() })
    }

    pub(super) fn running(&mut self, id: &str) -> Result<&mut Container, Error> {
        let container = self.container(id)?;
        match container.status.state {
            ContainerState::Running { .. } => Ok(container),
            _ => Err(wrong_state(container)),
        }
    }

    pub(super) fn add_sandbox(&mut self, config: &SandboxConfig) -> Result<SandboxStatus, Error> {
        if let Some(reason) = &self.sandbox_failure {
            return Err(Error::Network { reason: reason.clone() });
        }
        let ips = if config.namespaces.host_network { Vec::new() } else { self.addresses()? };
        let id = format!("sandbox-{}", self.id());
        let status =
            SandboxStatus { id: id.clone(), config: config.clone(), ready: true, created_at: SystemTime::now(), ips };
        self.sandboxes.insert(id, status.clone());
        Ok(status)
    }

    /// An address of each network that no sandbox has; the one after the last is tried first, as node-local address
    /// managers do, so that an address rests before it is used again.
    fn addresses(&mut self) -> Result<Vec<IpAddr>, Error> {
        const HOSTS: std::ops::RangeInclusive<u8> = 2..=254;
        let Some(first) = self.networks.first().copied() else { return Ok(Vec::new()) };
        let taken: BTreeSet<IpAddr> = self
            .sandboxes
            .values()
            .filter(|sandbox| sandbox.ready)
            .flat_map(|sandbox| sandbox.ips.iter().copied())
            .collect();
        let after = HOSTS.filter(|host| *host > self.last_host).chain(HOSTS.filter(|host| *host <= self.last_host));
        let free = after.into_iter().find(|host| !taken.contains(&address(first, *host)));
        let host = free.ok_or_else(|| Error::Network { reason: format!("no address of {first}/24 is free") })?;
        self.last_host = host;
        Ok(self.networks.iter().map(|network| address(*network, host)).collect())
    }

    pub(super) fn add_container(&mut self, sandbox: &str, config: &ContainerConfig) -> Result<String, Error> {
        let status = self.sandbox(sandbox)?.clone();
        if !status.ready {
            return Err(Error::WrongState { what: "sandbox", id: sandbox.to_owned(), state: "not ready".into() });
        }
        let image = self
            .image(&config.image)
            .ok_or_else(|| Error::NotFound { what: "image", id: config.image.clone() })?
            .clone();
        let id = format!("container-{}", self.id());
        let status = ContainerStatus {
            id: id.clone(),
            sandbox: sandbox.to_owned(),
            name: config.name.clone(),
            attempt: config.attempt,
            state: ContainerState::Created,
            created_at: SystemTime::now(),
            image: config.image.clone(),
            image_ref: image.id,
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            log_path: status.config.log_directory.join(&config.log_path),
        };
        let container = Container {
            status,
            config: config.clone(),
            resources: config.resources.clone(),
            behavior: Behavior::Run,
            output: broadcast::Sender::new(OUTPUT_BACKLOG),
        };
        self.containers.insert(id.clone(), container);
        Ok(id)
    }

    /// How the next start of a container goes.
    pub(super) fn script(&mut self, id: &str) -> Result<Script, Error> {
        let container = self.container(id)?;
        let (name, sandbox) = (container.config.name.clone(), container.status.sandbox.clone());
        let Some(script) = self.script.clone() else {
            return Ok(Script { behavior: self.next_behavior(&name), ..Script::default() });
        };
        let wrong = |reason| Script { behavior: Behavior::FailStart(reason), ..Script::default() };
        Ok(script(&self.sandbox(&sandbox)?.config).unwrap_or_else(wrong))
    }

    /// Moves a created container to running, or to where its behaviour leads at once.
    pub(super) fn start(&mut self, id: &str, behavior: Behavior) -> Result<Event, Error> {
        let container = self.container(id)?;
        if container.status.state != ContainerState::Created {
            return Err(wrong_state(container));
        }
        if let Behavior::FailStart(reason) = &behavior {
            let exit = Exit { reason: "StartError".into(), message: reason.clone(), ..super::exit(128) };
            container.status.state = ContainerState::Exited(exit);
            return Err(Error::Start { reason: reason.clone() });
        }
        container.behavior = behavior;
        container.status.state = ContainerState::Running { pid: 1, started_at: SystemTime::now() };
        Ok(Event::ContainerStarted { sandbox: container.status.sandbox.clone(), container: id.to_owned() })
    }

    fn next_behavior(&mut self, name: &str) -> Behavior {
        let Some(queue) = self.behaviors.get_mut(name) else { return Behavior::Run };
        if queue.len() > 1 { queue.pop_front() } else { queue.front().cloned() }.unwrap_or_default()
    }

    pub(super) fn end_container(&mut self, id: &str, mut exit: Exit) -> Result<Vec<Event>, Error> {
        let container = self.running(id)?;
        if let ContainerState::Running { started_at, .. } = container.status.state {
            exit.started_at = Some(started_at);
        }
        container.status.state = ContainerState::Exited(exit.clone());
        let sandbox = container.status.sandbox.clone();
        Ok(vec![Event::ContainerExited { sandbox, container: id.to_owned(), exit }])
    }

    pub(super) fn end_sandbox(&mut self, id: &str) -> Result<Vec<Event>, Error> {
        let sandbox = self.sandbox(id)?;
        if !std::mem::replace(&mut sandbox.ready, false) {
            return Ok(Vec::new());
        }
        let running: Vec<String> = self
            .containers
            .values()
            .filter(|container| container.status.sandbox == id && container.is_running())
            .map(|container| container.status.id.clone())
            .collect();
        let mut events = Vec::new();
        for container in running {
            events.extend(self.end_container(&container, super::exit(137))?);
        }
        events.push(Event::SandboxExited { sandbox: id.to_owned() });
        Ok(events)
    }

    pub(super) fn image(&self, image: &str) -> Option<&Image> {
        self.images.values().find(|known| known.id == image || known.tags.iter().any(|tag| tag == image))
    }

    pub(super) fn add_image(&mut self, name: &str, user: &str) -> Image {
        if let Some(known) = self.image(name) {
            return known.clone();
        }
        let id = format!("sha256:{:064x}", self.id());
        let image = Image {
            digests: vec![format!("{name}@{id}")],
            tags: vec![name.to_owned()],
            size: 1 << 20,
            user: user.to_owned(),
            id: id.clone(),
        };
        self.images.insert(id, image.clone());
        image
    }

    pub(super) fn print(&mut self, id: &str, line: &str) -> Result<(), Error> {
        let container = self.running(id)?;
        // Nobody attached is fine.
        let _ = container.output.send(format!("{line}\n").into_bytes());
        let path = &container.status.log_path;
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        let io = |source| Error::Io { operation: "write log", path: path.clone(), source };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(io)?;
        }
        let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(io)?;
        writeln!(file, "2026-01-01T00:00:00.000000000Z stdout F {line}").map_err(io)
    }
}

impl Container {
    pub(super) fn is_running(&self) -> bool {
        matches!(self.status.state, ContainerState::Running { .. })
    }
}

pub(super) fn wrong_state(container: &Container) -> Error {
    let state = match container.status.state {
        ContainerState::Created => "created",
        ContainerState::Running { .. } => "running",
        ContainerState::Exited(_) => "exited",
    };
    Error::WrongState { what: "container", id: container.status.id.clone(), state: state.to_owned() }
}

fn address(network: IpAddr, host: u8) -> IpAddr {
    match network {
        IpAddr::V4(network) => Ipv4Addr::from_bits(network.to_bits() & !0xff | u32::from(host)).into(),
        IpAddr::V6(network) => Ipv6Addr::from_bits(network.to_bits() & !0xff | u128::from(host)).into(),
    }
}
