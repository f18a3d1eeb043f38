//! What the runtime tells without being asked.

use super::{ContainerId, Exit, SandboxId};

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
    /// Events may have been missed: look at everything again.
    Resync,
}
