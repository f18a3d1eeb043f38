//! In-place resize of pods (KEP-1287, KEP-5419; upstream: pkg/kubelet/allocation and kuberuntime's resize actions).
//!
//! ```text
//!   the pod's spec ---decide (the manager, which knows the other pods)---> allocated ---act (the pod's worker)---> given
//!                  \-- Deferred: not now, Infeasible: never on this node
//! ```
//! Workers never see more than what is allocated: [`Sizes::apply`] puts it into the pod that they work with. What a
//! container was given stands in an annotation of its record, and what the pod was in its sandbox's configuration.
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use serde::{Deserialize, Serialize};

use crate::pod;

pub(crate) mod act;
pub(crate) mod decide;
pub(crate) mod message;
pub(crate) mod plan;

/// The requests and limits of a pod and of its containers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sizes {
    /// Those of the pod as a whole.
    pub(crate) pod: Option<ResourceRequirements>,
    /// By the names of app and init containers.
    pub(crate) containers: BTreeMap<String, ResourceRequirements>,
}

impl Sizes {
    /// What the pod's spec asks for.
    pub(crate) fn of(pod: &Pod) -> Self {
        let spec = pod::spec(pod);
        let sizes = all(spec).map(|one| (one.name.clone(), one.resources.clone().unwrap_or_default()));
        Self { pod: spec.resources.clone(), containers: sizes.collect() }
    }

    /// What an earlier kubelet gave a pod, as far as the pod's status tells; what it does not tell is as in the spec.
    pub(crate) fn reported(pod: &Pod) -> Self {
        let mut sizes = Self::of(pod);
        let status = pod::status(pod);
        for known in [&status.container_statuses, &status.init_container_statuses].into_iter().flatten().flatten() {
            if let (Some(given), Some(size)) = (&known.resources, sizes.containers.get_mut(&known.name)) {
                let claims = size.claims.take();
                *size = ResourceRequirements { claims, ..given.clone() };
            }
        }
        if let Some(given) = status.resources.clone().filter(|_| sizes.pod.is_some()) {
            sizes.pod = Some(given);
        }
        sizes
    }

    /// The pod with these sizes: the same one, if it has them.
    pub(crate) fn apply(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        if *self == Self::of(pod) {
            return Arc::clone(pod);
        }
        let mut changed = Pod::clone(pod);
        let Some(spec) = changed.spec.as_mut() else { return Arc::clone(pod) };
        spec.resources.clone_from(&self.pod);
        for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            if let Some(size) = self.containers.get(&container.name) {
                container.resources = Some(size.clone());
            }
        }
        Arc::new(changed)
    }

    /// Reads what [`Sizes::write`] kept. `None` where nothing is kept.
    ///
    /// Fails when a file is there that cannot be read or is damaged.
    pub(crate) fn read(pod_directory: &Path) -> std::io::Result<Option<Self>> {
        match std::fs::read(pod_directory.join(FILE)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Keeps what is allocated for the next kubelet, before anything is done about it.
    ///
    /// Fails when the pod's directory cannot be made or written to.
    pub(crate) fn write(&self, pod_directory: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(pod_directory)?;
        let unfinished = pod_directory.join(format!("{FILE}.new"));
        std::fs::write(&unfinished, serde_json::to_vec(self)?)?;
        std::fs::rename(unfinished, pod_directory.join(FILE))
    }
}

/// Where a pod's directory holds what is allocated, once that differed from its spec.
const FILE: &str = "allocated.json";

fn all(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.containers.iter().chain(spec.init_containers.iter().flatten())
}

/// What a pod may use, and what it asks for beyond that.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Allocation {
    /// What the node has promised the pod.
    pub(crate) sizes: Sizes,
    /// The pod's generation that asked for them.
    pub(crate) generation: Option<i64>,
    /// The newest generation that was looked at.
    pub(crate) judged: Option<i64>,
    /// Why the spec's sizes are not promised.
    pub(crate) pending: Option<Pending>,
}

/// Why a resize waits: the condition `PodResizePending`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Whether it may fit later.
    pub(crate) reason: Reason,
    /// Details for people.
    pub(crate) message: String,
}

/// Whether a resize that waits may fit later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Other pods have the room now.
    Deferred,
    /// Never on this node.
    Infeasible,
}

impl Reason {
    /// As conditions and events name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Deferred => "Deferred",
            Self::Infeasible => "Infeasible",
        }
    }
}

#[cfg(test)]
mod tests;
