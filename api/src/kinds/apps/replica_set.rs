//! ReplicaSets (upstream: `pkg/registry/apps/replicaset`).

use serde_json::Value;

use crate::kinds::pods::defaults;
use crate::kinds::pods::workload::{self, REPLICAS};
use crate::kinds::rules::fill::{self, default_pointer};
use crate::kinds::rules::tree::{Errors, Node};
use crate::object::Object;

/// Defaults of a `ReplicaSet`.
pub(crate) fn default(object: &mut Object) {
    let spec = fill::object(object.root_mut(), "spec");
    default_pointer(spec, "replicas", 1);
    default_pointer(spec, "selector", Value::Null);
    defaults::template(spec, "template");
}

/// A `ReplicaSet`.
pub(crate) fn validate(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    workload::non_negative(&spec, &["replicas", "minReadySeconds"], errors);
    workload::selector_and_template(&spec, &REPLICAS, errors);
}
