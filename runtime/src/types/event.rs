//! What the runtime tells without being asked.

use super::{ContainerId, Exit, SandboxId, WatchedCalls};

/// What the runtime tells without being asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    ContainerStarted {
        sandbox: SandboxId,
        container: ContainerId,
    },
    ContainerExited {
        sandbox: SandboxId,
        container: ContainerId,
        exit: Exit,
    },
    /// The sandbox's shim ended.
    SandboxExited {
        sandbox: SandboxId,
    },
    /// Its programs made system calls that are watched.
    WatchedCalls {
        sandbox: SandboxId,
        container: ContainerId,
        calls: WatchedCalls,
    },
    /// Events may have been missed: look at everything again.
    Resync,
}
