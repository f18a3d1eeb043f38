//! How a pod says which gang it belongs to.

use std::collections::BTreeMap;
use std::fmt;

use client::ObjectKey;
use k8s_openapi::api::core::v1::Pod;

/// The labels in which the coscheduling plugin names a pod's group, the newest first.
const GROUP_LABELS: [&str; 3] =
    ["scheduling.x-k8s.io/pod-group", "pod-group.scheduling.sigs.k8s.io/name", "pod-group.scheduling.sigs.k8s.io"];
/// The labels or annotations that say how many pods of such a group are the least that can work.
pub(crate) const LEAST: [&str; 2] =
    ["scheduling.x-k8s.io/min-available", "pod-group.scheduling.sigs.k8s.io/min-available"];

/// Names a gang: pods of one namespace and scheduler with the same group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct GangKey {
    /// The name and namespace of the group.
    pub(crate) group: ObjectKey,
    /// Whether the group is a `PodGroup` of the API, and not only a word that pods share.
    pub(crate) is_object: bool,
    scheduler: String,
}

impl fmt::Display for GangKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.group.fmt(f)
    }
}

/// What a pod says of its gang.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) key: GangKey,
    /// How many pods must have their places together, as the pod has it. A `PodGroup` says it for its pods.
    pub(crate) least: usize,
}

impl Membership {
    /// Reads `spec.schedulingGroup`, or the labels. As the coscheduling plugin does, takes a pod whose labels do not say how
    /// many belong together for one that is on its own.
    pub(crate) fn of(pod: &Pod) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let key = |name: &str, is_object| GangKey {
            group: ObjectKey::new(pod.metadata.namespace.as_deref().unwrap_or_default(), name),
            is_object,
            scheduler: spec.scheduler_name.clone().unwrap_or_default(),
        };
        if let Some(name) = spec.scheduling_group.as_ref().and_then(|group| group.pod_group_name.as_deref()) {
            return Some(Self { key: key(name, true), least: 0 });
        }
        let labels = pod.metadata.labels.as_ref()?;
        let name = GROUP_LABELS.iter().find_map(|label| labels.get(*label)).filter(|name| !name.is_empty())?;
        Some(Self { key: key(name, false), least: least(labels, pod.metadata.annotations.as_ref())? })
    }
}

fn least(labels: &BTreeMap<String, String>, annotations: Option<&BTreeMap<String, String>>) -> Option<usize> {
    let said = |key: &&str| labels.get(*key).or_else(|| annotations?.get(*key));
    LEAST.iter().find_map(said)?.parse().ok().filter(|least| *least > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(metadata: Value, spec: Value, want: Option<(&str, bool, usize)>) {
        let text = metadata.to_string();
        let pod = serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap();
        let got = Membership::of(&pod);
        let got = got.as_ref().map(|it| (it.key.group.name.as_str(), it.key.is_object, it.least));
        assert_eq!(got, want, "{text} {spec}");
    }

    #[test]
    fn a_pod_names_its_gang_by_field_or_label() {
        let spec = || json!({"containers": []});
        let labels = |name: &str, least: &str| json!({"labels": {name: "g", LEAST[1]: least}});
        check(json!({}), json!({"containers": [], "schedulingGroup": {"podGroupName": "a"}}), Some(("a", true, 0)));
        check(json!({}), json!({"containers": [], "schedulingGroup": {}}), None);
        for label in GROUP_LABELS {
            check(labels(label, "3"), spec(), Some(("g", false, 3)));
        }
        let annotated = json!({"labels": {GROUP_LABELS[0]: "g"}, "annotations": {LEAST[0]: "2"}});
        check(annotated, spec(), Some(("g", false, 2)));
    }

    #[test]
    fn a_pod_whose_labels_do_not_say_how_many_is_on_its_own() {
        for least in ["", "0", "-1", "many", "99999999999999999999999"] {
            check(json!({"labels": {GROUP_LABELS[0]: "g", LEAST[0]: least}}), json!({"containers": []}), None);
        }
        check(json!({"labels": {GROUP_LABELS[0]: "g"}}), json!({"containers": []}), None);
        check(json!({"labels": {GROUP_LABELS[0]: "", LEAST[0]: "2"}}), json!({"containers": []}), None);
    }
}
