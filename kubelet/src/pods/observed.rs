//! What the runtime knows of one pod, in the order in which questions are asked of it (upstream: PodStatus of
//! pkg/kubelet/container).
use std::time::SystemTime;

use jiff::Timestamp;
use runtime::{ContainerState, ContainerStatus, Exit, SandboxStatus};

/// The sandboxes and containers of one pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Newest first.
    pub sandboxes: Vec<SandboxStatus>,
    /// Newest first.
    pub containers: Vec<ContainerStatus>,
}

impl Seen {
    /// Sorts what the runtime listed.
    pub fn new(mut sandboxes: Vec<SandboxStatus>, mut containers: Vec<ContainerStatus>) -> Self {
        sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.config.attempt, sandbox.created_at)));
        containers.sort_by_key(|container| std::cmp::Reverse((container.attempt, container.created_at)));
        Self { sandboxes, containers }
    }

    /// The newest sandbox, if it lives.
    pub fn live_sandbox(&self) -> Option<&SandboxStatus> {
        self.sandboxes.first().filter(|sandbox| sandbox.ready)
    }

    /// The newest record of a container.
    pub fn latest(&self, name: &str) -> Option<&ContainerStatus> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The record before the newest one.
    pub fn previous(&self, name: &str) -> Option<&ContainerStatus> {
        self.containers.iter().filter(|container| container.name == name).nth(1)
    }

    /// The newest record of a container in one sandbox.
    pub fn latest_in(&self, sandbox: &str, name: &str) -> Option<&ContainerStatus> {
        self.containers.iter().find(|container| container.sandbox == sandbox && container.name == name)
    }

    /// A container by id.
    pub fn by_id(&self, id: &str) -> Option<&ContainerStatus> {
        self.containers.iter().find(|container| container.id == id)
    }

    /// Containers whose process lives.
    pub fn running(&self) -> impl Iterator<Item = &ContainerStatus> {
        self.containers.iter().filter(|container| is_running(container))
    }
}

/// Whether the container's process lives.
pub fn is_running(container: &ContainerStatus) -> bool {
    matches!(container.state, ContainerState::Running { .. })
}

/// How the container ended, if it has.
pub fn exit(container: &ContainerStatus) -> Option<&Exit> {
    match &container.state {
        ContainerState::Exited(exit) => Some(exit),
        _ => None,
    }
}

/// A clock reading as the API shows it: whole seconds.
pub fn timestamp(time: SystemTime) -> Timestamp {
    let time = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    Timestamp::from_second(time.as_second()).unwrap_or(Timestamp::UNIX_EPOCH)
}
