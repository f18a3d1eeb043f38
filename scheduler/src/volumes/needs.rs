//! What a pod's claims ask of a node. Pure: made from the state once for each pod, and asked for each node.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::volumes::{Candidates, NO_PROVISIONER, SELECTED_NODE, allows, annotation, is_reachable, requested};
use facts::labels::matches;
use facts::quantity::Quantity;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::{CSIStorageCapacity, StorageClass};

/// Upstream's words for why a node will not do.
pub(super) const BIND_CONFLICT: &str = "node(s) didn't find available persistent volumes to bind";
pub(super) const NODE_CONFLICT: &str = "node(s) didn't match PersistentVolume's node affinity";
pub(super) const NO_ROOM: &str = "node(s) did not have enough free storage";
pub(super) const NO_VOLUME: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";

type Labels = BTreeMap<String, String>;

/// What the claims of one pod ask of a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs {
    /// The volumes of the claims that are bound; `None` for one that is not there.
    pub(super) bound: Vec<Option<Arc<PersistentVolume>>>,
    /// The claims that are not bound, the smallest first.
    pub(super) open: Vec<Open>,
}

/// A claim whose volume is chosen with the node.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) claim: Arc<PersistentVolumeClaim>,
    pub(super) candidates: Candidates,
    pub(super) class: Option<Arc<StorageClass>>,
    /// Where the provisioner has room, if it says.
    pub(super) room: Option<Vec<Arc<CSIStorageCapacity>>>,
}

/// What is to be done so that a pod can use its claims on a node.
#[derive(Clone, Debug, Default)]
pub(super) struct Choice {
    /// These volumes are bound.
    pub(super) bind: Vec<(Arc<PersistentVolumeClaim>, Arc<PersistentVolume>)>,
    /// These volumes are made.
    pub(super) provision: Vec<Arc<PersistentVolumeClaim>>,
}

impl Needs {
    /// Whether a node will do, and else why not.
    pub(crate) fn check(&self, node: &str, labels: &Labels) -> Result<(), Vec<&'static str>> {
        self.choose(node, labels).map(drop)
    }

    /// What is to be done on a node, or why it will not do.
    pub(super) fn choose(&self, node: &str, labels: &Labels) -> Result<Choice, Vec<&'static str>> {
        let bound = self.check_bound(node, labels);
        let open = self.choose_open(node, labels);
        match (bound, open) {
            (Ok(()), Ok(choice)) => Ok(choice),
            (bound, open) => Err(bound.err().into_iter().chain(open.err()).collect()),
        }
    }

    fn check_bound(&self, node: &str, labels: &Labels) -> Result<(), &'static str> {
        for volume in &self.bound {
            let volume = volume.as_ref().ok_or(NO_VOLUME)?;
            if !is_reachable(volume, node, labels) {
                return Err(NODE_CONFLICT);
            }
        }
        Ok(())
    }

    fn choose_open(&self, node: &str, labels: &Labels) -> Result<Choice, &'static str> {
        let mut choice = Choice::default();
        for open in &self.open {
            match annotation(&open.claim.metadata, SELECTED_NODE) {
                Some(selected) if selected != node => return Err(BIND_CONFLICT),
                Some(_) => {}
                None => {
                    let is_right = |volume: &PersistentVolume| {
                        let is_taken = choice.bind.iter().any(|(_, taken)| taken.metadata.name == volume.metadata.name);
                        !is_taken && is_reachable(volume, node, labels)
                    };
                    if let Some(volume) = open.candidates.best(is_right).cloned() {
                        choice.bind.push((Arc::clone(&open.claim), volume));
                        continue;
                    }
                }
            }
            open.check_provisioning(labels)?;
            choice.provision.push(Arc::clone(&open.claim));
        }
        Ok(choice)
    }
}

impl Open {
    /// Whether a volume can be made for a node with these labels.
    fn check_provisioning(&self, labels: &Labels) -> Result<(), &'static str> {
        let class = self.class.as_ref().ok_or(BIND_CONFLICT)?;
        let is_made = !class.provisioner.is_empty() && class.provisioner != NO_PROVISIONER;
        if !is_made || !allows(class.allowed_topologies.as_deref(), labels) {
            return Err(BIND_CONFLICT);
        }
        match &self.room {
            Some(room) if !room.iter().any(|room| has_room(room, requested(&self.claim), labels)) => Err(NO_ROOM),
            _ => Ok(()),
        }
    }
}

/// Whether a volume of this size can be made here (KEP-1472).
fn has_room(room: &CSIStorageCapacity, size: Quantity, labels: &Labels) -> bool {
    let limit = room.maximum_volume_size.as_ref().or(room.capacity.as_ref());
    limit.and_then(|limit| limit.0.parse::<Quantity>().ok()).is_some_and(|limit| limit >= size)
        && matches(room.node_topology.as_ref(), labels)
}
