//! ReplicationControllers (upstream: `pkg/registry/core/replicationcontroller`).

use serde_json::json;

use crate::kinds::kind::{Kind, Sub, field};
use crate::kinds::pods::workload::{self, DOES_NOT_MATCH};
use crate::kinds::pods::{defaults, gates, spec};
use crate::kinds::rules::fill::{self, default_pointer, default_zero};
use crate::kinds::rules::tree::{Errors, Node};
use crate::object::Object;
use crate::table::cell::Cell::{Age, Containers, Labels, Name, Number};

pub(crate) const KIND: Kind = Kind {
    short_names: &["rc"],
    categories: &["all"],
    subresources: &[Sub::SCALE, Sub::STATUS],
    has_generation: true,
    prefix: Some("controllers"),
    fields: &[field("status.replicas").or("0")],
    cells: &[
        Name,
        Number(&["spec", "replicas"]),
        Number(&["status", "replicas"]),
        Number(&["status", "readyReplicas"]),
        Age,
        Containers(&["spec", "template", "spec"]),
        Labels(&["spec", "selector"]),
    ],
    default,
    fill_status: Some(workload::fill_status),
    gated: gates::WORKLOAD,
    validate,
    validate_status: workload::validate_status,
    warn: workload::warn,
    orphans: true,
    ..Kind::namespaced("replicationcontrollers", "ReplicationController")
};

/// Defaults of a `ReplicationController`, whose labels and selector follow its template's labels.
fn default(object: &mut Object) {
    let labels = object.get(&["spec", "template", "metadata", "labels"]).filter(|l| l.is_object()).cloned();
    if let Some(labels) = labels.filter(|labels| labels != &json!({})) {
        default_zero(object.metadata_mut(), "labels", labels.clone());
        default_zero(fill::object(object.root_mut(), "spec"), "selector", labels);
    }
    let spec = fill::object(object.root_mut(), "spec");
    default_pointer(spec, "replicas", 1);
    defaults::optional_template(spec, "template");
}

fn validate(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    workload::non_negative(&spec, &["replicas", "minReadySeconds"], errors);
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
    workload::always_restarts(&template.field("spec"), "ReplicationController", errors);
}
