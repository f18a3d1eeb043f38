//! What happens in a cluster, as far as it may let pods fit (upstream: `fwk.ClusterEvent`).

use std::sync::Arc;

use client::ObjectKey;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;

/// Something that happened in the cluster and may let a rejected pod fit.
#[derive(Clone, Debug)]
pub enum ClusterEvent {
    NodeAdded(Arc<Node>),
    NodeUpdated {
        old: Arc<Node>,
        new: Arc<Node>,
    },
    AssignedPodAdded(Arc<Pod>),
    AssignedPodUpdated {
        old: Arc<Pod>,
        new: Arc<Pod>,
    },
    /// Also a pod whose nomination ended: what it was to get is free.
    AssignedPodDeleted(Arc<Pod>),
    /// A namespace came or has other labels.
    NamespaceChanged,
    /// Something about volumes.
    Storage(StorageEvent),
    /// A group of pods came, or has another policy.
    PodGroupChanged(ObjectKey),
    /// The waiting pod itself changed.
    PodUpdated {
        old: Arc<Pod>,
        new: Arc<Pod>,
    },
}

/// Something that happened to volumes.
#[derive(Clone, Debug)]
pub enum StorageEvent {
    /// A claim came or changed.
    Claim(Arc<PersistentVolumeClaim>),
    /// A volume came or changed.
    Volume { old: Option<Arc<PersistentVolume>>, new: Arc<PersistentVolume> },
    /// A class came or changed.
    Class { old: Option<Arc<StorageClass>>, new: Arc<StorageClass> },
    /// A provisioner has other room for new volumes.
    Capacity,
    /// A storage driver came to a node or has other room there, or a volume was detached.
    Drivers,
}
