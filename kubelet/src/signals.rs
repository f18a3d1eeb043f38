//! What a node can run short of (upstream: pkg/kubelet/eviction/api).

/// What is measured. Images, containers and pods share one file system here, so several signals are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Signal {
    Memory,
    Nodefs,
    NodefsInodes,
    Imagefs,
    ImagefsInodes,
    Containerfs,
    ContainerfsInodes,
    Pids,
}

/// What a pod uses that makes a signal low.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Memory,
    Disk,
    Inodes,
    Pids,
}

/// A condition of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Condition {
    Memory,
    Disk,
    Pids,
}

/// The conditions that hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    pub(crate) memory: bool,
    pub(crate) disk: bool,
    pub(crate) pids: bool,
}

/// How much is left, of how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) available: u64,
    pub(crate) capacity: u64,
}

impl Signal {
    pub(crate) const ALL: [Self; 8] = [
        Self::Memory,
        Self::Nodefs,
        Self::NodefsInodes,
        Self::Imagefs,
        Self::ImagefsInodes,
        Self::Containerfs,
        Self::ContainerfsInodes,
        Self::Pids,
    ];

    /// As an administrator writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory.available",
            Self::Nodefs => "nodefs.available",
            Self::NodefsInodes => "nodefs.inodesFree",
            Self::Imagefs => "imagefs.available",
            Self::ImagefsInodes => "imagefs.inodesFree",
            Self::Containerfs => "containerfs.available",
            Self::ContainerfsInodes => "containerfs.inodesFree",
            Self::Pids => "pid.available",
        }
    }

    pub(crate) fn resource(self) -> Resource {
        match self {
            Self::Memory => Resource::Memory,
            Self::Nodefs | Self::Imagefs | Self::Containerfs => Resource::Disk,
            Self::NodefsInodes | Self::ImagefsInodes | Self::ContainerfsInodes => Resource::Inodes,
            Self::Pids => Resource::Pids,
        }
    }

    pub(crate) fn condition(self) -> Condition {
        match self.resource() {
            Resource::Memory => Condition::Memory,
            Resource::Disk | Resource::Inodes => Condition::Disk,
            Resource::Pids => Condition::Pids,
        }
    }
}

impl Resource {
    /// As messages name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "ephemeral-storage",
            Self::Inodes => "inodes",
            Self::Pids => "pids",
        }
    }

    pub(crate) fn is_disk(self) -> bool {
        matches!(self, Self::Disk | Self::Inodes)
    }
}

impl Conditions {
    pub(crate) fn add(&mut self, condition: Condition) {
        match condition {
            Condition::Memory => self.memory = true,
            Condition::Disk => self.disk = true,
            Condition::Pids => self.pids = true,
        }
    }

    /// Whether nothing is short.
    pub(crate) fn are_calm(self) -> bool {
        self == Self::default()
    }
}

/// As a message lists them.
impl std::fmt::Display for Conditions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = [(self.disk, "DiskPressure"), (self.memory, "MemoryPressure"), (self.pids, "PIDPressure")];
        let names: Vec<&str> = names.into_iter().filter(|(holds, _)| *holds).map(|(_, name)| name).collect();
        write!(f, "[{}]", names.join(" "))
    }
}
