//! How many pods a budget should have, by what their controllers ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use client::{Event, Informer, ObjectKey, Watchable, WorkQueue, write};
use facts::int_or_percent::portion;
use facts::owners::controller_of;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Api;
use kube::api::DynamicObject;
use kube::core::GroupVersionKind;
use kube::discovery::{Scope, pinned_kind};

use crate::context::{Context, Failure};
use crate::meta;

/// What a budget should have.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Expected {
    pub(super) pods: i32,
    /// How many must stay healthy.
    pub(super) healthy: i32,
    /// Some pods count for nothing, since nobody says how many there should be.
    pub(super) has_unmanaged: bool,
}

/// The controllers of pods.
pub(super) struct Owners {
    client: kube::Client,
    deployments: Informer<Deployment>,
    replica_sets: Informer<ReplicaSet>,
    stateful_sets: Informer<StatefulSet>,
    replication_controllers: Informer<ReplicationController>,
}

impl Owners {
    /// Follows the controllers, and has the budgets of a namespace looked at when one of them wants another number.
    pub(super) fn new(
        context: &Context,
        budgets: &Informer<PodDisruptionBudget>,
        queue: &WorkQueue<ObjectKey>,
    ) -> Self {
        Self {
            client: context.client.clone(),
            deployments: follow(context, budgets, queue, |set: &Deployment| set.spec.as_ref()?.replicas),
            replica_sets: follow(context, budgets, queue, |set: &ReplicaSet| set.spec.as_ref()?.replicas),
            stateful_sets: follow(context, budgets, queue, |set: &StatefulSet| set.spec.as_ref()?.replicas),
            replication_controllers: follow(context, budgets, queue, |set: &ReplicationController| {
                set.spec.as_ref()?.replicas
            }),
        }
    }

    /// The numbers for a budget with these pods.
    pub(super) async fn expected(
        &self,
        namespace: &str,
        budget: &PodDisruptionBudget,
        pods: &[Arc<Pod>],
    ) -> Result<Expected, Failure> {
        let spec = budget.spec.clone().unwrap_or_default();
        if let Some(most) = &spec.max_unavailable {
            let (pods, has_unmanaged) = self.wanted(namespace, pods).await?;
            let healthy = pods.saturating_sub(portion(most, pods, true)).max(0);
            return Ok(Expected { pods, healthy, has_unmanaged });
        }
        match &spec.min_available {
            Some(least @ IntOrString::String(_)) => {
                let (pods, has_unmanaged) = self.wanted(namespace, pods).await?;
                Ok(Expected { pods, healthy: portion(least, pods, true), has_unmanaged })
            }
            Some(IntOrString::Int(least)) => {
                let pods = i32::try_from(pods.len()).unwrap_or(i32::MAX);
                Ok(Expected { pods, healthy: *least, has_unmanaged: false })
            }
            None => Ok(Expected { pods: 0, healthy: 0, has_unmanaged: false }),
        }
    }

    /// The sum of what the controllers of the pods ask for, and whether pods are without a controller.
    async fn wanted(&self, namespace: &str, pods: &[Arc<Pod>]) -> Result<(i32, bool), Failure> {
        // Several ReplicaSets of one Deployment count once: by the uid of what was found.
        let (mut found, mut asked) = (BTreeMap::new(), BTreeSet::new());
        let mut has_unmanaged = false;
        for pod in pods {
            let Some(owner) = controller_of(&pod.metadata) else {
                has_unmanaged = true;
                continue;
            };
            if !asked.insert(owner.uid.as_str()) {
                continue;
            }
            let Some((uid, replicas)) = self.scale(namespace, owner).await? else {
                let name = meta::name(&pod.metadata);
                return Err(Failure::NotYet(format!("found no controllers for pod {name:?}")));
            };
            found.insert(uid, replicas);
        }
        Ok((found.into_values().fold(0, i32::saturating_add), has_unmanaged))
    }

    /// The uid of what decides on the number of an owner's pods, and the number; `None` if it is not there.
    async fn scale(&self, namespace: &str, owner: &OwnerReference) -> Result<Option<(String, i32)>, Failure> {
        let (group, _) = owner.api_version.split_once('/').unwrap_or(("", ""));
        let key = ObjectKey::new(namespace, owner.name.clone());
        match (group, owner.kind.as_str()) {
            ("apps", "ReplicaSet") => {
                let set = get(&self.replica_sets, &key, &owner.uid);
                let Some(set) = set else { return Ok(None) };
                let deployment = meta::controller_key::<Deployment>(&set.metadata);
                Ok(match (deployment, controller_of(&set.metadata)) {
                    (Some(key), Some(owner)) => get(&self.deployments, &key, &owner.uid).map(|found| {
                        (owner.uid.clone(), found.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1))
                    }),
                    _ => Some((owner.uid.clone(), set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1))),
                })
            }
            ("apps", "StatefulSet") => Ok(get(&self.stateful_sets, &key, &owner.uid)
                .map(|set| (owner.uid.clone(), set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)))),
            ("", "ReplicationController") => Ok(get(&self.replication_controllers, &key, &owner.uid)
                .map(|set| (owner.uid.clone(), set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)))),
            _ => self.asked_scale(namespace, owner).await,
        }
    }

    /// What the `scale` subresource of a controller of any other kind says.
    async fn asked_scale(&self, namespace: &str, owner: &OwnerReference) -> Result<Option<(String, i32)>, Failure> {
        let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
        let kind = GroupVersionKind::gvk(group, version, &owner.kind);
        let (resource, capabilities) = match pinned_kind(&self.client, &kind).await {
            Ok(found) => found,
            Err(err) if write::is_not_found(&err) || matches!(err, kube::Error::Discovery(_)) => return Ok(None),
            Err(err) => return Err(err.into()),
        };
        let has_scale = capabilities.subresources.iter().any(|(name, _)| name.plural.ends_with("scale"));
        if !has_scale || capabilities.scope == Scope::Cluster {
            let dot = if group.is_empty() { "" } else { "." };
            let plural = &resource.plural;
            return Err(Failure::Impossible(format!("{plural}{dot}{group} does not implement the scale subresource")));
        }
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        let Some(scale) = write::ignore_not_found(api.get_scale(&owner.name).await)? else { return Ok(None) };
        let replicas = scale.spec.and_then(|spec| spec.replicas).unwrap_or(0);
        Ok((scale.metadata.uid.as_ref() == Some(&owner.uid)).then(|| (owner.uid.clone(), replicas)))
    }
}

/// The object of this key, if it is still the one with this uid.
fn get<K: Watchable>(informer: &Informer<K>, key: &ObjectKey, uid: &str) -> Option<Arc<K>> {
    informer.get(key).filter(|found| meta::uid(found.meta()) == uid)
}

fn follow<K: Watchable>(
    context: &Context,
    budgets: &Informer<PodDisruptionBudget>,
    queue: &WorkQueue<ObjectKey>,
    replicas: fn(&K) -> Option<i32>,
) -> Informer<K> {
    let informer = context.informers.of::<K>();
    let (budgets, queue) = (budgets.clone(), queue.clone());
    informer.on_event(move |event| {
        if let Event::Applied { old: Some(old), new } = event
            && replicas(old) == replicas(new)
        {
            return;
        }
        let namespace = meta::namespace(event.object().meta());
        budgets.list_in(namespace).iter().for_each(|budget| queue.add(ObjectKey::of(&**budget)));
    });
    informer
}
