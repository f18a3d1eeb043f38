//! How far the writing of a plan has come.

use std::sync::Arc;

use api::volumes::{SELECTED_NODE, annotation, claim_reference, is_bound, is_reachable, volume_name};
use client::ObjectKey;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::plan::{Binding, Plan};
use super::state::State;

impl State {
    /// Whether everything in the plan is bound; an error when it will not be. Judges what the API says, not what is assumed.
    pub(super) fn progress(&self, plan: &Plan) -> Result<bool, String> {
        if self.is_given_up(&plan.uid) {
            return Err("pod does not exist any more".to_owned());
        }
        let Some(node) = self.nodes.get(&plan.node) else {
            return Err(format!("failed to get node {:?}: node {:?} not found", plan.node, plan.node));
        };
        for binding in &plan.bindings {
            if !self.is_binding_done(binding, node)? {
                return Ok(false);
            }
        }
        for provision in &plan.provisions {
            if !self.is_provision_done(&provision.claim, node)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_binding_done(&self, binding: &Binding, node: &Node) -> Result<bool, String> {
        let name = binding.volume.metadata.name.as_deref().unwrap_or_default();
        let volume = self.volumes.get(name);
        let volume = volume.ok_or_else(|| format!("failed to check binding: persistentvolume {name:?} not found"))?;
        let claim = self.same_claim(&binding.claim).map_err(|err| format!("failed to check binding: {err}"))?;
        if is_behind(&volume.metadata, &binding.volume.metadata) {
            return Ok(false);
        }
        check_reach(volume, node)?;
        let uid = claim_reference(volume).and_then(|reference| reference.uid.as_ref());
        if uid.is_none() || uid != claim.metadata.uid.as_ref() {
            return Err(format!("ClaimRef got reset for pv {name:?}"));
        }
        Ok(is_bound(claim))
    }

    fn is_provision_done(&self, asked: &PersistentVolumeClaim, node: &Node) -> Result<bool, String> {
        let claim = self.same_claim(asked).map_err(|err| format!("failed to check provisioning pvc: {err}"))?;
        if is_behind(&claim.metadata, &asked.metadata) {
            return Ok(false);
        }
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        match annotation(&claim.metadata, SELECTED_NODE) {
            None => return Err(format!("selectedNode annotation reset for PVC {name:?}")),
            Some(selected) if Some(selected) != node.metadata.name.as_deref() => {
                return Err(format!("provisioning failed for PVC {name:?}"));
            }
            Some(_) => {}
        }
        match self.volumes.get(volume_name(claim)) {
            Some(volume) => check_reach(volume, node)?,
            // None yet, or it is not known here yet.
            None => return Ok(false),
        }
        Ok(is_bound(claim))
    }

    /// The claim as the API has it, unless another has its name now.
    fn same_claim(&self, claim: &PersistentVolumeClaim) -> Result<&Arc<PersistentVolumeClaim>, String> {
        let key = ObjectKey::of(claim);
        let known = self.claims.get(&key).filter(|known| known.metadata.uid == claim.metadata.uid);
        known.ok_or_else(|| format!("persistentvolumeclaim {:?} not found", key.name))
    }
}

fn check_reach(volume: &PersistentVolume, node: &Node) -> Result<(), String> {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let labels = node.metadata.labels.clone().unwrap_or_default();
    if is_reachable(volume, name, &labels) {
        return Ok(());
    }
    let volume = volume.metadata.name.as_deref().unwrap_or_default();
    Err(format!("pv {volume:?} node affinity doesn't match node {name:?}: no matching NodeSelectorTerms"))
}

/// Whether the cache has not seen yet what was written. Versions are numbers that grow (KEP-5504).
fn is_behind(cached: &ObjectMeta, written: &ObjectMeta) -> bool {
    let version = |meta: &ObjectMeta| meta.resource_version.as_deref()?.parse::<u64>().ok();
    version(cached) < version(written)
}
