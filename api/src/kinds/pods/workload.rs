//! Rules for the kinds that make pods: Deployments, ReplicaSets, StatefulSets, DaemonSets, ReplicationControllers.

use serde_json::{Value, json};

use super::spec;
use crate::kinds::core::persistent_volume_claim;
use crate::kinds::core::persistent_volume_claim::differs_beside;
use crate::kinds::rules::shown::Shown;
use crate::kinds::rules::tree::{Errors, IMMUTABLE, NOT_NEGATIVE, Node};
use crate::kinds::rules::{labels, naming};

const DOES_NOT_MATCH: &str = "`selector` does not match template `labels`";

/// How a kind of workload words what is wrong with its selector and template.
struct Wording {
    /// What the kind is called where its selector selects everything.
    empty: &'static str,
    /// What is said of a selector that is none. The template of such a one is not looked at.
    invalid: &'static str,
    /// Whose pods have no deadline.
    deadline: &'static str,
}

/// Deployments, and the ReplicaSets that they make.
const REPLICAS: Wording = Wording { empty: "deployment", invalid: "invalid label selector", deadline: "ReplicaSet" };
const STATEFUL_SET: Wording = Wording { empty: "statefulset", invalid: "", deadline: "StatefulSet" };

/// A selector that must be there, be valid, select something particular, and select the template's pods.
fn selector_and_template(spec: &Node<'_, '_>, wording: &Wording, errors: &mut Errors) {
    let (selector, template) = (spec.field("selector"), spec.field("template"));
    let mut is_valid = true;
    if selector.is_unset() {
        errors.required(&selector, "");
    } else {
        let before = errors.0.len();
        labels::selector(&selector, errors);
        is_valid = errors.0.len() == before;
        if labels::is_empty_selector(&selector) {
            errors.invalid_value(&selector, json!({}), &format!("empty selector is invalid for {}", wording.empty));
        }
    }
    let of_set = wording.empty == STATEFUL_SET.empty;
    if !is_valid {
        errors.invalid(&selector, wording.invalid);
    } else {
        let metadata = template.field("metadata");
        if !labels::is_empty_selector(&selector) || selector.is_unset() {
            matches_template(&selector, &metadata.field("labels"), errors);
        }
        if of_set {
            spec::template_with_claims(&template, &spec.field("volumeClaimTemplates"), errors);
        } else {
            spec::template(&template, errors);
        }
    }
    if is_valid || of_set {
        always_restarts(&template.field("spec"), wording.deadline, errors);
    }
}

/// Pods that are to be there run until they are deleted.
fn always_restarts(pods: &Node<'_, '_>, whose: &str, errors: &mut Errors) {
    let restart = pods.field("restartPolicy");
    if restart.text() != "Always" {
        errors.push(crate::FieldError::not_supported(&restart.path(), restart.text(), &["Always"]));
    }
    let deadline = pods.field("activeDeadlineSeconds");
    if deadline.is_set() {
        errors.forbidden(&deadline, &format!("activeDeadlineSeconds in {whose} is not Supported"));
    }
}

fn matches_template(selector: &Node<'_, '_>, labels: &Node<'_, '_>, errors: &mut Errors) {
    if !labels::selects(selector, labels.map()) {
        errors.invalid(labels, DOES_NOT_MATCH);
    }
}

fn non_negative(spec: &Node<'_, '_>, keys: &[&str], errors: &mut Errors) {
    for key in keys {
        errors.non_negative(&spec.field(key));
    }
}

/// A `Deployment`.
pub(crate) fn deployment(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    non_negative(&spec, &["replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"], errors);
    selector_and_template(&spec, &REPLICAS, errors);
    deployment_strategy(&spec.field("strategy"), errors);
    let deadline = spec.field("progressDeadlineSeconds");
    if deadline.integer().is_some_and(|seconds| seconds <= spec.field("minReadySeconds").number()) {
        errors.invalid(&deadline, "must be greater than minReadySeconds");
    }
}

fn deployment_strategy(strategy: &Node<'_, '_>, errors: &mut Errors) {
    let (kind, rolling) = (strategy.field("type"), strategy.field("rollingUpdate"));
    match kind.text() {
        "Recreate" => {
            if rolling.is_set() {
                errors.forbidden(&rolling, "may not be specified when strategy `type` is 'Recreate'");
            }
        }
        "RollingUpdate" => {
            if rolling.is_set() {
                rolling_update(&rolling, errors);
            } else {
                errors.required(&rolling, "this should be defaulted and never be nil");
            }
        }
        other => {
            let shown =
                Shown::nested(vec![("Type", Shown::Leaf(other.into())), ("RollingUpdate", surge_shown(&rolling))]);
            errors.not_supported_shown(strategy, &shown, &["Recreate", "RollingUpdate"]);
        }
    }
}

fn surge_shown(rolling: &Node<'_, '_>) -> Shown {
    if rolling.is_unset() {
        return Shown::Leaf(Value::Null);
    }
    Shown::fields([
        ("MaxUnavailable", rolling.field("maxUnavailable").shown()),
        ("MaxSurge", rolling.field("maxSurge").shown()),
    ])
}

fn rolling_update(rolling: &Node<'_, '_>, errors: &mut Errors) {
    let (unavailable, surge) = (rolling.field("maxUnavailable"), rolling.field("maxSurge"));
    labels::count_or_percent(&unavailable, errors);
    labels::count_or_percent(&surge, errors);
    if labels::amount(&unavailable) == 0 && labels::amount(&surge) == 0 && is_amount(&surge) && is_amount(&unavailable)
    {
        errors.invalid(&unavailable, "may not be 0 when `maxSurge` is 0");
    }
    labels::not_more_than_all(&unavailable, errors);
}

/// Whether a count or percentage is well-formed.
fn is_amount(at: &Node<'_, '_>) -> bool {
    at.value().is_none_or(|value| value.is_number() || value.as_str().is_some_and(naming::is_percent))
}

/// What may not change in a `Deployment` or `ReplicaSet`.
pub(crate) fn selector_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    errors.immutable(&new.field("spec").field("selector"), &old.field("spec").field("selector"));
}

/// A `ReplicaSet`.
pub(crate) fn replica_set(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    non_negative(&spec, &["replicas", "minReadySeconds"], errors);
    selector_and_template(&spec, &REPLICAS, errors);
}

/// A `ReplicationController`.
pub(crate) fn replication_controller(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    non_negative(&spec, &["replicas", "minReadySeconds"], errors);
    let (selector, template) = (spec.field("selector"), spec.field("template"));
    if selector.is_empty() {
        errors.required(&selector, "");
    }
    if template.is_unset() {
        errors.required(&template, "");
        return;
    }
    let metadata = template.field("metadata");
    let labels = metadata.field("labels");
    let selected = selector.entries().all(|(key, value)| labels.map().and_then(|map| map.get(key)) == value.value());
    if !selector.is_empty() && !selected {
        errors.invalid(&labels, DOES_NOT_MATCH);
    }
    spec::template(&template, errors);
    always_restarts(&template.field("spec"), "ReplicationController", errors);
}

/// A `DaemonSet`.
pub(crate) fn daemon_set(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    non_negative(&spec, &["minReadySeconds", "revisionHistoryLimit"], errors);
    let (selector, template) = (spec.field("selector"), spec.field("template"));
    let before = errors.0.len();
    labels::selector(&selector, errors);
    let is_valid = errors.0.len() == before;
    let metadata = template.field("metadata");
    let is_empty = labels::is_empty_selector(&selector);
    if is_valid && (!is_empty || selector.is_unset()) {
        matches_template(&selector, &metadata.field("labels"), errors);
    }
    if selector.is_set() && is_empty {
        errors.invalid_value(&selector, json!({}), "empty selector is invalid for daemonset");
    }
    spec::template(&template, errors);
    always_restarts(&template.field("spec"), "DaemonSet", errors);
    let strategy = spec.field("updateStrategy");
    let (kind, rolling) = (strategy.field("type"), strategy.field("rollingUpdate"));
    match kind.text() {
        "OnDelete" => {}
        "RollingUpdate" => {
            if rolling.is_unset() {
                errors.required(&rolling, "");
            } else {
                daemon_rolling_update(&rolling, errors);
            }
        }
        other => {
            let shown =
                Shown::nested(vec![("Type", Shown::Leaf(other.into())), ("RollingUpdate", surge_shown(&rolling))]);
            errors.not_supported_shown(&strategy, &shown, &["RollingUpdate", "OnDelete"]);
        }
    }
}

fn daemon_rolling_update(rolling: &Node<'_, '_>, errors: &mut Errors) {
    let (unavailable, surge) = (rolling.field("maxUnavailable"), rolling.field("maxSurge"));
    let before = errors.0.len();
    for at in [&unavailable, &surge] {
        labels::count_or_percent(at, errors);
        labels::not_more_than_all(at, errors);
    }
    if errors.0.len() > before {
        return;
    }
    match (labels::amount(&unavailable) != 0, labels::amount(&surge) != 0) {
        (true, true) => errors.invalid(&surge, "may not be set when maxUnavailable is non-zero"),
        (false, false) => errors.required(&unavailable, "cannot be 0 when maxSurge is 0"),
        _ => {}
    }
}

/// A `StatefulSet`.
pub(crate) fn stateful_set(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    let policy = spec.field("podManagementPolicy");
    match policy.text() {
        "" => errors.required(&policy, ""),
        "OrderedReady" | "Parallel" => {}
        _ => errors.invalid(&policy, "must be 'OrderedReady' or 'Parallel'"),
    }
    stateful_strategy(&spec.field("updateStrategy"), errors);
    let retention = spec.field("persistentVolumeClaimRetentionPolicy");
    for key in ["whenDeleted", "whenScaled"] {
        errors.none_or_one_of(&retention.field(key), &["Retain", "Delete"]);
    }
    for claim in spec.field("volumeClaimTemplates").items() {
        persistent_volume_claim::claim_spec(&claim.field("spec"), errors);
    }
    non_negative(&spec, &["replicas", "minReadySeconds"], errors);
    let start = spec.field("ordinals");
    if start.field("start").integer().is_some_and(|start| start < 0) {
        errors.invalid(&start.field("start"), NOT_NEGATIVE);
    }
    selector_and_template(&spec, &STATEFUL_SET, errors);
    let service = spec.field("serviceName");
    if !service.text().is_empty() {
        errors.invalid_all(&service, naming::label(service.text()));
    }
}

fn stateful_strategy(strategy: &Node<'_, '_>, errors: &mut Errors) {
    let (kind, rolling) = (strategy.field("type"), strategy.field("rollingUpdate"));
    let shown = || {
        Shown::fields([
            ("Partition", rolling.field("partition").shown()),
            ("MaxUnavailable", rolling.field("maxUnavailable").shown()),
        ])
    };
    match kind.text() {
        "" => errors.required(strategy, ""),
        "OnDelete" => {
            if rolling.is_set() {
                errors.invalid_shown(&rolling, &shown(), "only allowed for updateStrategy 'RollingUpdate'");
            }
        }
        "RollingUpdate" => {
            errors.non_negative(&rolling.field("partition"));
            let unavailable = rolling.field("maxUnavailable");
            if unavailable.is_set() {
                labels::count_or_percent(&unavailable, errors);
                labels::not_more_than_all(&unavailable, errors);
                if is_amount(&unavailable) && labels::amount(&unavailable) == 0 {
                    errors.invalid(&unavailable, "cannot be 0");
                }
            }
        }
        other => {
            let rolling = if rolling.is_set() { shown() } else { Shown::Leaf(Value::Null) };
            let shown = Shown::nested(vec![("Type", Shown::Leaf(other.into())), ("RollingUpdate", rolling)]);
            errors.invalid_shown(strategy, &shown, "must be 'RollingUpdate' or 'OnDelete'");
        }
    }
}

/// What may not change in a `StatefulSet`.
pub(crate) fn stateful_set_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    const MAY_CHANGE: [&str; 7] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let (new, old) = (new.field("spec"), old.field("spec"));
    if differs_beside(&new, &old, &MAY_CHANGE) {
        errors.forbidden(
            &new,
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
             'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        );
    }
}

/// A `ControllerRevision`.
pub(crate) fn controller_revision(object: &Node<'_, '_>, errors: &mut Errors) {
    let (revision, data) = (object.field("revision"), object.field("data"));
    if revision.number() < 0 {
        errors.invalid(&revision, NOT_NEGATIVE);
    }
    if data.is_unset() {
        errors.required(&data, "data is mandatory");
    }
}

/// The data of a revision never changes.
pub(crate) fn controller_revision_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new, old) = (new.field("data"), old.field("data"));
    if new.value() != old.value() {
        errors.invalid(&new, IMMUTABLE);
    }
}

/// A `PodTemplate`.
pub(crate) fn pod_template(object: &Node<'_, '_>, errors: &mut Errors) {
    spec::template(&object.field("template"), errors);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::workloads;

    /// A valid set with one claim, `data`, mounted.
    fn set() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s", "namespace": "n"},
            "spec": {
                "selector": {"matchLabels": {"a": "b"}}, "serviceName": "s",
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
                    "containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}],
                }},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
                    "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
                }}],
            },
        })
    }

    fn wrong(set: Value) -> Vec<String> {
        let mut set = crate::Object::from_value(set).unwrap();
        workloads::stateful_set(&mut set);
        let mut errors = Errors::default();
        stateful_set(&Node::root(set.root()), &mut errors);
        errors.0.iter().map(ToString::to_string).collect()
    }

    /// Changes the value at a JSON pointer whose parent is there.
    fn with(pointer: &str, value: Value) -> Value {
        let mut set = set();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        set.pointer_mut(parent).unwrap()[key] = value;
        set
    }

    #[test]
    fn claims_are_volumes_that_may_be_mounted() {
        assert_eq!(wrong(set()), [""; 0]);
        let other = with("/spec/template/spec/containers/0/volumeMounts/0/name", json!("other"));
        assert_eq!(wrong(other), ["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"other\""]);
    }

    #[test]
    fn a_claim_takes_the_place_of_a_volume_of_its_name() {
        let volumes = json!([{"name": "data", "emptyDir": {}}, {"name": "more", "emptyDir": {}}]);
        assert_eq!(wrong(with("/spec/template/spec/volumes", volumes)), [""; 0]);
        let twice = json!([{"name": "more", "emptyDir": {}}, {"name": "more", "emptyDir": {}}]);
        let wrong = wrong(with("/spec/template/spec/volumes", twice));
        assert_eq!(wrong, ["spec.template.spec.volumes[1].name: Duplicate value: \"more\""]);
    }

    #[test]
    fn a_claim_may_be_a_block_device() {
        let mut set = with("/spec/template/spec/containers/0/volumeMounts", json!([]));
        set["spec"]["template"]["spec"]["containers"][0]["volumeDevices"] =
            json!([{"name": "data", "devicePath": "/dev/d"}]);
        assert_eq!(wrong(set), [""; 0]);
    }

    #[test]
    fn two_claims_of_one_name_are_one_volume() {
        let mut set = set();
        let claim = set["spec"]["volumeClaimTemplates"][0].clone();
        set["spec"]["volumeClaimTemplates"].as_array_mut().unwrap().push(claim);
        assert_eq!(wrong(set), [""; 0]);
    }

    #[test]
    fn claims_must_be_right_themselves() {
        assert_eq!(
            wrong(with("/spec/volumeClaimTemplates/0/spec", json!({}))),
            [
                "spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required",
                "spec.volumeClaimTemplates[0].spec.resources[storage]: Required value",
            ]
        );
        let named = with("/spec/volumeClaimTemplates/0/metadata/name", json!("Da_ta"));
        let wrong = wrong(named);
        assert!(wrong[0].starts_with("spec.template.spec.volumes[0].name: Invalid value: \"Da_ta\""), "{wrong:?}");
    }

    #[test]
    fn a_set_names_its_pods_itself() {
        for key in ["hostname", "subdomain"] {
            assert_eq!(wrong(with(&format!("/spec/template/spec/{key}"), json!("No_Name"))), [""; 0]);
        }
    }
}
