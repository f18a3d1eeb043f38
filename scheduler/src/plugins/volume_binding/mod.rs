//! Pods go where their volumes are, or can be (upstream's `VolumeBinding`).

mod arguments;

use std::sync::Arc;
use std::time::Duration;

use api::volumes::claims_of;
use async_trait::async_trait;
use client::ObjectKey;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::PostParams;
use kube::{Api, Resource};

use self::arguments::bind_timeout;
use crate::framework::{
    Broken, ClusterEvent, CycleState, Filter, NodeInfo, Plugin, PodInfo, PreBind, PreFilter, PreFilterResult,
    Rejection, Reserve, Snapshot, StorageEvent,
};
use crate::profile::PluginSpec;
use crate::volumes::{Binding, Needs, Plan, Provision, Volumes};

pub(crate) const PLUGIN: PluginSpec = PluginSpec::new("VolumeBinding", |slot| {
    let timeout = slot.read(bind_timeout)?;
    let (volumes, client) = (Arc::clone(&slot.handles.volumes), slot.client.clone());
    slot.place(VolumeBinding { volumes, client, timeout }).prepared_filter().reserve_and_pre_bind().end()
});

/// Binds the claims of pods that wait for a node, and looks where the volumes of the others are.
pub(crate) struct VolumeBinding {
    pub(crate) volumes: Arc<Volumes>,
    pub(crate) client: kube::Client,
    /// How long the volumes of a pod are waited for.
    pub(crate) timeout: Duration,
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        PLUGIN.name
    }

    fn may_help(&self, pod: &PodInfo, event: &ClusterEvent) -> bool {
        match event {
            ClusterEvent::NodeAdded(_) => true,
            ClusterEvent::NodeUpdated { old, new } => old.metadata.labels != new.metadata.labels,
            ClusterEvent::Storage(event) => storage_helps(pod, event),
            // What was kept for it, and not written, is free again.
            ClusterEvent::AssignedPodDeleted(other) => !claims_of(other).is_empty(),
            _ => false,
        }
    }
}

fn storage_helps(pod: &PodInfo, event: &StorageEvent) -> bool {
    match event {
        StorageEvent::Claim(claim) => uses(pod, claim),
        StorageEvent::Volume { old, new } => old.as_ref().is_none_or(|old| is_other(old, new)),
        StorageEvent::Class { old: None, .. } | StorageEvent::Capacity => true,
        StorageEvent::Drivers => false,
        StorageEvent::Class { old: Some(old), new } => old.allowed_topologies != new.allowed_topologies,
    }
}

/// Whether the claim is one of the pod's.
pub(super) fn uses(pod: &PodInfo, claim: &PersistentVolumeClaim) -> bool {
    let key = ObjectKey::of(claim);
    key.namespace == pod.namespace() && claims_of(&pod.pod).iter().any(|used| used.name == key.name)
}

fn is_other(old: &PersistentVolume, new: &PersistentVolume) -> bool {
    let phase = |volume: &PersistentVolume| volume.status.as_ref().and_then(|status| status.phase.clone());
    old.spec != new.spec || old.metadata.labels != new.metadata.labels || phase(old) != phase(new)
}

impl PreFilter for VolumeBinding {
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        _snapshot: &Snapshot,
    ) -> Result<PreFilterResult, Rejection> {
        let needs = self.volumes.needs(&pod.pod).map_err(Rejection::unresolvable)?;
        let skip = needs.is_none();
        needs.into_iter().for_each(|needs| state.put(needs));
        Ok(PreFilterResult { nodes: None, skip })
    }
}

impl Filter for VolumeBinding {
    fn filter(&self, state: &CycleState, _pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let Some(needs) = state.get::<Needs>() else { return Ok(()) };
        needs
            .check(&node.name, node.labels())
            .map_err(|reasons| Rejection { reasons: reasons.into_iter().map(Into::into).collect(), unresolvable: true })
    }
}

impl Reserve for VolumeBinding {
    fn reserve(&self, pod: &PodInfo, node: &str) -> Result<(), Rejection> {
        self.volumes
            .reserve(&pod.pod, node)
            .map_err(|reasons| Rejection { reasons: reasons.into_iter().map(Into::into).collect(), unresolvable: true })
    }

    fn unreserve(&self, pod: &PodInfo, _node: &str) {
        self.volumes.forget(&pod.uid);
    }
}

#[async_trait]
impl PreBind for VolumeBinding {
    async fn pre_bind(&self, pod: &PodInfo, _node: &str) -> Result<(), Broken> {
        let Some(plan) = self.volumes.plan(&pod.uid) else { return Ok(()) };
        let bound = tokio::time::timeout(self.timeout, self.bind(plan)).await;
        let bound = bound.unwrap_or_else(|_| Err("binding volumes: context deadline exceeded".to_owned()));
        bound.map_err(|reason| Broken { plugin: PLUGIN.name, reason })?;
        // All of it is what the API says now.
        self.volumes.forget(&pod.uid);
        Ok(())
    }
}

impl VolumeBinding {
    async fn bind(&self, mut plan: Plan) -> Result<(), String> {
        for binding in plan.bindings.iter_mut().filter(|binding| binding.is_due) {
            self.write_binding(binding).await.map_err(|err| err.to_string())?;
        }
        for provision in plan.provisions.iter_mut().filter(|provision| provision.is_due) {
            self.write_provision(provision).await.map_err(|err| err.to_string())?;
        }
        self.volumes.bound(&plan).await.map_err(|err| format!("binding volumes: {err}"))
    }

    /// Fails when the volume has changed since the decision: then another claim may have it.
    async fn write_binding(&self, binding: &mut Binding) -> kube::Result<()> {
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        let written = api.replace(name(&*binding.volume), &PostParams::default(), &binding.volume).await?;
        *binding = Binding { claim: Arc::clone(&binding.claim), volume: Arc::new(written), is_due: false };
        Ok(())
    }

    async fn write_provision(&self, provision: &mut Provision) -> kube::Result<()> {
        let claim = &provision.claim;
        let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        let written = api.replace(name(&**claim), &PostParams::default(), claim).await?;
        *provision = Provision { claim: Arc::new(written), is_due: false };
        Ok(())
    }
}

fn name<K: Resource>(object: &K) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}
