//! The local container runtime: images, snapshots, sandboxes, containers, cgroups, networks; the shim; a fake.
//!
//! Invariant: the only crate with `unsafe` (in `sys`); never forks inside a threaded process.
//!
//! [`Runtime`] has the shape of the Container Runtime Interface (CRI v1), so that a CRI endpoint can stand behind it.
#![deny(unsafe_code)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

/// Identifies a sandbox; made by the runtime.
pub type SandboxId = String;
/// Identifies a container; made by the runtime.
pub type ContainerId = String;

/// A pod's identity and the part of its spec that the sandbox needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SandboxConfig {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    /// Counts re-creations of the pod's sandbox, from 0.
    pub attempt: u32,
    pub hostname: String,
    /// Directory for the logs of the pod's containers (`/var/log/pods/<ns>_<name>_<uid>`).
    pub log_directory: PathBuf,
    /// `/etc/resolv.conf` of the pod; `None` takes the host's.
    pub dns: Option<DnsConfig>,
    pub port_mappings: Vec<PortMapping>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub namespaces: NamespaceOptions,
    /// Pod-level sysctls (`net.*`, `kernel.shm*`, ...).
    pub sysctls: BTreeMap<String, String>,
    /// Path of the pod's cgroup below each controller's root, such as `kubepods/burstable/pod<uid>`.
    pub cgroup_parent: String,
    /// Limits of the pod as a whole, set on `cgroup_parent`.
    pub resources: Resources,
}

/// Which namespaces of the node a pod shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceOptions {
    pub host_network: bool,
    pub host_pid: bool,
    pub host_ipc: bool,
    /// `shareProcessNamespace`.
    pub shared_pid: bool,
    /// `hostUsers: false`: the pod runs in a user namespace of its own.
    pub user_namespace: bool,
}

/// The contents of a pod's `resolv.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

/// A host port that leads to a container port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    pub container_port: u16,
    pub host_port: u16,
    /// Empty for every address of the node.
    pub host_ip: String,
}

/// What is known of a sandbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SandboxStatus {
    pub id: SandboxId,
    pub config: SandboxConfig,
    /// Whether its namespaces (and shim) live.
    pub ready: bool,
    pub created_at: SystemTime,
    /// The pod's addresses, empty on the host network.
    pub ips: Vec<IpAddr>,
}

/// What a container is made from. Paths are the host's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerConfig {
    pub name: String,
    /// Counts re-creations of the container in its pod, from 0.
    pub attempt: u32,
    /// The image, as [`Runtime::image_status`] returned its id.
    pub image: String,
    /// Replaces the image's entrypoint when not empty.
    pub command: Vec<String>,
    /// Replaces the image's cmd when not empty, or when `command` is given.
    pub args: Vec<String>,
    /// Empty for the image's.
    pub working_dir: String,
    /// Added to the image's environment, later ones winning.
    pub env: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// File name of the log below the sandbox's `log_directory`: `<container>/<attempt>.log`.
    pub log_path: PathBuf,
    pub stdin: bool,
    pub stdin_once: bool,
    pub tty: bool,
    pub resources: Resources,
    pub security: Security,
    /// Overrides the signal that asks it to stop (`SIGTERM`, `SIGUSR1`, ...).
    pub stop_signal: Option<String>,
}

/// A file or directory of the node, shown inside a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub container_path: PathBuf,
    pub host_path: PathBuf,
    pub read_only: bool,
    /// `recursiveReadOnly`.
    pub recursive_read_only: bool,
    pub propagation: Propagation,
}

/// Mount propagation, as in a volume mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    #[default]
    Private,
    HostToContainer,
    Bidirectional,
}

/// A device node of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub container_path: PathBuf,
    pub host_path: PathBuf,
    /// `rwm` or a part of it.
    pub permissions: String,
}

/// cgroup limits; zero or `None` leaves a limit alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// CPU weight in cgroup v1 shares (1024 is one core).
    pub cpu_shares: u64,
    /// Microseconds of CPU per `cpu_period`.
    pub cpu_quota: i64,
    /// Microseconds.
    pub cpu_period: u64,
    /// Bytes.
    pub memory_limit: i64,
    pub oom_score_adj: i32,
    pub pids_limit: i64,
    /// `0-3,5`.
    pub cpuset_cpus: String,
}

/// The security context of a container, already resolved from pod and container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Security {
    pub privileged: bool,
    pub user: Option<u32>,
    pub group: Option<u32>,
    pub supplemental_groups: Vec<u32>,
    /// Without the `CAP_` prefix; `ALL` is everything.
    pub add_capabilities: Vec<String>,
    pub drop_capabilities: Vec<String>,
    pub read_only_root: bool,
    /// The inverse of `allowPrivilegeEscalation`.
    pub no_new_privileges: bool,
    pub seccomp: Seccomp,
    /// `None` takes the defaults.
    pub masked_paths: Option<Vec<String>>,
    pub read_only_paths: Option<Vec<String>>,
}

/// A seccomp profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// The runtime's default filter.
    #[default]
    RuntimeDefault,
    Unconfined,
    /// A profile file in the OCI's JSON format.
    Localhost(PathBuf),
}

/// What is known of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerStatus {
    pub id: ContainerId,
    pub sandbox: SandboxId,
    pub name: String,
    pub attempt: u32,
    pub state: ContainerState,
    pub created_at: SystemTime,
    /// As the pod named it.
    pub image: String,
    /// `sha256:...`, or `repository@sha256:...` where it was pulled by digest.
    pub image_ref: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Absolute path of its log.
    pub log_path: PathBuf,
}

/// Where a container is in its life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ContainerState {
    Created,
    Running { pid: u32, started_at: SystemTime },
    Exited(Exit),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// 128 + signal when a signal ended it.
    pub code: i32,
    pub signal: Option<i32>,
    pub started_at: Option<SystemTime>,
    pub finished_at: SystemTime,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`.
    pub reason: String,
    pub message: String,
}

/// What the runtime tells without being asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    ContainerStarted { sandbox: SandboxId, container: ContainerId },
    ContainerExited { sandbox: SandboxId, container: ContainerId, exit: Exit },
    /// The sandbox's shim ended.
    SandboxExited { sandbox: SandboxId },
    /// Events may have been missed: look at everything again.
    Resync,
}

/// Registry credentials for one pull.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageAuth {
    pub username: String,
    pub password: String,
    /// A bearer token, instead of name and password.
    pub registry_token: String,
}

/// An image on this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// `sha256:...` of its configuration.
    pub id: String,
    pub tags: Vec<String>,
    pub digests: Vec<String>,
    /// Bytes on disk.
    pub size: u64,
    /// `USER` of the image configuration: `uid[:gid]`, a name, or empty.
    pub user: String,
}

/// What runs in a container for [`Runtime::exec`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    pub command: Vec<String>,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// A size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

/// Something that bytes can be read from.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// Something that bytes can be written to.
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// The streams of an `exec` or `attach`. With a tty there is no stderr. Dropping all of it ends an exec'ed process.
pub struct Session {
    pub stdin: Option<Writer>,
    pub stdout: Option<Reader>,
    pub stderr: Option<Reader>,
    /// Takes terminal sizes.
    pub resize: tokio::sync::mpsc::Sender<TerminalSize>,
    /// The exit code (an attach ends with the container's).
    pub exit: tokio::sync::oneshot::Receiver<Result<i32, Error>>,
}

/// The result of [`Runtime::exec_sync`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit_code: i32,
}

/// What a container uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    pub cpu_nanos: u64,
    /// Bytes in use, page cache that can be dropped left out.
    pub memory_working_set: u64,
    pub memory_rss: u64,
    pub memory_usage: u64,
    /// Bytes in the writable layer.
    pub rootfs_bytes: u64,
    pub network_rx_bytes: u64,
    pub network_tx_bytes: u64,
}

/// Why the runtime could not do as asked. `Display` is what a pod's events show.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} {id:?} not found")]
    NotFound { what: &'static str, id: String },
    #[error("{what} {id:?} is {state}")]
    WrongState { what: &'static str, id: String, state: String },
    #[error("invalid {field}: {reason}")]
    Invalid { field: &'static str, reason: String },
    /// The registry refused or cannot be reached; its own words are in `reason`.
    #[error("failed to pull image {image:?}: {reason}")]
    Pull { image: String, reason: String },
    /// The container's process could not be started.
    #[error("{reason}")]
    Start { reason: String },
    #[error("timed out after {after:?}")]
    Timeout { after: Duration },
    #[error("{reason} is not supported by this runtime")]
    Unsupported { reason: String },
    #[error("{operation} {path}")]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("shim: {reason}")]
    Shim { reason: String },
    #[error("network: {reason}")]
    Network { reason: String },
}

/// A container runtime. All calls are idempotent in the way of CRI: stopping what is stopped and removing what is gone succeed.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Name and version, as a node's status shows them: `coracle://0.1.0`.
    fn version(&self) -> String;

    /// Fails when pods cannot be run now; the text goes to the node's Ready condition.
    async fn check(&self) -> Result<(), Error>;

    /// Sets this node's pod CIDR, before the first pod that is not on the host network.
    async fn set_pod_cidr(&self, cidr: &str) -> Result<(), Error>;

    /// Makes the pod's namespaces, network and cgroup and starts its shim.
    async fn run_sandbox(&self, config: &SandboxConfig) -> Result<SandboxStatus, Error>;
    /// Kills what runs in it and takes down its network; its record stays.
    async fn stop_sandbox(&self, id: &str) -> Result<(), Error>;
    /// Removes a stopped sandbox and everything of its containers but logs.
    async fn remove_sandbox(&self, id: &str) -> Result<(), Error>;
    async fn sandboxes(&self) -> Result<Vec<SandboxStatus>, Error>;

    async fn create_container(&self, sandbox: &str, config: &ContainerConfig) -> Result<ContainerId, Error>;
    async fn start_container(&self, id: &str) -> Result<(), Error>;
    /// Sends the stop signal, waits up to `grace`, then kills; returns when it has ended.
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Error>;
    /// Removes an ended container; its log stays.
    async fn remove_container(&self, id: &str) -> Result<(), Error>;
    /// All containers, or those of one sandbox.
    async fn containers(&self, sandbox: Option<&str>) -> Result<Vec<ContainerStatus>, Error>;
    async fn container_status(&self, id: &str) -> Result<ContainerStatus, Error>;
    async fn update_container(&self, id: &str, resources: &Resources) -> Result<(), Error>;
    /// Makes the shim write to a new file at the container's log path (after rotation).
    async fn reopen_log(&self, id: &str) -> Result<(), Error>;
    async fn container_stats(&self, id: &str) -> Result<Stats, Error>;

    async fn exec(&self, container: &str, request: &ExecRequest) -> Result<Session, Error>;
    /// Runs a command to its end, keeping at most 16 KiB of each stream's output.
    async fn exec_sync(&self, container: &str, command: &[String], timeout: Duration) -> Result<ExecOutput, Error>;
    async fn attach(&self, container: &str) -> Result<Session, Error>;
    /// Connects to a TCP port on the loopback address inside the sandbox.
    async fn port_forward(&self, sandbox: &str, port: u16) -> Result<(Reader, Writer), Error>;

    /// Pulls an image and returns its id. Never starts a second pull of the same image at the same time.
    async fn pull_image(&self, image: &str, auth: Option<&ImageAuth>) -> Result<Image, Error>;
    /// The image that `image` (a name or an id) stands for, if it is here.
    async fn image_status(&self, image: &str) -> Result<Option<Image>, Error>;
    async fn images(&self) -> Result<Vec<Image>, Error>;
    async fn remove_image(&self, image: &str) -> Result<(), Error>;
    /// Imports a `docker save` or OCI-layout tar and returns the images.
    async fn import_images(&self, tar: PathBuf) -> Result<Vec<Image>, Error>;

    /// Events from now on. A reader that falls behind gets [`Event::Resync`].
    fn events(&self) -> BoxStream<'static, Event>;
}
