//! What the runtime knows of one pod, in the order in which questions are asked of it (upstream: PodStatus of
//! pkg/kubelet/container).
use std::time::SystemTime;

use jiff::Timestamp;
use runtime::{ContainerState, ContainerStatus, Exit, SandboxStatus};

/// The sandboxes and containers of one pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    /// Newest first.
    pub(crate) sandboxes: Vec<SandboxStatus>,
    /// Newest first.
    pub(crate) containers: Vec<ContainerStatus>,
}

impl Seen {
    /// Sorts what the runtime listed.
    pub(crate) fn new(mut sandboxes: Vec<SandboxStatus>, mut containers: Vec<ContainerStatus>) -> Self {
        sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.config.attempt, sandbox.created_at)));
        containers.sort_by_key(|container| std::cmp::Reverse((container.attempt, container.created_at)));
        Self { sandboxes, containers }
    }

    /// The newest sandbox, if it lives.
    pub(crate) fn live_sandbox(&self) -> Option<&SandboxStatus> {
        self.sandboxes.first().filter(|sandbox| sandbox.ready)
    }

    /// The newest record of a container.
    pub(crate) fn latest(&self, name: &str) -> Option<&ContainerStatus> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The record before the newest one.
    pub(crate) fn previous(&self, name: &str) -> Option<&ContainerStatus> {
        self.containers.iter().filter(|container| container.name == name).nth(1)
    }

    /// The newest record of a container in one sandbox.
    pub(crate) fn latest_in(&self, sandbox: &str, name: &str) -> Option<&ContainerStatus> {
        self.containers.iter().find(|container| container.sandbox == sandbox && container.name == name)
    }

    /// A container by id.
    pub(crate) fn by_id(&self, id: &str) -> Option<&ContainerStatus> {
        self.containers.iter().find(|container| container.id == id)
    }

    /// Containers whose process lives.
    pub(crate) fn running(&self) -> impl Iterator<Item = &ContainerStatus> {
        self.containers.iter().filter(|container| is_running(container))
    }
}

/// Whether the container's process lives.
pub(crate) fn is_running(container: &ContainerStatus) -> bool {
    matches!(container.state, ContainerState::Running { .. })
}

/// How the container ended, if it has.
pub(crate) fn exit(container: &ContainerStatus) -> Option<&Exit> {
    match &container.state {
        ContainerState::Exited(exit) => Some(exit),
        _ => None,
    }
}

/// A clock reading as the API shows it: whole seconds.
pub(crate) fn timestamp(time: SystemTime) -> Timestamp {
    let time = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    Timestamp::from_second(time.as_second()).unwrap_or(Timestamp::UNIX_EPOCH)
}
