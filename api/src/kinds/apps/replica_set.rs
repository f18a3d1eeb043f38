//! ReplicaSets (upstream: `pkg/registry/apps/replicaset`).

use serde_json::Value;

use crate::kinds::kind::{Kind, Sub};
use crate::kinds::pods::workload::{self, REPLICAS};
use crate::kinds::pods::{defaults, gates};
use crate::kinds::rules::fill::{self, default_pointer};
use crate::kinds::rules::tree::{Errors, Node};
use crate::object::Object;
use crate::table::cell::Cell::{Age, Containers, Name, Number, SelectorOrNone};

pub(crate) const KIND: Kind = Kind {
    short_names: &["rs"],
    categories: &["all"],
    subresources: &[Sub::SCALE, Sub::STATUS],
    has_generation: true,
    cells: &[
        Name,
        Number(&["spec", "replicas"]),
        Number(&["status", "replicas"]),
        Number(&["status", "readyReplicas"]),
        Age,
        Containers(&["spec", "template", "spec"]),
        SelectorOrNone(&["spec", "selector"]),
    ],
    default,
    fill_status: Some(workload::fill_status),
    gated: gates::WORKLOAD,
    validate,
    validate_change: workload::selector_change,
    validate_status: workload::validate_status,
    warn: workload::warn,
    ..Kind::namespaced("replicasets", "ReplicaSet")
};

fn default(object: &mut Object) {
    let spec = fill::object(object.root_mut(), "spec");
    default_pointer(spec, "replicas", 1);
    default_pointer(spec, "selector", Value::Null);
    defaults::template(spec, "template");
}

fn validate(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    workload::non_negative(&spec, &["replicas", "minReadySeconds"], errors);
    workload::selector_and_template(&spec, &REPLICAS, errors);
}
