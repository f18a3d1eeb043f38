//! What the caller says about a container, and what is known of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::SandboxId;

/// Identifies a container; made by the runtime.
pub type ContainerId = String;

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
    pub log_limits: LogLimits,
    pub stdin: bool,
    pub stdin_once: bool,
    pub tty: bool,
    pub resources: Resources,
    pub security: Security,
    /// A running container of the sandbox whose processes it shall see: it joins that one's process namespace.
    pub process_target: Option<ContainerId>,
    /// Overrides the signal that asks it to stop (`SIGTERM`, `SIGUSR1`, ...).
    pub stop_signal: Option<String>,
}

/// How much of a container's output is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// Bytes of one file, after which the next begins; 0 for no limit.
    pub max_bytes: u64,
    /// So many files, of which the oldest goes when the next begins; at least one is kept.
    pub max_files: u32,
}

/// A file or directory of the node, shown inside a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub container_path: PathBuf,
    /// Only the node changes what this path means, or an administrator gave it.
    pub host_path: PathBuf,
    /// Shows what is at this path below `host_path` instead, where containers may change things: it is resolved when it
    /// is mounted, never leads out, and is made as a directory when missing (`subPath`).
    pub sub_path: Option<PathBuf>,
    /// Shows what this image holds (KEP-4639) instead of a path of the node: read-only, and no program can be run from
    /// it. `sub_path` must be there then.
    pub image: Option<String>,
    /// What must be at `host_path`; `None` takes anything, and makes a directory where nothing is.
    pub kind: Option<FileKind>,
    pub read_only: bool,
    /// `recursiveReadOnly`.
    pub recursive_read_only: bool,
    pub propagation: Propagation,
}

/// What a path can stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileKind {
    Directory,
    File,
    Socket,
    CharDevice,
    BlockDevice,
}

impl FileKind {
    /// Says that `path` is something else, as the check of a hostPath volume's type does.
    pub fn mismatch(self, path: &Path) -> String {
        let what = match self {
            Self::Directory => "a directory",
            Self::File => "a file",
            Self::Socket => "a socket file",
            Self::CharDevice => "a character device",
            Self::BlockDevice => "a block device",
        };
        format!("hostPath type check failed: {} is not {what}", path.display())
    }
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

impl Resources {
    /// Takes over every limit that `change` sets.
    pub fn update(&mut self, change: &Self) {
        fn set<T: Clone + Default + PartialEq>(mine: &mut T, change: &T) {
            if *change != T::default() {
                mine.clone_from(change);
            }
        }
        set(&mut self.cpu_shares, &change.cpu_shares);
        set(&mut self.cpu_quota, &change.cpu_quota);
        set(&mut self.cpu_period, &change.cpu_period);
        set(&mut self.memory_limit, &change.memory_limit);
        set(&mut self.oom_score_adj, &change.oom_score_adj);
        set(&mut self.pids_limit, &change.pids_limit);
        set(&mut self.cpuset_cpus, &change.cpuset_cpus);
    }
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

/// What a container uses, or a pod with all its containers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Its cgroup, from the root of each controller on: `kubepods/besteffort/pod<uid>/<container>`.
    pub cgroup: String,
    /// All of the time on all cores, in nanoseconds.
    pub cpu_nanos: u64,
    pub cpu_user_nanos: u64,
    pub cpu_system_nanos: u64,
    /// Periods in which it had a limit of CPU, those in which it met that, and for how long it then waited.
    pub throttling: Throttling,
    /// Bytes in use, page cache that can be dropped left out.
    pub memory_working_set: u64,
    pub memory_rss: u64,
    pub memory_usage: u64,
    pub memory_cache: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
    /// Bytes on swap; `None` where the node does not count them.
    pub swap: Option<u64>,
    /// Processes and threads; `None` where the node does not count them.
    pub processes: Option<u64>,
    /// What went through the interface of a pod; `None` on the host's network, and of a container.
    pub network: Option<Traffic>,
}

/// How often a limit of CPU was met (CFS bandwidth control).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    pub periods: u64,
    pub throttled: u64,
    /// Nanoseconds.
    pub waited: u64,
}

/// What went through a network interface since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub received: Flow,
    pub sent: Flow,
}

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
}

impl Traffic {
    /// Reads the line of an interface in `/proc/PID/net/dev`.
    pub fn of_interface(table: &str, interface: &str) -> Option<Self> {
        let numbers = |line: &str| line.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>().ok();
        let line = table.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))?;
        let numbers = numbers(line).filter(|numbers| numbers.len() >= 16)?;
        let flow = |from: &[u64]| Flow { bytes: from[0], packets: from[1], errors: from[2], dropped: from[3] };
        Some(Self { received: flow(&numbers[..8]), sent: flow(&numbers[8..]) })
    }
}

/// A file without a name that a container still has open or mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlinked {
    /// Device and inode: another container may have it open, too.
    pub identity: (u64, u64),
    /// What it takes on disk.
    pub bytes: u64,
    /// What of the node's file system is mounted where it was: the directory of a volume, or one in it. `None` in the
    /// container's writable layer.
    pub volume: Option<PathBuf>,
}
