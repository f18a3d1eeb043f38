//! DaemonSets (upstream: `pkg/registry/apps/daemonset`).

use serde_json::{Value, json};

use crate::kinds::kind::{Kind, Sub};
use crate::kinds::pods::warn::{self, PODS_AND_HOSTS};
use crate::kinds::pods::{defaults, gates, spec, workload};
use crate::kinds::rules::fill::{self, default_pointer, default_zero, object};
use crate::kinds::rules::shown::Shown;
use crate::kinds::rules::tree::{Errors, Fields, Node};
use crate::kinds::rules::{labels, numbers};
use crate::object::Object;
use crate::strategy::WriteContext;
use crate::table::cell::Cell::{Age, Containers, Labels, Name, Number, SelectorOrNone};

pub(crate) const KIND: Kind = Kind {
    short_names: &["ds"],
    categories: &["all"],
    subresources: &[Sub::STATUS],
    has_generation: true,
    cells: &[
        Name,
        Number(&["status", "desiredNumberScheduled"]),
        Number(&["status", "currentNumberScheduled"]),
        Number(&["status", "numberReady"]),
        Number(&["status", "updatedNumberScheduled"]),
        Number(&["status", "numberAvailable"]),
        Labels(&["spec", "template", "spec", "nodeSelector"]),
        Age,
        Containers(&["spec", "template", "spec"]),
        SelectorOrNone(&["spec", "selector"]),
    ],
    default,
    fill_status: Some(fill_status),
    gated: gates::WORKLOAD,
    prepare_create,
    prepare_update,
    validate,
    validate_change: workload::selector_change,
    validate_status,
    warn,
    fields_as_annotations: &[TEMPLATE_GENERATION],
    ..Kind::namespaced("daemonsets", "DaemonSet")
};

/// Counts generations of a DaemonSet's template, for clients of long ago.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn default(object: &mut Object) {
    let spec = fill::object(object.root_mut(), "spec");
    default_pointer(spec, "selector", Value::Null);
    defaults::template(spec, "template");
    let strategy = fill::object(spec, "updateStrategy");
    default_zero(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        let rolling = fill::object(strategy, "rollingUpdate");
        default_pointer(rolling, "maxUnavailable", 1);
        default_pointer(rolling, "maxSurge", 0);
    }
    default_pointer(spec, "revisionHistoryLimit", 10);
    // Whoever writes a set owns this, too: it is there before owners are counted.
    let annotations = fill::object(object.metadata_mut(), "annotations");
    default_pointer(annotations, TEMPLATE_GENERATION, "0");
}

/// As [`workload::fill_status`], for DaemonSets.
fn fill_status(status: &mut Fields) {
    for count in ["currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"] {
        default_pointer(status, count, 0);
    }
}

/// A new DaemonSet starts with the first generation of its template.
fn prepare_create(_ctx: &WriteContext<'_>, new: &mut Object) {
    set_template_generation(new, 1);
}

/// Counts the template's generation, which the client cannot set.
fn prepare_update(_ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
    let counted = old.annotation(TEMPLATE_GENERATION).and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    let changed = new.get(&["spec", "template"]) != old.get(&["spec", "template"]);
    set_template_generation(new, if changed { counted + 1 } else { counted });
}

fn set_template_generation(new: &mut Object, generation: i64) {
    object(new.metadata_mut(), "annotations").insert(TEMPLATE_GENERATION.to_owned(), generation.to_string().into());
}

fn validate(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    workload::non_negative(&spec, &["minReadySeconds", "revisionHistoryLimit"], errors);
    let (selector, template) = (spec.field("selector"), spec.field("template"));
    let before = errors.0.len();
    labels::selector(&selector, errors);
    let is_valid = errors.0.len() == before;
    let metadata = template.field("metadata");
    let is_empty = labels::is_empty_selector(&selector);
    if is_valid && (!is_empty || selector.is_unset()) {
        workload::matches_template(&selector, &metadata.field("labels"), errors);
    }
    if selector.is_set() && is_empty {
        errors.invalid_value(&selector, json!({}), "empty selector is invalid for daemonset");
    }
    spec::template(&template, errors);
    workload::always_restarts(&template.field("spec"), "DaemonSet", errors);
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
            let shown = Shown::nested(vec![
                ("Type", Shown::Leaf(other.into())),
                ("RollingUpdate", workload::surge_shown(&rolling)),
            ]);
            errors.not_supported_shown(&strategy, &shown, &["RollingUpdate", "OnDelete"]);
        }
    }
}

fn daemon_rolling_update(rolling: &Node<'_, '_>, errors: &mut Errors) {
    let (unavailable, surge) = (rolling.field("maxUnavailable"), rolling.field("maxSurge"));
    let before = errors.0.len();
    for at in [&unavailable, &surge] {
        numbers::count_or_percent(at, errors);
        numbers::not_more_than_all(at, errors);
    }
    if errors.0.len() > before {
        return;
    }
    match (numbers::amount(&unavailable) != 0, numbers::amount(&surge) != 0) {
        (true, true) => errors.invalid(&surge, "may not be set when maxUnavailable is non-zero"),
        (false, false) => errors.required(&unavailable, "cannot be 0 when maxSurge is 0"),
        _ => {}
    }
}

fn validate_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    workload::counts(
        &new.field("status"),
        &[
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ],
        errors,
    );
}

/// A `DaemonSet`, which counts the changes of its template.
fn warn(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    let counted = |set: &Node<'_, '_>| -> Option<String> {
        let metadata = set.field("metadata");
        let annotations = metadata.field("annotations");
        Some(annotations.map()?.get(TEMPLATE_GENERATION)?.as_str()?.to_owned())
    };
    if old.is_none_or(|old| counted(old) != counted(new)) {
        if old.is_none() {
            warn::pod_name(&new.field("metadata"), PODS_AND_HOSTS, texts);
        }
        warn::all(&new.field("spec").field("template"), true, texts);
    }
}
