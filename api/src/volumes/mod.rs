//! Which volume a claim may have, and how a binding is written down: what the controller that binds volumes, the scheduler
//! and provisioners must agree on (upstream's `component-helpers/storage`).
//!
//! ```text
//!  claim                                       volume
//!    spec.volumeName  ------------------------>  metadata.name
//!    metadata.uid     <------------------------  spec.claimRef.uid     written first: it decides
//!    bind-completed                              bound-by-controller   unless the user wrote the reference
//! ```

pub mod attachment;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use facts::labels::{self, selects};
use facts::nodes::selector::chooses;
use facts::owners::is_controlled_by;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod, TopologySelectorTerm};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::quantity::Quantity;

/// On a claim: it was bound once, so that a missing volume is a loss. The value does not matter.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On a claim or a volume: its reference to the other was not written by the user. The value does not matter.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a claim: the node that the scheduler wants the volume for.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a volume: who made it, and will delete it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a volume: the CSI driver that took it over from a plugin of Kubernetes' own.
pub const MIGRATED_TO: &str = "pv.kubernetes.io/migrated-to";
/// On a claim: who shall make a volume for it.
pub const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// The older name of [`STORAGE_PROVISIONER`], which is still written.
pub const BETA_STORAGE_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// The provisioner of classes whose volumes are made by people.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// Named the class of claims and volumes before there was a field, and still goes before it.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

/// Why a volume cannot be bound to a claim that asks for it by name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    #[error("the volume is marked for deletion {0:?}")]
    Deleted(String),
    #[error("requested PV is too small")]
    Small,
    #[error("storageClassName does not match")]
    Class,
    #[error("incompatible volumeMode")]
    Mode,
    #[error("incompatible accessMode")]
    Access,
    #[error("volumeAttributesClassName does not match")]
    Attributes,
}

/// A claim of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimUse {
    /// The name of the claim, in the namespace of the pod.
    pub name: String,
    /// The name of the volume in the pod.
    pub volume: String,
    /// Whether the claim is made for the pod (`ephemeral`).
    pub is_made: bool,
}

/// The value of an annotation.
pub fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The class of a claim, empty for none.
pub fn claim_class(claim: &PersistentVolumeClaim) -> &str {
    let field = || claim.spec.as_ref()?.storage_class_name.as_deref();
    annotation(&claim.metadata, BETA_CLASS).or_else(field).unwrap_or_default()
}

/// Whether the claim leaves its class to the cluster.
pub fn is_class_open(claim: &PersistentVolumeClaim) -> bool {
    let field = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref());
    field.is_none() && annotation(&claim.metadata, BETA_CLASS).is_none()
}

/// The class of a volume, empty for none.
pub fn volume_class(volume: &PersistentVolume) -> &str {
    let field = || volume.spec.as_ref()?.storage_class_name.as_deref();
    annotation(&volume.metadata, BETA_CLASS).or_else(field).unwrap_or_default()
}

/// The name of the volume that the claim has or wants, empty for none.
pub fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}

/// The claim that the volume has or is kept for.
pub fn claim_reference(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// Whether the binding of a claim is complete.
pub fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    !volume_name(claim).is_empty() && annotation(&claim.metadata, BIND_COMPLETED).is_some()
}

/// Whether claims of this class wait for a pod that uses them.
pub fn is_delayed(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// Whether claims that leave it open get this class.
pub fn is_default(class: &StorageClass) -> bool {
    DEFAULT_CLASS.iter().any(|key| annotation(&class.metadata, key) == Some("true"))
}

/// The class for claims that leave it open: the newest of those marked, of equally new ones the first by name.
pub fn default_class<'a>(classes: impl IntoIterator<Item = &'a Arc<StorageClass>>) -> Option<&'a Arc<StorageClass>> {
    let marked = classes.into_iter().filter(|class| is_default(class));
    marked.min_by_key(|class| {
        let meta = &class.metadata;
        (std::cmp::Reverse(meta.creation_timestamp.as_ref().map(|time| time.0)), meta.name.clone())
    })
}

/// How much a claim asks for.
pub fn requested(claim: &PersistentVolumeClaim) -> Quantity {
    let list = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    storage(list)
}

/// How much a volume has.
pub fn capacity(volume: &PersistentVolume) -> Quantity {
    storage(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()))
}

fn storage(list: Option<&BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>) -> Quantity {
    list.and_then(|list| list.get("storage")?.0.parse().ok()).unwrap_or_default()
}

/// Whether the volume is bound to this claim or kept for one of its name; when the reference has a uid, it decides.
pub fn refers_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = claim_reference(volume) else { return false };
    let uid = reference.uid.as_deref().unwrap_or_default();
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && (uid.is_empty() || claim.metadata.uid.as_deref() == Some(uid))
}

/// Whether the volume could be the claim's, whoever has it now.
pub fn fits(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result<(), Misfit> {
    serves(claim, volume)?;
    if claim_class(claim) == volume_class(volume) { Ok(()) } else { Err(Misfit::Class) }
}

/// As [`fits`], for a volume that is kept for the claim: then the class is not asked.
fn serves(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result<(), Misfit> {
    let (wants, has) = (claim.spec.as_ref(), volume.spec.as_ref());
    if volume.metadata.deletion_timestamp.is_some() {
        return Err(Misfit::Deleted(volume.metadata.name.clone().unwrap_or_default()));
    }
    if capacity(volume) < requested(claim) {
        return Err(Misfit::Small);
    }
    let mode = |mode: Option<&String>| mode.map_or("Filesystem", String::as_str).to_owned();
    if mode(wants.and_then(|spec| spec.volume_mode.as_ref())) != mode(has.and_then(|spec| spec.volume_mode.as_ref())) {
        return Err(Misfit::Mode);
    }
    let modes = has.and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default();
    if !wants.and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default().iter().all(|mode| modes.contains(mode))
    {
        return Err(Misfit::Access);
    }
    let attributes = |name: Option<&String>| name.cloned().unwrap_or_default();
    let wanted = attributes(wants.and_then(|spec| spec.volume_attributes_class_name.as_ref()));
    if wanted != attributes(has.and_then(|spec| spec.volume_attributes_class_name.as_ref())) {
        return Err(Misfit::Attributes);
    }
    Ok(())
}

/// The volumes that a claim may have.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    /// One that is kept for it, or bound to it already: it gets this one or none.
    pub reserved: Option<Arc<PersistentVolume>>,
    /// Those that are free, the smallest first.
    pub free: Vec<Arc<PersistentVolume>>,
}

impl Candidates {
    /// Chooses among `volumes`.
    pub fn of(claim: &PersistentVolumeClaim, volumes: impl IntoIterator<Item = Arc<PersistentVolume>>) -> Self {
        let mut candidates = Self::default();
        for volume in volumes {
            if refers_to(&volume, claim) && serves(claim, &volume).is_ok() {
                candidates.reserved.get_or_insert(volume);
            } else if is_free(&volume) && is_selected(claim, &volume) && fits(claim, &volume).is_ok() {
                candidates.free.push(volume);
            }
        }
        candidates.free.sort_by_cached_key(|volume| (capacity(volume), volume.metadata.name.clone()));
        candidates
    }

    /// The best for which `is_right` holds.
    pub fn best(&self, is_right: impl Fn(&PersistentVolume) -> bool) -> Option<&Arc<PersistentVolume>> {
        match &self.reserved {
            Some(volume) => Some(volume).filter(|volume| is_right(volume)),
            None => self.free.iter().find(|volume| is_right(volume)),
        }
    }
}

fn is_free(volume: &PersistentVolume) -> bool {
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    claim_reference(volume).is_none() && phase == Some("Available")
}

fn is_selected(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_none_or(|selector| selects(selector, labels::of(&volume.metadata)))
}

/// Whether a node can use the volume, by the volume's node affinity.
pub fn is_reachable(volume: &PersistentVolume, node: &str, labels: &BTreeMap<String, String>) -> bool {
    let required = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref()?.required.as_ref());
    required.is_none_or(|required| chooses(required, node, labels))
}

/// Whether a class makes volumes for nodes with these labels (`allowedTopologies`).
pub fn allows(topologies: Option<&[TopologySelectorTerm]>, labels: &BTreeMap<String, String>) -> bool {
    let holds = |term: &TopologySelectorTerm| {
        let mut rules = term.match_label_expressions.iter().flatten().peekable();
        // As upstream, a term without rules allows no node.
        rules.peek().is_some()
            && rules.all(|rule| labels.get(&rule.key).is_some_and(|value| rule.values.contains(value)))
    };
    topologies.is_none_or(|terms| terms.is_empty() || terms.iter().any(holds))
}

/// The volume as it is when it is bound to the claim; `None` when it is so already.
pub fn bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<PersistentVolume> {
    let is_kept = refers_to(volume, claim);
    let is_complete =
        is_kept && claim_reference(volume).and_then(|reference| reference.uid.as_ref()) == claim.metadata.uid.as_ref();
    if is_complete {
        return None;
    }
    let mut bound = volume.clone();
    bound.spec.get_or_insert_default().claim_ref = Some(ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        namespace: claim.metadata.namespace.clone(),
        name: claim.metadata.name.clone(),
        uid: claim.metadata.uid.clone(),
        resource_version: claim.metadata.resource_version.clone(),
        field_path: None,
    });
    if !is_kept {
        annotate(&mut bound.metadata, BOUND_BY_CONTROLLER, "yes");
    }
    Some(bound)
}

/// Sets an annotation; false when it is set already.
pub fn annotate(meta: &mut ObjectMeta, key: &str, value: &str) -> bool {
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(key.to_owned(), value.to_owned()).as_deref() != Some(value)
}

/// The claims that a pod uses, those made for it included; each once.
pub fn claims_of(pod: &Pod) -> Vec<ClaimUse> {
    let mut seen = BTreeSet::new();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let uses = volumes.filter_map(|volume| {
        let name = match &volume.persistent_volume_claim {
            Some(claim) => claim.claim_name.clone(),
            None => volume.ephemeral.is_some().then(|| made_name(pod, &volume.name))?,
        };
        let is_made = volume.persistent_volume_claim.is_none();
        Some(ClaimUse { name, volume: volume.name.clone(), is_made })
    });
    uses.filter(|used| seen.insert((used.name.clone(), used.is_made))).collect()
}

/// The name of the claim that is made for a volume of a pod.
pub fn made_name(pod: &Pod, volume: &str) -> String {
    format!("{}-{volume}", pod.metadata.name.as_deref().unwrap_or_default())
}

/// A claim has the name of one that is to be made for a pod.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PVC {namespace}/{claim} was not created for pod {namespace}/{pod} (pod is not owner)")]
pub struct Foreign {
    namespace: String,
    claim: String,
    pod: String,
}

/// Whether the claim was made for exactly this pod.
pub fn check_made_for(claim: &PersistentVolumeClaim, pod: &Pod) -> Result<(), Foreign> {
    if is_controlled_by(&claim.metadata, pod.metadata.uid.as_deref())
        && claim.metadata.namespace == pod.metadata.namespace
    {
        return Ok(());
    }
    Err(Foreign {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        claim: claim.metadata.name.clone().unwrap_or_default(),
        pod: pod.metadata.name.clone().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests;
