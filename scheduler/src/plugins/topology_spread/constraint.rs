//! One constraint, read for one pod.

use std::collections::BTreeMap;

use client::ObjectKey;
use facts::labels::{Labels, is_empty, matches};
use facts::nodes::selector;
use facts::owners::controller_of;
use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::framework::{NodeInfo, OwnerKey, PodInfo, Snapshot};
use crate::plugins::taint_toleration::untolerated;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Constraint {
    pub(super) key: String,
    pub(super) max_skew: i64,
    pub(super) min_domains: usize,
    selector: Option<LabelSelector>,
    /// Labels that pods must share with this one besides (`matchLabelKeys`).
    shared: Labels,
    honors_affinity: bool,
    honors_taints: bool,
}

impl Constraint {
    pub(super) fn new(constraint: &TopologySpreadConstraint, pod: &PodInfo) -> Self {
        let honors = |policy: Option<&str>, default: &str| policy.unwrap_or(default) == "Honor";
        let keys = constraint.match_label_keys.iter().flatten();
        Self {
            key: constraint.topology_key.clone(),
            max_skew: constraint.max_skew.into(),
            min_domains: constraint.min_domains.map_or(1, |least| usize::try_from(least).unwrap_or(1)),
            selector: constraint.label_selector.clone(),
            shared: keys.filter_map(|key| Some((key.clone(), pod.labels().get(key)?.clone()))).collect(),
            honors_affinity: honors(constraint.node_affinity_policy.as_deref(), "Honor"),
            honors_taints: honors(constraint.node_taints_policy.as_deref(), "Ignore"),
        }
    }

    /// Whether a node counts: the policies on affinity and taints.
    pub(super) fn counts(&self, pod: &PodInfo, node: &NodeInfo) -> bool {
        (!self.honors_affinity || pod.spec().is_none_or(|spec| selector::allows(spec, &node.node)))
            && (!self.honors_taints || untolerated(pod, node.taints()).is_none())
    }

    pub(super) fn matches(&self, labels: &Labels) -> bool {
        matches(self.selector.as_ref(), labels) && self.shared.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    /// Whether it speaks of `other` when `pod` looks for a node. Pods that are leaving do not count.
    pub(super) fn speaks_of(&self, pod: &PodInfo, other: &PodInfo) -> bool {
        other.namespace() == pod.namespace() && !other.is_terminating() && self.matches(other.labels())
    }

    /// How many pods of a node it speaks of.
    pub(super) fn count(&self, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let count = node.pods.iter().filter(|other| self.speaks_of(pod, other)).count();
        i64::try_from(count).unwrap_or(i64::MAX)
    }
}

/// Whether a node has the labels of all constraints.
pub(super) fn has_all_labels(constraints: &[Constraint], node: &NodeInfo) -> bool {
    constraints.iter().all(|constraint| node.labels().contains_key(&constraint.key))
}

/// Makes constraints speak of the pods that belong together with this one; none are left when it belongs to no group.
pub(super) fn about_its_group(mut constraints: Vec<Constraint>, pod: &PodInfo, snapshot: &Snapshot) -> Vec<Constraint> {
    if constraints.is_empty() {
        return constraints;
    }
    let selector = group(pod, snapshot);
    if is_empty(&selector) {
        return Vec::new();
    }
    for constraint in &mut constraints {
        constraint.selector = Some(selector.clone());
    }
    constraints
}

/// What the pods of its services and of its controller have in common.
fn group(pod: &PodInfo, snapshot: &Snapshot) -> LabelSelector {
    let chooses = |selector: &&Labels| selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value));
    let mut labels: Labels = BTreeMap::new();
    for service in snapshot.services(pod.namespace()).filter(chooses) {
        labels.extend(service.clone());
    }
    let owner = owner(pod).and_then(|owner| snapshot.selector_of(&owner));
    labels.extend(owner.and_then(|owner| owner.match_labels.clone()).unwrap_or_default());
    let match_expressions = owner.and_then(|owner| owner.match_expressions.clone());
    LabelSelector { match_labels: Some(labels), match_expressions }
}

fn owner(pod: &PodInfo) -> Option<OwnerKey> {
    let owner = controller_of(&pod.pod.metadata)?;
    let key = ObjectKey::new(pod.namespace(), owner.name.as_str());
    Some((owner.api_version.clone(), owner.kind.clone(), key))
}
