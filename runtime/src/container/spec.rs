//! Everything that a container's first process needs to know, written to `spec.json` before it is forked.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{During as _, StageResult};
use crate::{FileKind, IdMap, Propagation};

/// File name of the spec in a container's directory.
pub(crate) const FILE: &str = "spec.json";

/// A container, with every default and name resolved as far as is possible outside its root file system.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ContainerSpec {
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) working_directory: PathBuf,
    pub(crate) hostname: String,
    pub(crate) user: UserSpec,
    pub(crate) rights: Rights,
    pub(crate) tty: bool,
    pub(crate) oom_score_adj: i32,
    pub(crate) cgroup_directories: Vec<PathBuf>,
    /// cgroup v1 controllers by the comma-separated names they are mounted with, or `cgroup2`.
    pub(crate) cgroup_mounts: Vec<String>,
    /// Sees the node's cgroups instead of its own.
    pub(crate) host_cgroup: bool,
    pub(crate) root: RootSpec,
    pub(crate) mounts: Vec<MountSpec>,
    pub(crate) devices: Vec<DeviceSpec>,
    pub(crate) masked_paths: Vec<String>,
    pub(crate) read_only_paths: Vec<String>,
    pub(crate) privileged: bool,
    /// The ids of the pod's user namespace, if it has one.
    pub(crate) users: Option<IdMap>,
    /// The pod's `/dev/shm`.
    pub(crate) shm: PathBuf,
}

/// The root file system.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RootSpec {
    /// Where `lower` is relative to.
    pub(crate) layers: PathBuf,
    /// Top layer first.
    pub(crate) lower: Vec<String>,
    pub(crate) read_only: bool,
}

/// A bind mount.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MountSpec {
    /// A path of the node that only the node changes, or that an administrator gave.
    pub(crate) source: PathBuf,
    /// A path below the source that containers may have changed.
    pub(crate) beneath: Option<PathBuf>,
    /// What must be at the source.
    pub(crate) kind: Option<FileKind>,
    pub(crate) target: PathBuf,
    pub(crate) read_only: bool,
    pub(crate) recursive_read_only: bool,
    pub(crate) propagation: Propagation,
}

/// A device node to make.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DeviceSpec {
    pub(crate) path: PathBuf,
    pub(crate) block: bool,
    pub(crate) number: u64,
    pub(crate) mode: u32,
}

/// Who runs it; names are looked up in the container's own `/etc/passwd` and `/etc/group`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct UserSpec {
    /// `USER` of the image: `user[:group]`, each a number or a name.
    pub(crate) image: String,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) supplemental_groups: Vec<u32>,
}

/// What a process may do.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Rights {
    /// A bit per capability.
    pub(crate) capabilities: u64,
    pub(crate) no_new_privileges: bool,
    /// Instructions of the seccomp filter, packed; empty for none.
    pub(crate) seccomp: Vec<u64>,
}

/// A process to run in a container that is running.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct ExecSpec {
    pub(crate) arguments: Vec<String>,
    pub(crate) tty: bool,
}

impl ContainerSpec {
    pub(crate) fn read(directory: &Path) -> StageResult<Self> {
        let path = directory.join(FILE);
        let text = std::fs::read(&path).during(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text).during(|| format!("parse {}", path.display()))
    }
}
