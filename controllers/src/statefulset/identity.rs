//! What tells the pods of a StatefulSet apart: their ordinals, names, and claims.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};

use crate::history::REVISION;
use crate::{meta, podcontrol};

/// The labels that repeat a pod's name and ordinal.
pub(super) const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
pub(super) const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The ordinal of a pod of `set`; `None` if its name is not one that the set gives.
pub(super) fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let (parent, ordinal) = meta::name(&pod.metadata).rsplit_once('-')?;
    let is_number = !ordinal.is_empty() && ordinal.bytes().all(|byte| byte.is_ascii_digit());
    (parent == meta::name(&set.metadata) && is_number).then(|| ordinal.parse().ok()).flatten()
}

/// The first ordinal.
pub(super) fn start(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.ordinals.as_ref()?.start).unwrap_or(0)
}

/// The ordinals that the set shall have.
pub(super) fn ordinals(set: &StatefulSet) -> std::ops::Range<i32> {
    let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1).max(0);
    start(set)..start(set).saturating_add(replicas)
}

/// The pod of an ordinal, made from the template of a revision.
pub(super) fn pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let mut pod = podcontrol::pod_from_template(set, template);
    let name = format!("{}-{ordinal}", meta::name(&set.metadata));
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.extend(identity(&name, ordinal));
    labels.insert(REVISION.to_owned(), revision.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.subdomain = set.spec.as_ref().and_then(|spec| spec.service_name.clone()).filter(|name| !name.is_empty());
    spec.hostname = Some(name);
    let mut volumes: Vec<Volume> = claim_names(set, ordinal).map(|(name, claim)| volume(name, claim)).collect();
    let given = spec.volumes.take().unwrap_or_default();
    volumes.extend(given.into_iter().filter(|given| claim_names(set, ordinal).all(|(name, _)| name != given.name)));
    spec.volumes = Some(volumes).filter(|volumes| !volumes.is_empty());
    pod
}

fn volume(name: String, claim_name: String) -> Volume {
    let source = PersistentVolumeClaimVolumeSource { claim_name, read_only: None };
    Volume { name, persistent_volume_claim: Some(source), ..Volume::default() }
}

fn identity(name: &str, ordinal: i32) -> BTreeMap<String, String> {
    BTreeMap::from([(POD_NAME.to_owned(), name.to_owned()), (POD_INDEX.to_owned(), ordinal.to_string())])
}

/// The labels that a pod should have but has not.
pub(super) fn missing_labels(pod: &Pod, ordinal: i32) -> BTreeMap<String, String> {
    let mut labels = identity(meta::name(&pod.metadata), ordinal);
    labels.retain(|key, value| pod.metadata.labels.as_ref().and_then(|labels| labels.get(key)) != Some(value));
    labels
}

/// Whether the pod mounts its claims; pods that were adopted may not.
pub(super) fn has_storage(set: &StatefulSet, pod: &Pod, ordinal: i32) -> bool {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    claim_names(set, ordinal).all(|(name, claim)| {
        volumes.iter().any(|known| {
            known.name == name && known.persistent_volume_claim.as_ref().is_some_and(|known| known.claim_name == claim)
        })
    })
}

/// The templates of claims. Of several with one name the last counts.
fn templates(set: &StatefulSet) -> impl Iterator<Item = &PersistentVolumeClaim> {
    let all = set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_deref()).unwrap_or_default();
    let is_last = |(at, template): &(usize, &PersistentVolumeClaim)| {
        all.iter().skip(at + 1).all(|later| later.metadata.name != template.metadata.name)
    };
    all.iter().enumerate().filter(is_last).map(|(_, template)| template)
}

/// The names of the volumes that are claims, and of the claims.
pub(super) fn claim_names(set: &StatefulSet, ordinal: i32) -> impl Iterator<Item = (String, String)> + '_ {
    templates(set).map(move |template| {
        let name = meta::name(&template.metadata);
        (name.to_owned(), format!("{name}-{}-{ordinal}", meta::name(&set.metadata)))
    })
}

/// The claims of an ordinal.
pub(super) fn claims(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let selected = set.spec.as_ref().and_then(|spec| spec.selector.match_labels.clone()).unwrap_or_default();
    let named = templates(set).zip(claim_names(set, ordinal));
    let claims = named.map(|(template, (_, name))| {
        let mut claim = template.clone();
        claim.metadata.name = Some(name);
        claim.metadata.namespace = set.metadata.namespace.clone();
        claim.metadata.labels.get_or_insert_default().extend(selected.clone());
        claim.status = None;
        claim
    });
    claims.collect()
}

/// The revision that a pod was made from.
pub(super) fn revision(pod: &Pod) -> &str {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION)).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{from_value, json};

    use super::*;

    fn set() -> StatefulSet {
        from_value(json!({ "metadata": { "name": "web", "namespace": "n" }, "spec": {
            "serviceName": "peers", "replicas": 2, "ordinals": { "start": 5 },
            "selector": { "matchLabels": { "app": "web" } }, "template": {},
            "volumeClaimTemplates": [{ "metadata": { "name": "data", "labels": { "x": "y" } }, "spec": {} }],
        } }))
        .unwrap()
    }

    #[test]
    fn a_pod_has_its_name_its_claims_and_its_peers() {
        let template = json!({ "metadata": { "labels": { "app": "web" } }, "spec": {
            "containers": [], "volumes": [{ "name": "data", "emptyDir": {} }, { "name": "tmp", "emptyDir": {} }] } });
        let pod = pod(&set(), &from_value(template).unwrap(), "web-1", 6);
        assert_eq!(ordinal(&set(), &pod), Some(6));
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("web-6"), Some("peers")));
        let volumes: Vec<_> = spec.volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
        assert_eq!(volumes, ["data", "tmp"]);
        assert!(has_storage(&set(), &pod, 6) && !has_storage(&set(), &pod, 7));
        assert_eq!(revision(&pod), "web-1");
        assert!(missing_labels(&pod, 6).is_empty());
        assert_eq!(pod.metadata.labels.unwrap()[POD_INDEX], "6");
    }

    #[test]
    fn a_claim_is_named_after_volume_and_pod() {
        let claims = claims(&set(), 5);
        assert_eq!(claims[0].metadata.name.as_deref(), Some("data-web-5"));
        let labels = claims[0].metadata.labels.clone().unwrap();
        assert_eq!((labels["x"].as_str(), labels["app"].as_str()), ("y", "web"));
        assert_eq!(ordinals(&set()), 5..7);
    }

    #[test]
    fn of_several_templates_with_one_name_the_last_counts() {
        let mut set = set();
        let templates = set.spec.as_mut().unwrap().volume_claim_templates.as_mut().unwrap();
        let mut again = templates[0].clone();
        again.metadata.labels = None;
        templates.push(again);
        let claims = claims(&set, 5);
        assert_eq!(claims.len(), 1);
        assert!(!claims[0].metadata.labels.as_ref().unwrap().contains_key("x"));
        assert_eq!(pod(&set, &PodTemplateSpec::default(), "r", 5).spec.unwrap().volumes.unwrap().len(), 1);
    }

    #[test]
    fn only_names_that_the_set_gives_have_ordinals() {
        for (name, expected) in [
            ("web-0", Some(0)),
            ("web-12", Some(12)),
            ("web", None),
            ("web-x", None),
            ("other-0", None),
            ("web-+1", None),
        ] {
            let pod: Pod = from_value(json!({ "metadata": { "name": name } })).unwrap();
            assert_eq!(ordinal(&set(), &pod), expected, "{name}");
        }
    }
}
