//! What the caller says about a pod, and what is known of its sandbox.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::Resources;

/// Identifies a sandbox; made by the runtime.
pub type SandboxId = String;

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
    #[serde(default)]
    pub bandwidth: Bandwidth,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub namespaces: NamespaceOptions,
    /// Pod-level sysctls (`net.*`, `kernel.shm*`, ...).
    pub sysctls: BTreeMap<String, String>,
    /// Path of the pod's cgroup below each controller's root, such as `kubepods/burstable/pod<uid>`.
    pub cgroup_parent: String,
    /// Limits of the pod as a whole, set on `cgroup_parent`.
    pub resources: Resources,
    /// Limits of all pods of the node together, set on the cgroup above them all, the first part of `cgroup_parent`. A
    /// node that has not the controller for one goes without it.
    #[serde(default)]
    pub node_limits: Resources,
}

/// Which namespaces of the node a pod shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceOptions {
    pub host_network: bool,
    pub host_pid: bool,
    pub host_ipc: bool,
    /// `shareProcessNamespace`.
    pub shared_pid: bool,
    /// `hostUsers: false`: the pod runs in a user namespace of its own, with these ids.
    #[serde(default)]
    pub users: Option<IdMap>,
}

/// What a runtime can do on its node: the features of a runtime handler in a node's status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    pub recursive_read_only_mounts: bool,
    /// Pods may have `hostUsers: false`.
    pub user_namespaces: bool,
}

/// The ids of a pod's user namespace: 0 up to `length` in the pod are `host` and up on the node, for users and groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    pub host: u32,
    pub length: u32,
}

/// The contents of a pod's `resolv.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

/// A host port that leads to a container port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    pub container_port: u16,
    pub host_port: u16,
    /// Empty for every address of the node.
    pub host_ip: String,
}

/// How fast a pod may receive and send, in bits a second; `None` is as fast as it can. Without effect in the node's own network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    pub ingress: Option<u64>,
    pub egress: Option<u64>,
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
