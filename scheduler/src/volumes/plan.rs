//! What is written for a pod before it is bound to its node.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

/// What is written so that a pod can use its claims on its node.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The pod.
    pub(crate) uid: String,
    pub(crate) node: String,
    pub(crate) bindings: Vec<Binding>,
    pub(crate) provisions: Vec<Provision>,
}

/// A volume that gets a reference to a claim.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    pub(crate) claim: Arc<PersistentVolumeClaim>,
    /// With the reference; once it is written, as it was written.
    pub(crate) volume: Arc<PersistentVolume>,
    /// Whether it is still to be written.
    pub(crate) is_due: bool,
}

/// A claim that is given the node, so that a volume is made for it there.
#[derive(Clone, Debug)]
pub(crate) struct Provision {
    /// With the node; once it is written, as it was written.
    pub(crate) claim: Arc<PersistentVolumeClaim>,
    /// Whether it is still to be written.
    pub(crate) is_due: bool,
}
