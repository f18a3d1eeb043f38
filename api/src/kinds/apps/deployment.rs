//! Deployments (upstream: `pkg/registry/apps/deployment`).

use serde_json::Value;

use crate::kinds::kind::{Kind, Sub};
use crate::kinds::pods::workload::{self, REPLICAS};
use crate::kinds::pods::{defaults, gates};
use crate::kinds::rules::fill::{self, default_pointer, default_zero};
use crate::kinds::rules::shown::Shown;
use crate::kinds::rules::tree::{Errors, Node};
use crate::object::Object;
use crate::strategy::content_changed;
use crate::table::cell::Cell::{Age, By, Containers, Name, Number, Selector};

pub(crate) const KIND: Kind = Kind {
    short_names: &["deploy"],
    categories: &["all"],
    subresources: &[Sub::SCALE, Sub::STATUS],
    has_generation: true,
    cells: &[
        Name,
        By(workload::ready_of_desired),
        Number(&["status", "updatedReplicas"]),
        Number(&["status", "availableReplicas"]),
        Age,
        Containers(&["spec", "template", "spec"]),
        Selector(&["spec", "selector"]),
    ],
    default,
    fill_status: Some(|_| {}),
    gated: gates::WORKLOAD,
    validate,
    validate_change: workload::selector_change,
    validate_status,
    warn: workload::warn,
    status_metadata: &["annotations", "finalizers", "ownerReferences"],
    is_new_generation,
    ..Kind::namespaced("deployments", "Deployment")
};

fn default(object: &mut Object) {
    let spec = fill::object(object.root_mut(), "spec");
    default_pointer(spec, "replicas", 1);
    default_pointer(spec, "selector", Value::Null);
    defaults::template(spec, "template");
    let strategy = fill::object(spec, "strategy");
    default_zero(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        let rolling = fill::object(strategy, "rollingUpdate");
        default_pointer(rolling, "maxUnavailable", "25%");
        default_pointer(rolling, "maxSurge", "25%");
    }
    default_pointer(spec, "revisionHistoryLimit", 10);
    default_pointer(spec, "progressDeadlineSeconds", 600);
}

/// Annotations of a `Deployment` travel to its ReplicaSets, so that a change of them is one for its controller.
fn is_new_generation(new: &Object, old: &Object) -> bool {
    let annotations = ["metadata", "annotations"];
    content_changed(new, old) || new.get(&annotations) != old.get(&annotations)
}

fn validate(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    workload::non_negative(
        &spec,
        &["replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"],
        errors,
    );
    workload::selector_and_template(&spec, &REPLICAS, errors);
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
                workload::rolling_update(&rolling, errors);
            } else {
                errors.required(&rolling, "this should be defaulted and never be nil");
            }
        }
        other => {
            let shown = Shown::nested(vec![
                ("Type", Shown::Leaf(other.into())),
                ("RollingUpdate", workload::surge_shown(&rolling)),
            ]);
            errors.not_supported_shown(strategy, &shown, &["Recreate", "RollingUpdate"]);
        }
    }
}

fn validate_status(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let status = new.field("status");
    workload::counts(
        &status,
        &[
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ],
        errors,
    );
    workload::parts(&status, &["updatedReplicas", "readyReplicas", "availableReplicas"], errors);
    workload::available_are_ready(&status, errors);
    let (now, then) = (status.field("collisionCount"), old.field("status"));
    if now.number() < then.field("collisionCount").number() {
        errors.invalid_value(&now, now.number(), "cannot be decremented");
    }
}
