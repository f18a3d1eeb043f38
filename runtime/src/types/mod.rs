//! The vocabulary of the [`Runtime`](crate::Runtime) trait (upstream: the messages of k8s.io/cri-api).

mod container;
mod event;
mod image;
mod sandbox;
mod stream;
mod syscalls;

pub use container::{
    ContainerConfig, ContainerId, ContainerState, ContainerStatus, Device, Exit, FileKind, Flow, LogLimits, Mount,
    Propagation, Resources, Seccomp, Security, Stats, Throttling, Traffic, Unlinked,
};
pub use event::Event;
pub use image::{Image, ImageAuth, PullProgress};
pub use sandbox::{
    Bandwidth, DnsConfig, Features, IdMap, NamespaceOptions, PortMapping, SandboxConfig, SandboxId, SandboxStatus,
};
pub use stream::{ExecOutput, ExecRequest, Reader, Session, TerminalSize, Writer};
pub use syscalls::{
    CallCount, SYSCALL_POLICY, SyscallPolicy, SyscallVerdict, UnknownPolicy, UnusualCall, WatchedCalls,
};
