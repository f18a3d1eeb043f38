//! StatefulSets (upstream: `pkg/registry/apps/statefulset`).

use serde_json::Value;

use crate::kinds::kind::{Kind, Sub};
use crate::kinds::pods::volumes::claim_spec;
use crate::kinds::pods::workload::{self, STATEFUL_SET};
use crate::kinds::pods::{defaults, gates, warn};
use crate::kinds::rules::fill::{self, default_pointer, default_zero, each, is_zero, object_at};
use crate::kinds::rules::shown::Shown;
use crate::kinds::rules::tree::{Errors, Fields, NOT_NEGATIVE, Node, differs_beside};
use crate::kinds::rules::{naming, numbers};
use crate::object::Object;
use crate::table::cell::Cell::{Age, By, Containers, Name};

pub(crate) const KIND: Kind = Kind {
    short_names: &["sts"],
    categories: &["all"],
    subresources: &[Sub::SCALE, Sub::STATUS],
    has_generation: true,
    cells: &[Name, By(workload::ready_of_desired), Age, Containers(&["spec", "template", "spec"])],
    default,
    fill_status: Some(fill_status),
    gated: gates::STATEFUL_SET,
    validate,
    validate_change,
    validate_status,
    validate_name: naming::label_name,
    warn,
    ..Kind::namespaced("statefulsets", "StatefulSet")
};

fn default(object: &mut Object) {
    let spec = fill::object(object.root_mut(), "spec");
    default_pointer(spec, "replicas", 1);
    default_pointer(spec, "selector", Value::Null);
    default_pointer(spec, "serviceName", "");
    defaults::template(spec, "template");
    default_zero(spec, "podManagementPolicy", "OrderedReady");
    let strategy = fill::object(spec, "updateStrategy");
    if is_zero(strategy, "type") {
        strategy.insert("type".to_owned(), "RollingUpdate".into());
        fill::object(strategy, "rollingUpdate");
    }
    if strategy["type"] == "RollingUpdate"
        && let Some(rolling) = object_at(strategy, "rollingUpdate")
    {
        default_pointer(rolling, "partition", 0);
    }
    let retention = fill::object(spec, "persistentVolumeClaimRetentionPolicy");
    default_zero(retention, "whenDeleted", "Retain");
    default_zero(retention, "whenScaled", "Retain");
    default_pointer(spec, "revisionHistoryLimit", 10);
    each(spec, "volumeClaimTemplates", |claim| {
        default_zero(claim, "apiVersion", "v1");
        default_zero(claim, "kind", "PersistentVolumeClaim");
        claim_spec::default_claim(claim);
    });
}

/// As [`workload::fill_status`], for StatefulSets.
fn fill_status(status: &mut Fields) {
    default_pointer(status, "replicas", 0);
    default_pointer(status, "availableReplicas", 0);
}

fn validate(object: &Node<'_, '_>, errors: &mut Errors) {
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
        claim_spec::validate(&claim.field("spec"), errors);
    }
    workload::non_negative(&spec, &["replicas", "minReadySeconds"], errors);
    let start = spec.field("ordinals");
    if start.field("start").integer().is_some_and(|start| start < 0) {
        errors.invalid(&start.field("start"), NOT_NEGATIVE);
    }
    workload::selector_and_template(&spec, &STATEFUL_SET, errors);
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
                numbers::count_or_percent(&unavailable, errors);
                numbers::not_more_than_all(&unavailable, errors);
                if workload::is_amount(&unavailable) && numbers::amount(&unavailable) == 0 {
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
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
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

fn validate_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    let status = new.field("status");
    workload::counts(
        &status,
        &[
            "replicas",
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
            "observedGeneration",
            "collisionCount",
        ],
        errors,
    );
    workload::parts(&status, &["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"], errors);
    let available = status.field("availableReplicas");
    if available.number() > status.field("readyReplicas").number() {
        errors.invalid(&available, "cannot be greater than status.readyReplicas");
    }
}

/// A `StatefulSet`, whose name is held to be that of a host anyway.
fn warn(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    let spec = new.field("spec");
    if warn::is_news(new, old) {
        warn::all(&spec.field("template"), true, texts);
    }
    for claim in spec.field("volumeClaimTemplates").items() {
        // Upstream's paths leave the claim's spec out of new sets, and write it large in changed ones.
        let place = if old.is_none() { claim.path() } else { claim.path().child("Spec") };
        claim_spec::warn(&Node::at(&place, claim.field("spec").value()), texts);
    }
    let history = spec.field("revisionHistoryLimit");
    if history.number() < 0 {
        texts.push(format!(
            "{}: a negative value retains all historical revisions; a value >= 0 is recommended",
            history.path()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
        default(&mut set);
        let mut errors = Errors::default();
        validate(&Node::root(set.root()), &mut errors);
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
