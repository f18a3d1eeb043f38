//! The two kinds that keep a number of pods.

use client::Watchable;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Resource;
use serde::Serialize;

/// A ReplicaSet, or what can be seen as one.
pub(crate) trait Keeper: Watchable + Serialize + PartialEq + Resource<Scope = NamespaceResourceScope> {
    /// Who its events are from.
    const COMPONENT: &'static str;
    /// What an event says of an empty selector.
    const SELECTS_ALL: &'static str;

    /// The object as a ReplicaSet.
    fn view(&self) -> ReplicaSet;
    /// The same object with another status.
    fn with_status(&self, status: ReplicaSetStatus) -> Self;
}

impl Keeper for ReplicaSet {
    const COMPONENT: &'static str = "replicaset-controller";
    const SELECTS_ALL: &'static str = "this replica set selects all pods";

    fn view(&self) -> ReplicaSet {
        self.clone()
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        Self { status: Some(status), ..self.clone() }
    }
}

impl Keeper for ReplicationController {
    const COMPONENT: &'static str = "replication-controller";
    const SELECTS_ALL: &'static str = "this replication controller selects all pods";

    fn view(&self) -> ReplicaSet {
        let spec = self.spec.clone().map(|spec| ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: spec.replicas,
            selector: LabelSelector { match_labels: spec.selector, match_expressions: None },
            template: spec.template,
        });
        ReplicaSet { metadata: self.metadata.clone(), spec, status: self.status.clone().map(set_status) }
    }

    /// How many pods are terminating has no place here.
    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        let condition = |known: ReplicaSetCondition| ReplicationControllerCondition {
            last_transition_time: known.last_transition_time,
            message: known.message,
            reason: known.reason,
            status: known.status,
            type_: known.type_,
        };
        let status = ReplicationControllerStatus {
            available_replicas: status.available_replicas,
            conditions: status.conditions.map(|known| known.into_iter().map(condition).collect()),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
        };
        Self { status: Some(status), ..self.clone() }
    }
}

fn set_status(status: ReplicationControllerStatus) -> ReplicaSetStatus {
    let condition = |known: ReplicationControllerCondition| ReplicaSetCondition {
        last_transition_time: known.last_transition_time,
        message: known.message,
        reason: known.reason,
        status: known.status,
        type_: known.type_,
    };
    ReplicaSetStatus {
        available_replicas: status.available_replicas,
        conditions: status.conditions.map(|known| known.into_iter().map(condition).collect()),
        fully_labeled_replicas: status.fully_labeled_replicas,
        observed_generation: status.observed_generation,
        ready_replicas: status.ready_replicas,
        replicas: status.replicas,
        terminating_replicas: None,
    }
}
