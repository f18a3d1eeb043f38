//! What every pod worker of a node shares (upstream: kubelet.Dependencies).
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use client::{Informer, ObjectKey, Recorder};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use runtime::{Image, Runtime};
use tokio::sync::{Semaphore, watch};

use crate::config::tuning::Tuning;
use crate::containers::environment::fields::Surroundings;
use crate::csi::Csi;
use crate::handlers::probes::counts::Counts;
use crate::references::Objects;
use crate::sandbox::pod_dns::ClusterDns;
use crate::sandbox::sysctls::Allowlist;
use crate::sandbox::user_ids::UserIds;
use crate::signals::Conditions;
use crate::{exits, pod, resources, watched_calls};

/// Handles and facts; made once in [`crate::run`].
pub(crate) struct Context {
    /// This node's name.
    pub(crate) node_name: String,
    /// The node is there in name only, as [`crate::Config::hollow`] says.
    pub(crate) hollow: bool,
    /// This node's addresses, the main one first.
    pub(crate) node_ips: Vec<IpAddr>,
    /// Holds pods' volumes and files.
    pub(crate) root_dir: PathBuf,
    /// Holds pods' logs.
    pub(crate) log_dir: PathBuf,
    /// The cluster's name service.
    pub(crate) dns: ClusterDns,
    /// Memory of the machine in bytes.
    pub(crate) memory: u64,
    /// The cgroup that holds the pods' own, empty for the controllers' roots.
    pub(crate) cgroup_root: String,
    /// Processes a pod may have; 0 for no limit.
    pub(crate) pids_limit: i64,
    /// Processes that all pods together may have.
    pub(crate) node_pids_limit: i64,
    /// What pods may set of their kernel parameters.
    pub(crate) allowed_sysctls: Allowlist,
    /// The API server.
    pub(crate) client: kube::Client,
    /// The container runtime.
    pub(crate) runtime: Arc<dyn Runtime>,
    /// Events.
    pub(crate) recorder: Recorder,
    /// ConfigMaps and Secrets.
    pub(crate) objects: Arc<Objects>,
    /// Storage drivers.
    pub(crate) csi: Arc<Csi>,
    /// This node's own object.
    pub(crate) node: Informer<Node>,
    /// Sees every change of it.
    pub(crate) node_changed: watch::Sender<()>,
    /// All Services, for the environment of containers.
    pub(crate) services: Informer<Service>,
    /// Lets so many image pulls run at a time; `None` for any number.
    pub(crate) pull_turns: Option<Semaphore>,
    /// Numbers that may be changed.
    pub(crate) tuning: Tuning,
    /// The ids of pods' user namespaces.
    pub(crate) user_ids: Arc<UserIds>,
    /// What the node is short of.
    pub(crate) pressure: watch::Sender<Conditions>,
    /// True once the node has a pod network.
    pub(crate) network: watch::Receiver<bool>,
    /// Images by the names that pods use; what the node's status lists.
    pub(crate) known_images: RwLock<Vec<Image>>,
    /// System calls of containers that were watched.
    pub(crate) watched: watched_calls::Counts,
    /// Ends of containers.
    pub(crate) exits: exits::Counts,
    /// Attempts of probes.
    pub(crate) probed: Counts,
}

impl Context {
    /// This node's object, once it is known.
    pub(crate) fn node(&self) -> Option<Arc<Node>> {
        self.node.get(&ObjectKey::cluster(self.node_name.as_str()))
    }

    /// Where a pod's volumes and files are.
    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root_dir.join("pods").join(uid)
    }

    /// Where a pod's logs are.
    pub(crate) fn pod_log_dir(&self, pod: &Pod) -> PathBuf {
        self.log_dir.join(format!("{}_{}_{}", pod::namespace(pod), pod::name(pod), pod::uid(pod)))
    }

    /// What the downward API says for a pod with these addresses.
    pub(crate) fn surroundings(&self, pod_ips: Vec<IpAddr>) -> Surroundings {
        let node = self.node();
        let allocatable = node.as_ref().and_then(|node| node.status.as_ref()?.allocatable.as_ref());
        let amount = |resource: &str, read: fn(&Quantity) -> Option<i128>| {
            allocatable.and_then(|list| list.get(resource)).and_then(read).unwrap_or(0)
        };
        Surroundings {
            node_name: self.node_name.clone(),
            node_ips: self.node_ips.clone(),
            pod_ips,
            milli_cpu: amount("cpu", resources::milli),
            memory: amount("memory", resources::value),
            storage: amount("ephemeral-storage", resources::value),
        }
    }

    /// Records an event about a pod.
    pub(crate) fn event(&self, pod: &Pod, kind: &str, reason: &str, message: String) {
        self.record(client::events::about(pod), kind, reason, message);
    }

    /// Records an event about one container of a pod.
    pub(crate) fn container_event(&self, pod: &Pod, container: &str, kind: &str, reason: &str, message: String) {
        let mut about = client::events::about(pod);
        let list = match pod::container(pod, container) {
            Some((pod::Role::Init | pod::Role::Sidecar, _)) => "initContainers",
            Some((pod::Role::Ephemeral, _)) => "ephemeralContainers",
            _ => "containers",
        };
        about.field_path = Some(format!("spec.{list}{{{container}}}"));
        self.record(about, kind, reason, message);
    }

    fn record(&self, about: k8s_openapi::api::core::v1::ObjectReference, kind: &str, reason: &str, message: String) {
        if kind == "Warning" {
            self.recorder.warning(about, reason, message);
        } else {
            self.recorder.normal(about, reason, message);
        }
    }

    /// Says what the node is short of.
    pub(crate) fn set_pressure(&self, now: Conditions) {
        self.pressure.send_if_modified(|known| std::mem::replace(known, now) != now);
    }

    /// Replaces the list of images the node's status shows.
    pub(crate) fn set_images(&self, images: Vec<Image>) {
        *self.known_images.write().unwrap_or_else(PoisonError::into_inner) = images;
    }
}
