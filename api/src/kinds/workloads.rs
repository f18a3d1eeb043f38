//! Deployments, ReplicaSets, StatefulSets, DaemonSets and ReplicationControllers: defaults and preparation.

use serde_json::{Value, json};

use super::pods::defaults;
use super::rules::tree;
use super::volume_claims;
use crate::kinds::rules::tree::{Fields, default_pointer, default_zero, each, is_zero, object, object_at};
use crate::object::Object;
use crate::strategy::{WriteContext, content_changed};

/// Counts generations of a DaemonSet's template, for clients of long ago.
pub(crate) const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// Defaults of a `Deployment`.
pub(crate) fn deployment(object: &mut Object) {
    let spec = tree::object(object.root_mut(), "spec");
    default_pointer(spec, "replicas", 1);
    default_pointer(spec, "selector", Value::Null);
    defaults::template(spec, "template");
    let strategy = tree::object(spec, "strategy");
    default_zero(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        let rolling = tree::object(strategy, "rollingUpdate");
        default_pointer(rolling, "maxUnavailable", "25%");
        default_pointer(rolling, "maxSurge", "25%");
    }
    default_pointer(spec, "revisionHistoryLimit", 10);
    default_pointer(spec, "progressDeadlineSeconds", 600);
}

/// Defaults of a `ReplicaSet`.
pub(crate) fn replica_set(object: &mut Object) {
    let spec = tree::object(object.root_mut(), "spec");
    default_pointer(spec, "replicas", 1);
    default_pointer(spec, "selector", Value::Null);
    defaults::template(spec, "template");
}

/// Defaults of a `StatefulSet`.
pub(crate) fn stateful_set(object: &mut Object) {
    let spec = tree::object(object.root_mut(), "spec");
    default_pointer(spec, "replicas", 1);
    default_pointer(spec, "selector", Value::Null);
    default_pointer(spec, "serviceName", "");
    defaults::template(spec, "template");
    default_zero(spec, "podManagementPolicy", "OrderedReady");
    let strategy = tree::object(spec, "updateStrategy");
    if is_zero(strategy, "type") {
        strategy.insert("type".to_owned(), "RollingUpdate".into());
        tree::object(strategy, "rollingUpdate");
    }
    if strategy["type"] == "RollingUpdate"
        && let Some(rolling) = object_at(strategy, "rollingUpdate")
    {
        default_pointer(rolling, "partition", 0);
    }
    let retention = tree::object(spec, "persistentVolumeClaimRetentionPolicy");
    default_zero(retention, "whenDeleted", "Retain");
    default_zero(retention, "whenScaled", "Retain");
    default_pointer(spec, "revisionHistoryLimit", 10);
    each(spec, "volumeClaimTemplates", |claim| {
        default_zero(claim, "apiVersion", "v1");
        default_zero(claim, "kind", "PersistentVolumeClaim");
        volume_claims::default_claim(claim);
    });
}

/// Defaults of a `DaemonSet`.
pub(crate) fn daemon_set(object: &mut Object) {
    let spec = tree::object(object.root_mut(), "spec");
    default_pointer(spec, "selector", Value::Null);
    defaults::template(spec, "template");
    let strategy = tree::object(spec, "updateStrategy");
    default_zero(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        let rolling = tree::object(strategy, "rollingUpdate");
        default_pointer(rolling, "maxUnavailable", 1);
        default_pointer(rolling, "maxSurge", 0);
    }
    default_pointer(spec, "revisionHistoryLimit", 10);
    // Whoever writes a set owns this, too: it is there before owners are counted.
    let annotations = tree::object(object.metadata_mut(), "annotations");
    default_pointer(annotations, TEMPLATE_GENERATION, "0");
}

/// Annotations of a `Deployment` travel to its ReplicaSets, so that a change of them is one for its controller.
pub(crate) fn deployment_is_new_generation(new: &Object, old: &Object) -> bool {
    let annotations = ["metadata", "annotations"];
    content_changed(new, old) || new.get(&annotations) != old.get(&annotations)
}

/// Defaults of a `ReplicationController`, whose labels and selector follow its template's labels.
pub(crate) fn replication_controller(object: &mut Object) {
    let labels = object.get(&["spec", "template", "metadata", "labels"]).filter(|l| l.is_object()).cloned();
    if let Some(labels) = labels.filter(|labels| labels != &json!({})) {
        default_zero(object.metadata_mut(), "labels", labels.clone());
        default_zero(tree::object(object.root_mut(), "spec"), "selector", labels);
    }
    let spec = tree::object(object.root_mut(), "spec");
    default_pointer(spec, "replicas", 1);
    defaults::optional_template(spec, "template");
}

/// Defaults of a `ControllerRevision`, whose revision is always shown.
pub(crate) fn controller_revision(object: &mut Object) {
    default_pointer(object.root_mut(), "revision", 0);
}

/// What a status says before any controller has written it.
pub(crate) fn replica_status(status: &mut Fields) {
    default_pointer(status, "replicas", 0);
}

/// As [`replica_status`], for StatefulSets.
pub(crate) fn stateful_set_status(status: &mut Fields) {
    default_pointer(status, "replicas", 0);
    default_pointer(status, "availableReplicas", 0);
}

/// As [`replica_status`], for DaemonSets.
pub(crate) fn daemon_set_status(status: &mut Fields) {
    for count in ["currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"] {
        default_pointer(status, count, 0);
    }
}

/// A new DaemonSet starts with the first generation of its template.
pub(crate) fn prepare_daemon_set(_ctx: &WriteContext<'_>, new: &mut Object) {
    set_template_generation(new, 1);
}

/// Counts the template's generation, which the client cannot set.
pub(crate) fn prepare_daemon_set_update(_ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
    let counted = old.annotation(TEMPLATE_GENERATION).and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    let changed = new.get(&["spec", "template"]) != old.get(&["spec", "template"]);
    set_template_generation(new, if changed { counted + 1 } else { counted });
}

fn set_template_generation(new: &mut Object, generation: i64) {
    object(new.metadata_mut(), "annotations").insert(TEMPLATE_GENERATION.to_owned(), generation.to_string().into());
}
