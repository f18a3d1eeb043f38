//! When the claims of a StatefulSet's pods go: with the set, with the pod when the set shrinks, or never.
//!
//! A claim that shall go is owned by what it goes with; the garbage collector does the rest.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::identity;
use crate::meta;

/// The owners that a claim shall have instead of those that it has; `None` when they are right.
///
/// A claim that somebody else controls is left alone.
pub(super) fn owners(set: &StatefulSet, pod: &Pod, claim: &PersistentVolumeClaim) -> Option<Vec<OwnerReference>> {
    let known = claim.metadata.owner_references.clone().unwrap_or_default();
    let is_of = |owner: &OwnerReference, uid: &str| owner.uid == uid;
    let (set_uid, pod_uid) = (meta::uid(&set.metadata), meta::uid(&pod.metadata));
    let is_foreign =
        |owner: &&OwnerReference| owner.controller == Some(true) && !is_of(owner, set_uid) && !is_of(owner, pod_uid);
    if known.iter().find(is_foreign).is_some() {
        return None;
    }
    let (with_set, with_pod) = goes_with(set, pod);
    let mut right: Vec<OwnerReference> =
        known.iter().filter(|owner| !is_of(owner, set_uid) && !is_of(owner, pod_uid)).cloned().collect();
    let set_owns = with_set.then(|| meta::controller_reference(set));
    let pod_owns = with_pod.then(|| meta::controller_reference(pod));
    right.extend(set_owns.into_iter().chain(pod_owns));
    let is_same = right.len() == known.len() && right.iter().all(|owner| known.contains(owner));
    (!is_same).then_some(right)
}

/// Whether the claims of a pod go with the set, and whether with the pod.
fn goes_with(set: &StatefulSet, pod: &Pod) -> (bool, bool) {
    let policy = set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    let deletes = |when: Option<&String>| when.is_some_and(|what| what == "Delete");
    let when_deleted = deletes(policy.and_then(|policy| policy.when_deleted.as_ref()));
    let when_scaled = deletes(policy.and_then(|policy| policy.when_scaled.as_ref()));
    let is_surplus = identity::ordinal(set, pod).is_some_and(|ordinal| !identity::ordinals(set).contains(&ordinal));
    let with_pod = when_scaled && is_surplus;
    (when_deleted && !with_pod, with_pod)
}

/// Whether a claim still goes with a pod of before: no new pod may use it.
pub(super) fn is_stale(claim: &PersistentVolumeClaim, pod_name: &str) -> bool {
    let mut owners = claim.metadata.owner_references.iter().flatten();
    owners.any(|owner| owner.kind == "Pod" && owner.api_version == "v1" && owner.name == pod_name)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{Value, from_value, json};

    use super::*;

    fn check(when_deleted: &str, when_scaled: &str, name: &str, owner: &[&str], expected: Option<&[&str]>) {
        let set: StatefulSet = from_value(json!({ "metadata": { "name": "web", "uid": "set" }, "spec": {
            "replicas": 1, "selector": {}, "template": {},
            "persistentVolumeClaimRetentionPolicy": { "whenDeleted": when_deleted, "whenScaled": when_scaled },
        } }))
        .unwrap();
        let pod: Pod = from_value(json!({ "metadata": { "name": name, "uid": "pod" } })).unwrap();
        let reference = |uid: &&str| -> Value {
            match *uid {
                "set" => serde_json::to_value(meta::controller_reference(&set)).unwrap(),
                "pod" => serde_json::to_value(meta::controller_reference(&pod)).unwrap(),
                other => json!({ "apiVersion": "v1", "kind": "X", "name": "x", "uid": other, "controller": true }),
            }
        };
        let owners: Vec<Value> = owner.iter().map(reference).collect();
        let claim = from_value(json!({ "metadata": { "ownerReferences": owners } })).unwrap();
        let got = super::owners(&set, &pod, &claim);
        let got = got.map(|owners| owners.into_iter().map(|owner| owner.uid).collect::<Vec<_>>());
        assert_eq!(got, expected.map(|uids| uids.iter().map(|uid| (*uid).to_owned()).collect()));
    }

    #[test]
    fn claims_go_with_what_the_policy_says() {
        check("Retain", "Retain", "web-0", &[], None);
        check("Retain", "Retain", "web-0", &["set"], Some(&[]));
        check("Delete", "Retain", "web-0", &[], Some(&["set"]));
        check("Delete", "Retain", "web-7", &["set"], None);
        check("Retain", "Delete", "web-0", &[], None);
        check("Retain", "Delete", "web-7", &[], Some(&["pod"]));
        check("Delete", "Delete", "web-7", &["set"], Some(&["pod"]));
        check("Delete", "Delete", "web-0", &["pod"], Some(&["set"]));
        check("Delete", "Delete", "web-0", &["other"], None);
    }
}
