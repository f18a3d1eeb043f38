//! HorizontalPodAutoscalers, as of `autoscaling/v2` (upstream: `pkg/registry/autoscaling/horizontalpodautoscaler`).

use serde_json::{Value, json};

use crate::catalog::convert::autoscaling::v1_to_v2;
use crate::kinds::kind::{Kind, Sub};
use crate::kinds::pods::workload;
use crate::kinds::rules::fill::{self, default_pointer, is_unset, is_zero, object_at};
use crate::kinds::rules::tree::{self, Errors, Node};
use crate::kinds::rules::{naming, quantities};
use crate::object::Object;
use crate::table::cell::Cell::{Age, By, Name, Number, Plain};
use crate::table::cell::{NONE, UNSET, list, or, plain, text};

pub(crate) const KIND: Kind = Kind {
    short_names: &["hpa"],
    categories: &["all"],
    subresources: &[Sub::STATUS],
    cells: &[
        Name,
        By(target),
        By(metrics),
        Plain(&["spec", "minReplicas"], UNSET),
        Number(&["spec", "maxReplicas"]),
        Number(&["status", "currentReplicas"]),
        Age,
    ],
    default,
    fill_status: Some(fill_status),
    validate,
    validate_status,
    ..Kind::namespaced("horizontalpodautoscalers", "HorizontalPodAutoscaler")
};

/// Defaults of a `HorizontalPodAutoscaler` (autoscaling/v2).
fn default(object: &mut Object) {
    let spec = fill::object(object.root_mut(), "spec");
    default_pointer(spec, "minReplicas", 1);
    if is_zero(spec, "metrics") {
        let metric = json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
        spec.insert("metrics".to_owned(), metric);
    }
    let Some(behavior) = object_at(spec, "behavior") else { return };
    // Whoever says something of one direction gets the whole of the other.
    let up = fill::object(behavior, "scaleUp");
    default_pointer(up, "stabilizationWindowSeconds", 0);
    default_pointer(up, "selectPolicy", "Max");
    if is_unset(up, "policies") {
        up.insert("policies".to_owned(), json!([
            {"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15},
        ]));
    }
    let down = fill::object(behavior, "scaleDown");
    default_pointer(down, "selectPolicy", "Max");
    if is_unset(down, "policies") {
        down.insert("policies".to_owned(), json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]));
    }
}

/// The parts of an autoscaler's status that are always shown.
fn fill_status(status: &mut tree::Fields) {
    default_pointer(status, "desiredReplicas", 0);
    default_pointer(status, "currentMetrics", Value::Null);
}

fn validate(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    let (least, most, metrics) = (spec.field("minReplicas"), spec.field("maxReplicas"), spec.field("metrics"));
    let scales_to_zero = metrics.list().iter().any(|m| matches!(m["type"].as_str(), Some("Object" | "External")));
    if least.integer().is_some_and(|n| n < 1) {
        errors.invalid(&least, "must be greater than or equal to 1");
    }
    if most.number() < 1 {
        errors.required(&most, "must be set and greater than 0");
    }
    if least.integer().is_some_and(|n| most.number() < n) {
        errors.invalid_value(&most, most.number(), "must be greater than or equal to `minReplicas`");
    }
    scale_target(&spec.field("scaleTargetRef"), errors);
    for metric in metrics.items() {
        metric_source(&metric, errors);
    }
    if least.integer() == Some(0) && !scales_to_zero {
        errors.forbidden(
            &metrics,
            "must specify at least one Object or External metric to support scaling to zero replicas",
        );
    }
    let behavior = spec.field("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        scaling_rules(&behavior.field(direction), errors);
    }
}

fn scale_target(at: &Node<'_, '_>, errors: &mut Errors) {
    let (kind, name, version) = (at.field("kind"), at.field("name"), at.field("apiVersion"));
    for field in [&kind, &name] {
        if errors.require_text(field) {
            errors.invalid_all(field, naming::path_segment_name(field.text(), false));
        }
    }
    let grouped = version.text().split_once('/').is_some_and(|(group, _)| !group.is_empty());
    let core = matches!((kind.text(), version.text()), ("ReplicationController", "v1" | ""));
    if version.text().matches('/').count() > 1 {
        errors.invalid(&version, &format!("unexpected GroupVersion string: {}", version.text()));
    } else if !grouped && !core {
        errors.invalid_value(&version, version.text(), "apiVersion must specify API group");
    }
}

const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];

fn metric_source(metric: &Node<'_, '_>, errors: &mut Errors) {
    let kind = metric.field("type");
    if kind.text().is_empty() {
        errors.required(&kind, "must specify a metric source type");
    }
    let expected = SOURCES.iter().find(|(name, _)| *name == kind.text()).map(|(_, field)| *field);
    if expected.is_none() {
        // Upstream says so twice.
        for _ in 0..2 {
            errors.one_of(&kind, &["ContainerResource", "External", "Object", "Pods", "Resource"]);
        }
    }
    let given: Vec<&str> =
        SOURCES.iter().map(|(_, field)| *field).filter(|field| metric.field(field).is_set()).collect();
    if let Some(first) = given.first() {
        one_source(first, &metric.field(first), errors);
    }
    if let Some(missing) = expected.filter(|field| !given.contains(field)) {
        errors.required(&metric.field(missing), "must populate information for the given metric source");
    }
    for other in given.iter().filter(|field| given.len() > 1 && Some(**field) != expected) {
        errors.forbidden(&metric.field(other), "must populate the given metric source only");
    }
}

fn one_source(kind: &str, source: &Node<'_, '_>, errors: &mut Errors) {
    let target = source.field("target");
    metric_target(&target, errors);
    let (value, average, percent) =
        (target.field("value"), target.field("averageValue"), target.field("averageUtilization"));
    match kind {
        "object" => {
            scale_target(&source.field("describedObject"), errors);
            metric_name(&source.field("metric"), errors);
            if value.is_unset() && average.is_unset() {
                errors.required(&average, "must set either a target value or averageValue");
            }
        }
        "external" => {
            metric_name(&source.field("metric"), errors);
            match (value.is_set(), average.is_set()) {
                (false, false) => {
                    errors.required(&average, "must set either a target value for metric or a per-pod target");
                }
                (true, true) => {
                    errors.forbidden(&value, "may not set both a target value for metric and a per-pod target");
                }
                _ => {}
            }
        }
        "pods" => {
            metric_name(&source.field("metric"), errors);
            if quantities::parse(&average).is_none_or(|quantity| quantity.signum() != 1) {
                errors.required(&average, "must specify a positive target averageValue");
            }
        }
        _ => {
            if source.field("name").text().is_empty() {
                errors.required(&source.field("name"), "must specify a resource name");
            }
            if kind == "containerResource" && source.field("container").text().is_empty() {
                errors.required(&source.field("container"), "must specify a container");
            }
            match (percent.is_set(), average.is_set()) {
                (false, false) => {
                    errors.required(&percent, "must set either a target raw value or a target utilization");
                }
                (true, true) => {
                    errors.forbidden(&average, "may not set both a target raw value and a target utilization");
                }
                _ => {}
            }
        }
    }
}

fn metric_name(at: &Node<'_, '_>, errors: &mut Errors) {
    let name = at.field("name");
    if name.text().is_empty() {
        errors.required(&name, "must specify a metric name");
    } else {
        errors.invalid_all(&name, naming::path_segment_name(name.text(), false));
    }
}

fn metric_target(at: &Node<'_, '_>, errors: &mut Errors) {
    let kind = at.field("type");
    if kind.text().is_empty() {
        errors.required(&kind, "must specify a metric target type");
    }
    if !matches!(kind.text(), "Utilization" | "Value" | "AverageValue") {
        errors.invalid_value(&kind, kind.text(), "must be either Utilization, Value, or AverageValue");
    }
    for key in ["value", "averageValue"] {
        let quantity = at.field(key);
        if quantities::parse(&quantity).is_some_and(|q| q.signum() != 1) {
            errors.invalid(&quantity, "must be positive");
        }
    }
    let percent = at.field("averageUtilization");
    if percent.integer().is_some_and(|n| n < 1) {
        errors.invalid(&percent, "must be greater than 0");
    }
}

fn scaling_rules(at: &Node<'_, '_>, errors: &mut Errors) {
    /// An hour, and half an hour.
    const SECONDS: (i64, i64) = (3600, 1800);
    const POSITIVE: &str = "must be greater than zero";
    if at.is_unset() {
        return;
    }
    let window = at.field("stabilizationWindowSeconds");
    if window.number() < 0 {
        errors.invalid(&window, "must be greater than or equal to zero");
    }
    if window.number() > SECONDS.0 {
        errors.invalid(&window, &format!("must be less than or equal to {}", SECONDS.0));
    }
    errors.none_or_one_of(&at.field("selectPolicy"), &["Disabled", "Max", "Min"]);
    let tolerance = at.field("tolerance");
    if quantities::parse(&tolerance).is_some_and(|q| q.signum() < 0) {
        errors.invalid(&tolerance, tree::NOT_NEGATIVE);
    }
    let policies = at.field("policies");
    if policies.is_empty() {
        errors.required(&policies, "must specify at least one Policy");
    }
    for policy in policies.items() {
        errors.one_of(&policy.field("type"), &["Percent", "Pods"]);
        for key in ["value", "periodSeconds"] {
            let number = policy.field(key);
            if number.number() <= 0 {
                errors.invalid_value(&number, number.number(), POSITIVE);
            }
        }
        let period = policy.field("periodSeconds");
        if period.number() > SECONDS.1 {
            errors.invalid(&period, &format!("must be less than or equal to {}", SECONDS.1));
        }
    }
}

fn validate_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    workload::counts(&new.field("status"), &["currentReplicas", "desiredReplicas"], errors);
}

fn target(autoscaler: &Object) -> Value {
    let target = |field: &str| autoscaler.text(&["spec", "scaleTargetRef", field]);
    format!("{}/{}", target("kind"), target("name")).into()
}

/// Current and wanted values of the metrics, of two at most. Those that `autoscaling/v1` keeps in annotations count, too.
fn metrics(autoscaler: &Object) -> Value {
    if autoscaler.api_version() == "autoscaling/v1" {
        let mut latest = autoscaler.clone();
        v1_to_v2(&mut latest);
        return metrics_of_v2(&latest).into();
    }
    metrics_of_v2(autoscaler).into()
}

fn metrics_of_v2(autoscaler: &Object) -> String {
    let current = list(autoscaler, &["status", "currentMetrics"]);
    let specs = list(autoscaler, &["spec", "metrics"]).iter().enumerate();
    let shown: Vec<String> = specs.map(|(at, spec)| metric(spec, current.get(at).unwrap_or(&Value::Null))).collect();
    match shown.get(..2) {
        Some(first) if shown.len() > 2 => format!("{} + {} more...", first.join(", "), shown.len() - 2),
        _ => or(&shown.join(", "), NONE).to_owned(),
    }
}

fn metric(spec: &Value, status: &Value) -> String {
    let (field, named) = match text(spec, "type") {
        "External" => ("external", false),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".to_owned(),
    };
    let target = |name: &str| spec.pointer(&format!("/{field}/target/{name}")).filter(|value| !value.is_null());
    let current = |name: &str| {
        let value = status.pointer(&format!("/{field}/current/{name}")).filter(|value| !value.is_null());
        value.map_or_else(|| "<unknown>".to_owned(), |value| plain(Some(value)))
    };
    let name = if named {
        format!("{}: ", spec.pointer(&format!("/{field}/name")).and_then(Value::as_str).unwrap_or(""))
    } else {
        String::new()
    };
    match target("averageValue") {
        Some(wanted) if named || field == "pods" => {
            format!("{name}{}/{}", current("averageValue"), plain(Some(wanted)))
        }
        Some(wanted) => format!("{}/{} (avg)", current("averageValue"), plain(Some(wanted))),
        None if named => {
            let percent = |text: String| if text.starts_with('<') { text } else { format!("{text}%") };
            let wanted = target("averageUtilization")
                .map_or_else(|| "<auto>".to_owned(), |wanted| format!("{}%", plain(Some(wanted))));
            format!("{name}{}/{wanted}", percent(current("averageUtilization")))
        }
        None => format!("{}/{}", current("value"), plain(target("value"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_names_the_group_and_version_of_its_kind() {
        let cases: [(&str, &str, &[&str]); 5] = [
            ("Deployment", "apps/v1", &[]),
            ("ReplicationController", "v1", &[]),
            ("Deployment", "v1", &["apiVersion: Invalid value: \"v1\": apiVersion must specify API group"]),
            ("Deployment", "", &["apiVersion: Invalid value: \"\": apiVersion must specify API group"]),
            ("Deployment", "a/b/c", &["apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c"]),
        ];
        for (kind, version, want) in cases {
            let target = json!({"kind": kind, "name": "d", "apiVersion": version});
            let mut errors = Errors::default();
            scale_target(&Node::root(target.as_object().expect("an object")), &mut errors);
            assert_eq!(errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(), want, "{kind} {version}");
        }
    }

    #[test]
    fn an_autoscaler_shows_the_same_metrics_in_every_version() {
        const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
        let check = |others: Value, want: &str| {
            let annotations = json!({METRICS: others.to_string()});
            let old = json!({"apiVersion": "autoscaling/v1", "metadata": {"annotations": annotations},
                "spec": {"targetCPUUtilizationPercentage": 50}});
            let old = Object::from_value(old).expect("an object");
            let mut new = old.clone();
            v1_to_v2(&mut new);
            new.set(&["apiVersion"], "autoscaling/v2");
            assert_eq!((metrics(&old), metrics(&new)), (want.into(), want.into()));
        };
        let memory = json!({"type": "Resource", "resource": {"name": "memory", "targetAverageUtilization": 70}});
        let pods = json!({"type": "Pods", "pods": {"metricName": "packets", "targetAverageValue": "20"}});
        check(json!([]), "cpu: <unknown>/50%");
        check(json!([memory]), "memory: <unknown>/70%, cpu: <unknown>/50%");
        check(json!([memory, pods]), "memory: <unknown>/70%, <unknown>/20 + 1 more...");
    }
}
