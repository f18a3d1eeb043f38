//! The local container runtime: images, snapshots, sandboxes, containers, cgroups, networks; the shim; a fake.
//!
//! Invariant: the only crate with `unsafe` (in `sys`); never forks inside a threaded process.
//!
//! [`Runtime`] has the shape of the Container Runtime Interface (CRI v1), so that a CRI endpoint can stand behind it.
#![deny(unsafe_code)]

pub mod beneath;
pub mod fake;
pub mod local;
pub mod meanwhile;
pub mod mount_table;
pub mod namespace;
pub mod packet;
pub mod shim;
pub mod testsuite;
pub mod tree;
pub mod walk;

mod cgroup;
mod container;
mod disk;
mod error;
mod image;
mod network;
mod sys;
mod sysctl;
mod types;
mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;

pub use error::Error;
pub use types::{
    Bandwidth, CallCount, ContainerConfig, ContainerId, ContainerState, ContainerStatus, Device, DnsConfig, Event,
    ExecOutput, ExecRequest, Exit, Features, FileKind, Flow, IdMap, Image, ImageAuth, LogLimits, Mount,
    NamespaceOptions, PortMapping, Propagation, PullProgress, Reader, Resources, SYSCALL_POLICY, SandboxConfig,
    SandboxId, SandboxStatus, Seccomp, Security, Session, Stats, SyscallPolicy, SyscallVerdict, TerminalSize,
    Throttling, Traffic, UnknownPolicy, Unlinked, UnusualCall, WatchedCalls, Writer,
};

/// A container runtime. All calls are idempotent in the way of CRI: stopping what is stopped and removing what is gone succeed.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Name and version, as a node's status shows them: `coracle://0.1.0`.
    fn version(&self) -> String;

    /// What it can do on this node, as a node's status shows it.
    fn features(&self) -> Features;

    /// Whether containers are processes that look into volumes. A runtime in memory has none, and its node needs no
    /// mounts, nor the right to make them.
    fn needs_mounts(&self) -> bool {
        true
    }

    /// Fails when pods cannot be run now; the text goes to the node's Ready condition.
    async fn check(&self) -> Result<(), Error>;

    /// Whether pods get their addresses from the node's pod CIDRs; else [`Runtime::set_pod_cidrs`] may get none, and only
    /// sees whether pods can be connected.
    fn needs_pod_cidrs(&self) -> bool {
        true
    }

    /// Sets this node's pod CIDR, or one of each family, before the first pod that is not on the host network. Pods show the
    /// address of the first one first.
    async fn set_pod_cidrs(&self, cidrs: &[String]) -> Result<(), Error>;

    /// Makes the pod's namespaces, network and cgroup and starts its shim.
    async fn run_sandbox(&self, config: &SandboxConfig) -> Result<SandboxStatus, Error>;
    /// Kills what runs in it and takes down its network; its record stays.
    async fn stop_sandbox(&self, id: &str) -> Result<(), Error>;
    /// Removes a stopped sandbox and everything of its containers but logs.
    async fn remove_sandbox(&self, id: &str) -> Result<(), Error>;
    /// Changes the limits of the pod as a whole, which its configuration then shows. What is zero stays as it is.
    async fn update_sandbox(&self, id: &str, resources: &Resources) -> Result<(), Error>;
    async fn sandboxes(&self) -> Result<Vec<SandboxStatus>, Error>;
    /// Those of the pod with this uid.
    async fn sandboxes_of(&self, pod: &str) -> Result<Vec<SandboxStatus>, Error>;

    async fn create_container(&self, sandbox: &str, config: &ContainerConfig) -> Result<ContainerId, Error>;
    async fn start_container(&self, id: &str) -> Result<(), Error>;
    /// Sends the stop signal, waits up to `grace`, then kills; returns when it has ended.
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Error>;
    /// Removes an ended container; its log stays.
    async fn remove_container(&self, id: &str) -> Result<(), Error>;
    /// All containers, or those of one sandbox.
    async fn containers(&self, sandbox: Option<&str>) -> Result<Vec<ContainerStatus>, Error>;
    async fn container_status(&self, id: &str) -> Result<ContainerStatus, Error>;
    /// Changes limits; what is zero stays as it is. `annotations` replace those of the same names once that is done.
    async fn update_container(
        &self,
        id: &str,
        resources: &Resources,
        annotations: &BTreeMap<String, String>,
    ) -> Result<(), Error>;
    /// Makes the shim write to a new file at the container's log path (after rotation).
    async fn reopen_log(&self, id: &str) -> Result<(), Error>;
    /// What a running container uses of the node but for its disk.
    async fn container_stats(&self, id: &str) -> Result<Stats, Error>;
    /// What a pod uses with all its containers.
    async fn sandbox_stats(&self, id: &str) -> Result<Stats, Error>;
    /// What the writable layer of a running container takes on disk; all of its files are looked at for that.
    async fn layer_usage(&self, id: &str) -> Result<u64, Error>;
    /// The files on disk that have no name any more and are held by its processes. None where nothing can hold one.
    async fn unlinked_files(&self, _id: &str) -> Result<Vec<Unlinked>, Error> {
        Ok(Vec::new())
    }

    async fn exec(&self, container: &str, request: &ExecRequest) -> Result<Session, Error>;
    /// Runs a command to its end, keeping at most 16 KiB of each stream's output.
    async fn exec_sync(&self, container: &str, command: &[String], timeout: Duration) -> Result<ExecOutput, Error>;
    async fn attach(&self, container: &str) -> Result<Session, Error>;
    /// Connects to a TCP port on the loopback address inside the sandbox.
    async fn port_forward(&self, sandbox: &str, port: u16) -> Result<(Reader, Writer), Error>;

    /// Pulls an image and returns its id. Never starts a second pull of the same image at the same time.
    async fn pull_image(&self, image: &str, auth: Option<&ImageAuth>) -> Result<Image, Error>;
    /// How far the pull of this image is that runs now; `None` before anything is known of it.
    fn pull_progress(&self, image: &str) -> Option<PullProgress>;
    /// The image that `image` (a name or an id) stands for, if it is here.
    async fn image_status(&self, image: &str) -> Result<Option<Image>, Error>;
    async fn images(&self) -> Result<Vec<Image>, Error>;
    async fn remove_image(&self, image: &str) -> Result<(), Error>;
    /// Imports a `docker save` or OCI-layout tar and returns the images.
    async fn import_images(&self, tar: PathBuf) -> Result<Vec<Image>, Error>;

    /// Events from now on. A reader that falls behind gets [`Event::Resync`].
    fn events(&self) -> BoxStream<'static, Event>;
}
